"""The named HTTP endpoints: /edit, /tune, /compare and /journey.

Each is one call, with no page and no state.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, ValidationError

from agedit import AgeEditError
from agedit.mark import stamp
from agedit.photo import encode_photo
from agedit.reports.compare import compare, with_times
from agedit.reports.journey import journey as every_age
from agedit.reports.journey import strip, write_gif, write_mp4
from ui.common import BUDGETS, ONE, said, untouched
from ui.service import Service, Visit

DEFAULT_YEARS = 20
LONGEST = 600_000.0  # ms: the largest budget that makes sense

FaceNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}$")]
Milliseconds = Annotated[float, Field(strict=True, gt=0, le=LONGEST, allow_inf_nan=False)]
Years = (
    StrictInt | Annotated[float, Field(strict=True, allow_inf_nan=False)]
)  # their range is the calibration's

# what is said of a value that is not what it should be
WRONG = {
    "photo": "Give a photo: photo=handle_file('me.jpg').",
    "years": "The years must be a number, such as -20 or 20.",
    "budget": "The waiting budget must be a positive number of milliseconds, such as 100.",
    "face": "The face must be all, or the number of a face, 0 being the largest.",
    "mark": "The value of mark must be true or false.",
    "fresh": "The value of fresh must be true or false.",
}


class Asked(BaseModel):
    """What a call asks for; a value that is missing is the default."""

    model_config = ConfigDict(extra="forbid")

    photo: str | None = None
    years: Years = DEFAULT_YEARS
    budget: Milliseconds = float(BUDGETS[2])
    face: Literal["all"] | FaceNumber = "0"
    mark: StrictBool = True
    fresh: StrictBool = False


def asked(**values: Any) -> Asked:
    """The values of a call. Raises AgeEditError with the first that makes no sense."""
    given = {name: value for name, value in values.items() if value is not None}
    if isinstance(given.get("face"), str):
        given["face"] = given["face"].strip()
    try:
        return Asked.model_validate(given)
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


class Endpoints:
    """The calls themselves. service: gives the one Service."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service
        self.block: gr.File | None = None  # whose cache Gradio empties

    def keep(self, data: bytes, name: str) -> str:
        """Path of a file in Gradio's own cache, which it empties: nothing of a visit outlives its call."""
        assert self.block is not None
        path = save_bytes_to_cache(data, name, self.block.GRADIO_CACHE)
        self.block.temp_files.add(path)
        return path

    def visit(self, call: Asked) -> tuple[Visit, list[int]]:
        """A visit of the photo, and the numbers of the faces that were asked for."""
        if call.photo is None:
            raise AgeEditError(WRONG["photo"])
        visit = Visit(self.service(), call.photo)
        faces = list(visit.editor.indices("all" if call.face == "all" else int(call.face)))
        with visit.service.lock:
            for face in faces:
                visit.editor.prepare(face)
        return visit, faces

    def edit(self, photo: Any, years: Any, budget: Any, face: Any, mark: Any) -> tuple[str, dict[str, Any]]:
        call = asked(photo=photo, years=years, budget=budget, face=face, mark=mark)
        visit, faces = self.visit(call)
        visit.years = dict.fromkeys(faces, call.years)
        choice = visit.choose(call.budget)
        submodel = (choice["submodel"]["r"], choice["submodel"]["c"])
        with visit.service.lock:
            result = visit.editor.edit(visit.years, submodel=submodel)
            reading = visit.editor.read(result, faces[0])
        picture = stamp(result.picture) if call.mark and result.changes else result.picture
        path = self.keep(encode_photo(picture, "PNG", synthetic=bool(result.changes)), "edit.png")
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
        call = asked(budget=budget, fresh=fresh)
        return finite(self.service().tune(call.budget, call.fresh))

    def compare(self, photo: Any, years: Any, budget: Any, face: Any) -> dict[str, Any]:
        call = asked(photo=photo, years=years, budget=budget, face=face)
        visit, faces = self.visit(call)
        with visit.service.lock:
            rows = list(compare(visit.editor, call.years, faces[0]))
        tuner = self.service().tuner
        rows = with_times(rows, tuner.times, tuner.engine.weights.order, call.budget)
        return finite({"submodels": [{k: v for k, v in row.items() if k != "crop"} for row in rows]})

    def journey(self, photo: Any, budget: Any, face: Any) -> list[str]:
        call = asked(photo=photo, budget=budget, face=face)
        visit, faces = self.visit(call)
        choice = visit.service.choose(call.budget)["submodel"]
        with visit.service.lock:
            steps = every_age(visit.editor, faces[0], (choice["r"], choice["c"]))
            frames = [(years, crop) for _, _, years, crop in steps]
        pictures = [crop for _, crop in frames]
        with tempfile.TemporaryDirectory() as folder:
            gif = Path(folder) / "journey.gif"
            mp4 = Path(folder) / "journey.mp4"
            write_gif(gif, pictures)
            write_mp4(mp4, pictures)
            return [
                self.keep(encode_photo(strip(frames), "PNG", True), "journey.png"),
                self.keep(gif.read_bytes(), gif.name),
                self.keep(mp4.read_bytes(), mp4.name),
            ]


def build(service: Callable[[], Service]) -> None:
    """Endpoints for `gradio_client`; call inside gr.Blocks. Nothing of it is visible."""
    calls = Endpoints(service)
    with gr.Row(visible=False):
        photo = gr.Image(type="filepath", label="photo")
        photo.preprocess = untouched()
        years = gr.Number(DEFAULT_YEARS, label="years")
        budget = gr.Number(BUDGETS[2], label="budget")
        face = gr.Textbox("0", label="face")
        mark = gr.Checkbox(True, label="mark")
        fresh = gr.Checkbox(False, label="fresh")
        shown = gr.File(label="picture")
        data = gr.JSON(label="data")
        files = [gr.File(label=name) for name in ("strip", "gif", "mp4")]
        calls.block = shown
        retime = {"concurrency_id": "tune", "concurrency_limit": 1}
        for name, run, inputs, outputs, queue in (
            ("edit", calls.edit, [photo, years, budget, face, mark], [shown, data], ONE),
            ("tune", calls.tune, [budget, fresh], data, retime),
            ("compare", calls.compare, [photo, years, budget, face], data, ONE),
            ("journey", calls.journey, [photo, budget, face], files, ONE),
        ):
            gr.Button(name).click(said(run), inputs, outputs, api_name=name, **queue)
