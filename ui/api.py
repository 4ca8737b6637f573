"""The named HTTP endpoints: /edit, /tune, /compare and /journey.

Each is one call, with no page and no state.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, ValidationError

from agedit import AgeEditError
from agedit.photo import encode_like, encode_photo
from agedit.reports.compare import compare, with_times
from agedit.reports.journey import journey as every_age
from agedit.reports.journey import strip, write_gif, write_mp4
from agedit.selection.tuner import candidate_of
from ui.components import PhotoInput
from ui.errors import for_visitors, said
from ui.events import TUNE, Components
from ui.files import Files
from ui.photos import Upload
from ui.service import Service
from ui.sessions import sessions
from ui.settings import DEFAULT_BUDGET
from ui.visit import Visit

DEFAULT_YEARS = 20
LONGEST = 600_000.0
"""Milliseconds: the largest budget that makes sense."""

FaceNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")]
Milliseconds = Annotated[float, Field(strict=True, gt=0, le=LONGEST, allow_inf_nan=False)]
Years = StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""Their range is the calibration's."""

# what is said of a value that is not what it should be
WRONG = {
    "photo": "Give a photo: photo=handle_file('me.jpg').",
    "years": "The years must be a number, such as -20 or 20.",
    "budget": "The waiting budget must be a positive number of milliseconds, such as 100.",
    "face": "The face must be all, or the number of a face, 0 being the largest.",
    "mark": "The value of mark must be true or false.",
    "fresh": "The value of fresh must be true or false.",
}


class CallValues(BaseModel):
    """The values of a call, checked; a value that is missing is the default."""

    model_config = ConfigDict(extra="forbid")

    photo: Upload | None = None
    years: Years = DEFAULT_YEARS
    budget: Milliseconds = float(DEFAULT_BUDGET)
    face: Literal["all"] | FaceNumber = "0"
    mark: StrictBool = True
    fresh: StrictBool = False


def checked(**values: Any) -> CallValues:
    """The values of a call. Raises AgeEditError with the first that makes no sense."""
    given = {name: value for name, value in values.items() if value is not None}
    if isinstance(given.get("face"), str):
        given["face"] = given["face"].strip()
    try:
        return CallValues.model_validate(given)
    except ValidationError as error:
        raise AgeEditError(WRONG[str(error.errors(include_url=False)[0]["loc"][0])]) from None


def finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have: None stands for them."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def claim(photo: Any, request: gr.Request) -> None:
    """First of all: whatever else is wrong with a call, its upload is deleted with its session."""
    if isinstance(photo, Upload):
        sessions.claim(request.session_hash or "", photo.path)


class Endpoints:
    """The calls themselves. service: gives the one Service."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    def results(self, request: gr.Request) -> Files:
        """Where a call's results are written: deleted with its session, or soon after a call without one."""
        files = Files()
        sessions.keep(request.session_hash or "", files)
        return files

    @contextlib.contextmanager
    def visit(self, call: CallValues, request: gr.Request) -> Iterator[tuple[Visit, list[int]]]:
        """A visit of the photo, forgotten at the end, and the numbers of the faces that were asked for."""
        if call.photo is None:
            raise AgeEditError(WRONG["photo"])
        path = sessions.claim(request.session_hash or "", call.photo.path)
        visit = Visit(self.service(), path, call.photo.name)
        try:
            faces = list(visit.editor.indices("all" if call.face == "all" else int(call.face)))
            with visit.service.lock:
                for face in faces:
                    visit.editor.prepare(face)
            yield visit, faces
        finally:
            visit.delete()

    def edit(
        self, photo: Any, years: Any, budget: Any, face: Any, mark: Any, request: gr.Request
    ) -> tuple[str, dict[str, Any]]:
        """/edit: (path of a PNG at the photo's own resolution, what was measured)."""
        claim(photo, request)
        call = checked(photo=photo, years=years, budget=budget, face=face, mark=mark)
        with self.visit(call, request) as (visit, faces):
            visit.years = dict.fromkeys(faces, call.years)
            choice = visit.service.choose_for_program(call.budget / len(faces))
            submodel = candidate_of(choice)
            with visit.service.edits.turn(), visit.service.lock:
                result = visit.editor.edit(visit.years, submodel=submodel)
                reading = visit.editor.read(result, faces[0])
            data = encode_like(
                visit.photo, result.picture, "PNG", bool(result.changes), call.mark and bool(result.changes)
            )
            path = self.results(request).write(data, "edit.png")
            told = {
                "faces": len(visit.editor.faces),
                "submodel": choice["submodel"],
                "fits": choice["fits"],
                "years": call.years,
                **reading,
                "ms": {stage: round(ms, 2) for stage, ms in result.ms.items()},
            }
            return path, finite(told)

    def tune(self, budget: Any, fresh: Any) -> dict[str, Any]:
        """/tune: the choice for a budget, as `agedit tune` prints it, but for where this machine keeps it."""
        call = checked(budget=budget, fresh=fresh)
        choice = self.service().tune(call.budget, call.fresh)
        told = {key: value for key, value in choice.items() if key != "profile"}
        told["notes"] = [for_visitors(note) for note in choice["notes"]]
        return finite(told)

    def compare(self, photo: Any, years: Any, budget: Any, face: Any, request: gr.Request) -> dict[str, Any]:
        """/compare: {"submodels": the Compare tab's rows}."""
        claim(photo, request)
        call = checked(photo=photo, years=years, budget=budget, face=face)
        with self.visit(call, request) as (visit, faces):
            steps = compare(visit.editor, call.years, faces[0])
            rows = list(self.service().one_by_one(visit, steps))
        tuner = self.service().tuner
        rows = with_times(rows, tuner.times, tuner.engine.weights.order, call.budget)
        return finite({"submodels": [{k: v for k, v in row.items() if k != "crop"} for row in rows]})

    def journey(self, photo: Any, budget: Any, face: Any, request: gr.Request) -> list[str]:
        """/journey: paths of the strip, the GIF and the MP4."""
        claim(photo, request)
        call = checked(photo=photo, budget=budget, face=face)
        with self.visit(call, request) as (visit, faces):
            submodel = candidate_of(visit.service.choose_for_program(call.budget))
            steps = every_age(visit.editor, faces[0], submodel)
            frames = [(years, crop) for _, _, years, crop in self.service().one_by_one(visit, steps)]
        pictures = [crop for _, crop in frames]
        files = self.results(request)
        paths = [files.write(encode_photo(strip(frames), "PNG", True), "journey.png")]
        for name, write in (("journey.gif", write_gif), ("journey.mp4", write_mp4)):
            path = files.write(b"", name)
            write(path, pictures)
            paths.append(path)
        return paths


def build(service: Callable[[], Service]) -> None:
    """Endpoints for `gradio_client`; call inside gr.Blocks. Nothing of it is visible."""
    calls = Endpoints(service)
    with gr.Row(visible=False):
        photo = PhotoInput(type="filepath", label="photo")
        years = gr.Number(DEFAULT_YEARS, label="years")
        budget = gr.Number(DEFAULT_BUDGET, label="budget")
        face = gr.Textbox("0", label="face")
        mark = gr.Checkbox(True, label="mark")
        fresh = gr.Checkbox(False, label="fresh")
        shown = gr.File(label="picture")
        data = gr.JSON(label="data")
        files = [gr.File(label=name) for name in ("strip", "gif", "mp4")]
        _endpoint("edit", calls.edit, [photo, years, budget, face, mark], [shown, data], "call-edit")
        _endpoint("tune", calls.tune, [budget, fresh], data, TUNE.name)
        _endpoint("compare", calls.compare, [photo, years, budget, face], data, "call-compare")
        _endpoint("journey", calls.journey, [photo, budget, face], files, "call-journey")


def _endpoint(
    name: str, call: Callable[..., Any], inputs: Components, outputs: Components, queue: str
) -> None:
    """queue: of their own, so that nobody's slider waits for a program."""
    gr.Button(name).click(
        said(call), inputs, outputs, api_name=name, concurrency_id=queue, concurrency_limit=1
    )
