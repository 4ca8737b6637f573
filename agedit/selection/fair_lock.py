"""A lock that is fair: an edit that waits gets the next turn, however busy the timing loop is."""

import threading
from collections import deque


class FairLock:
    """Reentrant, first come first served; use as a context manager."""

    def __init__(self):
        self._gate, self._line, self._owner, self._depth = threading.Lock(), deque(), None, 0

    def __enter__(self):
        me = threading.get_ident()
        with self._gate:
            if self._owner in (None, me):
                self._owner, self._depth = me, self._depth + 1
                return self
            mine = threading.Lock()
            mine.acquire()
            self._line.append((me, mine))
        mine.acquire()  # until the one before hands over
        return self

    def __exit__(self, *_):
        with self._gate:
            self._depth -= 1
            if self._depth == 0:
                self._owner = None
                if self._line:
                    (self._owner, mine), self._depth = self._line.popleft(), 1
                    mine.release()

    @property
    def waiting(self):
        """How many wait for their turn."""
        return len(self._line)
