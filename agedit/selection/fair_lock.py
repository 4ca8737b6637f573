"""A lock that is fair: an edit that waits gets the next turn, however busy the timing loop is."""

import threading
from collections import deque
from typing import NamedTuple


class _Waiter(NamedTuple):
    """A thread in line: its identifier, and a lock that is released when its turn comes."""

    thread: int
    turn: threading.Lock


class FairLock:
    """Reentrant, first come first served; use as a context manager."""

    def __init__(self) -> None:
        self._state = threading.Lock()
        self._line: deque[_Waiter] = deque()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> "FairLock":
        thread = threading.get_ident()
        with self._state:
            if self._owner in (None, thread):
                self._owner = thread
                self._depth += 1
                return self
            waiter = _Waiter(thread, threading.Lock())
            waiter.turn.acquire()
            self._line.append(waiter)
        waiter.turn.acquire()  # until the owner before hands over
        return self

    def __exit__(self, *_error: object) -> None:
        with self._state:
            self._depth -= 1
            if self._depth > 0:
                return
            self._owner = None
            if self._line:
                self._hand_over(self._line.popleft())

    def _hand_over(self, waiter: _Waiter) -> None:
        self._owner = waiter.thread
        self._depth = 1
        waiter.turn.release()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._line)
