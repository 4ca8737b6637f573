"""Things that keep state between calls, shared by threads: each serves one of them at a time."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Pool(Generic[Item]):
    """At most so many of a thing, each made when it is first needed.

    Args:
        make: one of them; called by one thread at a time.
        most: how many threads may have one at the same time; others wait.
    """

    def __init__(self, make: Callable[[], Item], most: int = 1) -> None:
        self._make = make
        self._places = threading.BoundedSemaphore(most)
        self._free: list[Item] = []
        self._gate = threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[Item]:
        """While entered, one of them is the caller's alone."""
        with self._places:
            with self._gate:
                item = self._free.pop() if self._free else self._make()
            try:
                yield item
            finally:
                with self._gate:
                    self._free.append(item)
