"""How many decoded photos are in memory at once."""

import threading
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Protocol

from agedit import AgeEditError
from agedit.photo import Photo


class Holder(Protocol):
    """What holds a decoded photo, as a `Visit` does."""

    closed: bool
    using: int
    """Handlers that work on it at this moment."""
    reserved: int
    """Pixels of a photo that is being opened."""

    @property
    def pixels(self) -> int:
        """How many are in memory."""
        ...

    def put_aside(self) -> None:
        """Forget what can be read again."""
        ...

    def check(self) -> None:
        """Raises Forgotten after the end."""
        ...

    def using_it(self) -> AbstractContextManager[None]:
        """While somebody works on the photo it is not put aside."""
        ...


def pixels_of(photo: Photo) -> int:
    """How many RGB pixels a photo in memory is worth: one with transparency is held twice."""
    copies = 1 if photo.alpha is None else 2
    return photo.rgb.shape[0] * photo.rgb.shape[1] * copies


class Held:
    """Which visits hold a decoded photo; all of them together hold no more pixels than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._gate = threading.Lock()
        self._visits: OrderedDict[int, Holder] = OrderedDict()  # by id, the longest unused first

    def __len__(self) -> int:
        return len(self._visits)

    def touch(self, visit: Holder) -> None:
        """It was used just now."""
        with self._gate:
            if not visit.closed:
                self._visits[id(visit)] = visit
                self._visits.move_to_end(id(visit))

    def remove(self, visit: Holder) -> None:
        """It holds nothing any more."""
        with self._gate:
            self._visits.pop(id(visit), None)

    def make_room(self, newcomer: Holder, pixels: int) -> None:
        """Put the photos aside that nobody used for longest until `pixels` more fit.

        Raises AgeEditError where all that is held is being worked on.
        """
        with self._gate:
            newcomer.reserved = pixels
            self._visits[id(newcomer)] = newcomer
            self._visits.move_to_end(id(newcomer))
            total = sum(visit.pixels for visit in self._visits.values())
            for key, visit in list(self._visits.items()):
                if total <= self.limit:
                    break
                if visit is newcomer or visit.using:
                    continue
                total -= visit.pixels
                visit.put_aside()
                del self._visits[key]
        if total > self.limit and total > pixels:
            raise AgeEditError("Too many photos are being worked on; try again in a minute.")
