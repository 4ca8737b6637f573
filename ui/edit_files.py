"""What a visitor saves: the edit at full resolution, and the age journey as strip and film."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt

from agedit import AgeEditError
from agedit.photo import encode_photo
from agedit.reports.journey import journey, strip, write_gif, write_mp4
from agedit.selection.tuner import candidate_of
from ui.board import told
from ui.edit_picture import usable
from ui.errors import message, said
from ui.files import Forgotten
from ui.photos import Saved, ages_name
from ui.service import Service
from ui.visit import Format, Visit
from ui.waiting import until_served
from ui.words import plainly, say

WRITERS: tuple[tuple[str, Callable[..., None]], ...] = ((".gif", write_gif), (".mp4", write_mp4))
"""How a film is written, by its file's ending."""

Frame = tuple[float, npt.NDArray[np.uint8]]
"""(years, RGB (size, size, 3))."""


class Downloads:
    """The buttons that save the picture: its file is made on click."""

    @said
    def png(self, visit: Visit | None, budget: float, mark: bool, request: gr.Request) -> Any:
        """What the page saves then (see `outbox`)."""
        return self._made(visit, budget, mark, "PNG", request)

    @said
    def jpeg(self, visit: Visit | None, budget: float, mark: bool, request: gr.Request) -> Any:
        """What the page saves then (see `outbox`)."""
        return self._made(visit, budget, mark, "JPEG", request)

    def _made(
        self, visit: Visit | None, budget: float, mark: bool, format: Format, request: gr.Request
    ) -> Any:
        if not usable(visit):
            raise AgeEditError(say(request, "choose_first"))
        try:
            saved = visit.download(budget, mark, format)
        except Forgotten:
            return gr.skip()
        return told({"path": saved.path, "name": saved.name})


class Journeys:
    """One face through all ages."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def cancelled(self) -> Any:
        """(cancel, told) after the visitor cancelled."""
        return gr.update(interactive=False), ""

    def travel(
        self, visit: Visit | None, budget: float, who: float | None, request: gr.Request
    ) -> Iterator[Any]:
        """Yields (film, strip, gif, mp4, cancel, told). Another photo, or the end of the visit, ends it."""
        over = [*[gr.skip()] * 4, gr.update(interactive=False), ""]
        if not usable(visit):
            raise gr.Error(say(request, "choose_first"), print_exception=False)
        try:
            yield from self._drawn(visit, budget, who, request)
        except Forgotten:
            yield over
        except AgeEditError as error:
            yield over
            raise message(error) from None

    def _drawn(self, visit: Visit, budget: float, who: float | None, request: gr.Request) -> Iterator[Any]:
        waiting = [gr.update(interactive=False)] * 3
        going_on = [gr.skip(), *waiting, gr.update(interactive=True)]
        frames: list[Frame] = []
        with self.service().journeys.place() as place:
            for text in until_served(place, request):
                yield [*going_on, text]
            for done, total, years, crop in self._steps(visit, budget, who):
                frames.append((years, crop))
                # a function that yields can be cancelled where it does
                yield [*going_on, say(request, "drawing", done=done, all=total)]
            strip_path = visit.write(encode_photo(strip(frames), "PNG", True), "journey.png")
            films = [self._film(visit, frames, ending, write, request) for ending, write in WRITERS]
        files = [Saved(strip_path, ages_name(visit.name, ".png")), *films]
        saves = [gr.update(value=file, interactive=file is not None) for file in files]
        yield [gr.update(value=strip_path, visible=True), *saves, gr.update(interactive=False), ""]

    def _steps(self, visit: Visit, budget: float, who: float | None) -> Iterator[Any]:
        """(done, all, years, crop) of each step."""
        submodel = candidate_of(visit.service.choose(budget))
        steps = journey(visit.editor, visit.faces(who)[0], submodel)
        return visit.service.one_by_one(visit, steps)

    def _film(
        self,
        visit: Visit,
        frames: list[Frame],
        ending: str,
        write: Callable[..., None],
        request: gr.Request,
    ) -> Saved | None:
        """The film to save; None, and a warning, for a format that cannot be written here."""
        visit.check()
        path = visit.write(b"", f"journey{ending}")
        try:
            write(path, [crop for _, crop in frames])
        except AgeEditError as error:
            visit.check()
            gr.Warning(plainly(request, str(error)))
            return None
        return Saved(path, ages_name(visit.name, ending))
