"""When the device may be timed: while a page is open, and nobody moves a slider."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

AT_REST = 1.5
"""Seconds after which somebody who moved a slider is thought to look at the picture."""

LOOKS_EVERY = 0.5
"""Seconds."""


def _always() -> bool:
    return True


class Quiet:
    """Timing in the background waits here before each of its runs.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.anybody: Callable[[], bool] = _always
        """Whether a page is open."""
        self._clock = clock
        self._touched = -AT_REST
        self._ignored = 0
        self._changed = threading.Condition()

    def touch(self) -> None:
        """Somebody moves a slider, or waits for a picture."""
        self._touched = self._clock()

    @property
    def is_now(self) -> bool:
        """Whether a run disturbs nobody, and somebody may have use for it."""
        if self._ignored:
            return True
        return self.anybody() and self._clock() - self._touched >= AT_REST

    def wait(self) -> None:
        """Return when it is quiet, or when somebody waits for the timing itself."""
        with self._changed:
            while not self.is_now:
                self._changed.wait(LOOKS_EVERY)

    @contextlib.contextmanager
    def ignored(self) -> Iterator[None]:
        """Somebody asked for the timing: it goes on whatever happens."""
        with self._changed:
            self._ignored += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._ignored -= 1
