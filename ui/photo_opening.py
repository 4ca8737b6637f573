"""A visitor's photo comes in: claimed, read, its faces found, and shown with a first edit."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import gradio as gr

from agedit import AgeEditError
from ui.board import is_small, nothing
from ui.edit_picture import PictureHandlers
from ui.errors import message
from ui.files import Forgotten
from ui.photos import Upload
from ui.portraits import PORTRAITS, credits, is_portrait
from ui.service import Service
from ui.sessions import sessions
from ui.visit import EVERYONE, Asked, Visit
from ui.waiting import until_served
from ui.words import say

FIRST = 2
"""Number of the portrait that an opened page shows."""


@dataclass
class Opened:
    """What a photo changes on the page, in the order of the event's outputs; what is not given stays."""

    visit: Any = field(default_factory=gr.skip)
    board: Any = field(default_factory=gr.skip)
    line: Any = field(default_factory=gr.skip)
    years: Any = field(default_factory=gr.skip)
    who: Any = field(default_factory=gr.skip)
    view: Any = field(default_factory=gr.skip)
    film: Any = field(default_factory=gr.skip)
    strip: Any = field(default_factory=gr.skip)
    gif: Any = field(default_factory=gr.skip)
    mp4: Any = field(default_factory=gr.skip)

    def row(self) -> list[Any]:
        """For Gradio."""
        return [getattr(self, each.name) for each in fields(self)]

    def without_files(self) -> "Opened":
        """The same, and what could be saved of the photo before is gone."""
        self.film = gr.update(value=None, visible=False)
        self.strip = gr.update(value=None, interactive=False)
        self.gif = gr.update(value=None, interactive=False)
        self.mp4 = gr.update(value=None, interactive=False)
        return self


def _no_photo() -> Opened:
    opened = Opened(
        visit=None,
        board=nothing(),
        line="",
        years=gr.update(info=""),
        who=gr.update(choices=[], value=None, visible=False),
        view="photo",
    )
    return opened.without_files()


def _people(visit: Visit, asked: Asked, request: gr.Request) -> Any:
    """The choice of faces, where there are several."""
    count = len(visit.editor.faces)
    if count == 1:
        return gr.update(choices=[], value=None, visible=False)
    people = [(say(request, "face", number=k + 1), k) for k in range(count)]
    chosen = EVERYONE if asked.who is None else asked.who
    return gr.update(choices=[(say(request, "everyone"), EVERYONE), *people], value=chosen, visible=True)


def portrait(number: int) -> Upload:
    """One of the gallery."""
    name = credits()[number]["file"]
    return Upload(str(PORTRAITS / name), name)


class PhotoOpening:
    """What follows when a visitor chooses a photo."""

    def __init__(self, service: Callable[[], Service], picture: PictureHandlers) -> None:
        self.service = service
        self.picture = picture

    def claim(self, upload: Upload | None, request: gr.Request) -> None:
        """At once, however long the line is: an upload that nobody asks for is deleted soon."""
        if upload is not None and request.session_hash:
            with contextlib.suppress(AgeEditError):
                sessions.claim(request.session_hash, upload.path)

    def pick(
        self,
        years: float,
        budget: float,
        view: str,
        strict: bool,
        request: gr.Request,
        event: gr.SelectData,
    ) -> Iterator[Any]:
        """A face of the gallery; yields what `open_photo` does."""
        yield from self.open_photo(portrait(event.index), years, budget, view, strict, request)

    def start(
        self, token: str | None, years: float, budget: float, view: str, strict: bool, request: gr.Request
    ) -> Iterator[Any]:
        """A page was opened: the visit that it showed before it was loaded again, else an example.

        Args:
            token: of that visit. Yields what `open_photo` does.
        """
        session = request.session_hash or ""
        if sessions.has_chosen(session):  # the visitor was quicker
            yield Opened().row()
            return
        visit = sessions.take_over(session, token or "")
        if isinstance(visit, Visit) and visit.done is not None:
            own = visit.done
            rows = self._first_edit(visit, own, request)
            yield from rows
            return
        yield from self.open_photo(portrait(FIRST), years, budget, view, strict, request)

    def open_photo(
        self,
        upload: Upload | None,
        years: float,
        budget: float,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Iterator[Any]:
        """Yields rows of `Opened`."""
        session = request.session_hash or ""
        try:
            number = sessions.chooses(session)
            if upload is None:
                yield _no_photo().row()
                return
            # what is shown of the photo before stays until the new one's edit is there, its files do not
            yield Opened(visit=None).without_files().row()
            path = upload.path
            if not is_portrait(path):
                path = str(sessions.claim(session, path))
            visit = yield from self._read(path, upload.name, request)
            if not sessions.shows(session, visit, number):
                return
            view = "face" if is_small(visit.editor.faces[0], visit.photo.rgb.shape) else "photo"
            yield from self._first_edit(visit, Asked(years, budget, None, view, strict), request)
        except Forgotten:  # nobody is there, or another photo was chosen
            yield Opened().row()
        except AgeEditError as error:
            sessions.drop(upload.path if upload else "")
            yield _no_photo().row()
            raise message(error) from None

    def _read(self, path: str, name: str, request: gr.Request) -> Generator[Any, None, Visit]:
        """The visit of a photo; yields what `open_photo` does while others' photos are read first."""
        service = self.service()
        visit = Visit(service, path, name, opened=False)
        try:
            with service.decoding.place() as place:
                for text in until_served(place, request):
                    yield Opened(line=text).row()
                photo = visit.read()
            visit.find_faces(photo)
        except BaseException:  # also when the page was closed and this is not asked to go on
            visit.delete()
            raise
        return visit

    def _first_edit(self, visit: Visit, asked: Asked, request: gr.Request) -> Iterator[Any]:
        with visit.service.edits.place() as place:
            for text in until_served(place, request):
                yield Opened(line=text).row()
            if visit.done != asked:
                visit.ask(asked.years, asked.who)
            visit.drawing = ""  # a page that was loaded again has no key pictures
            board, line, years = self.picture.show(visit, asked, asked.budget, request)
            visit.done = asked
        opened = Opened(
            visit=visit,
            board=board,
            line=line,
            years=years | {"value": visit.years.get(visit.faces(asked.who)[0], asked.years)},
            who=_people(visit, asked, request),
            view=asked.view,
        )
        yield opened.without_files().row()
