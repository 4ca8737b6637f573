"""A visitor's decoded photo: read when it is needed, put aside when it is not, gone after the visit."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from agedit import AgeEditor
from agedit.photo import Photo
from ui.files import Files, Forgotten
from ui.held import pixels_of
from ui.photos import decode
from ui.service import Service

FACE_PIXELS = 13_000_000
"""Pixels that one prepared face, 40 MB at 512 px, counts as."""


class VisitorPhoto:
    """A photo, its editor, and the files of the visit.

    The decoded photo may be put aside while the visitor does nothing; it is read again when it is needed.

    Args:
        path: of the upload.
        name: as the visitor calls the file; "" where nobody said.
    """

    def __init__(self, service: Service, path: str | Path, name: str = "") -> None:
        self.service = service
        self.path = str(path)
        self.name = name
        self.files = Files()
        self.closed = False
        self.using = 0  # handlers that work on it at this moment
        self.reserved = 0  # pixels of a photo that is being opened
        self._editor: AgeEditor | None = None
        self._photo: Photo | None = None
        self._counting = threading.Lock()
        self._opening = threading.Lock()

    @property
    def editor(self) -> AgeEditor:
        """The photo's editor. Raises Forgotten after the end."""
        editor = self._editor
        if editor is None:
            editor = self.open()
        self.service.held.touch(self)
        return editor

    @property
    def pixels(self) -> int:
        """How many are in memory: the photo's, and as many as its prepared faces are worth."""
        editor = self._editor
        photo = self._photo
        if editor is None or photo is None:
            return self.reserved
        return pixels_of(photo) + FACE_PIXELS * len(editor._prepared)

    @property
    def photo(self) -> Photo:
        """As it was read. Raises Forgotten after the end."""
        photo = self._photo
        if photo is None:
            self.open()
            return self.photo
        return photo

    def open(self) -> AgeEditor:
        """Read the photo in its turn, unless it is there. Raises AgeEditError for one that cannot be used."""
        with self._opening:
            if self._editor is not None:
                return self._editor
            with self.service.decoding.turn():
                photo = self.read()
            return self.find_faces(photo)

    def read(self) -> Photo:
        """The photo. Outside the engine's lock, but in the turn of `Service.decoding`: it takes memory."""
        self.check()
        photo = decode(self.path, self.name)
        self.service.held.make_room(self, pixels_of(photo) + FACE_PIXELS)
        if self.closed:  # meanwhile
            self.delete()
        self.check()
        return photo

    def find_faces(self, photo: Photo) -> AgeEditor:
        """Make the editor of a photo that was read."""
        editor = AgeEditor(self.service.engine)
        with self.service.lock:
            self.check()
            editor.set_photo(photo.rgb)
        self._photo = photo
        self._editor = editor
        self.reserved = 0
        if self.closed:  # meanwhile
            self.delete()
        self.check()
        self.service.held.touch(self)
        return editor

    def check(self) -> None:
        """Raises Forgotten after the end: whatever computes for a closed page stops here."""
        if self.closed:
            raise Forgotten

    @contextlib.contextmanager
    def using_it(self) -> Iterator[None]:
        """While somebody works on the photo it is not put aside."""
        with self._counting:
            self.using += 1
        try:
            yield
        finally:
            with self._counting:
                self.using -= 1

    def put_aside(self) -> None:
        """Forget what can be read or made again: nothing that the visitor did is lost."""
        self._editor = None
        self._photo = None
        self.reserved = 0

    def delete(self) -> None:
        """The end: no picture and no file of it stays, and none comes back."""
        self.closed = True
        self.put_aside()
        self.service.held.remove(self)
        self.files.delete()
