"""People in line for one thing, who may know how many are before them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """First come, first served; one at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Place] = []

    def __len__(self) -> int:
        """How many are in line, the one being served among them."""
        return len(self._waiting)

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """The end of the line; left at the end of the block, served or not."""
        place = Place(self)
        with self._changed:
            self._waiting.append(place)
        try:
            yield place
        finally:
            with self._changed:
                self._waiting.remove(place)
                self._changed.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait in line, then hold the turn for the block."""
        with self.place() as place:
            place.wait()
            yield


class Place:
    """Somebody's place in a `Line`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def ahead(self) -> int:
        """How many are before this place, the one being served among them."""
        with self._line._changed:
            return self._line._waiting.index(self)

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is this place's turn, after `seconds` at most; None waits until it is."""
        with self._line._changed:
            return self._line._changed.wait_for(lambda: self._line._waiting[0] is self, seconds)
