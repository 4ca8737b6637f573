"""The named HTTP endpoints: /edit, /tune, /compare and /journey. Each is one call, with no page and no state."""

import tempfile
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from agedit.mark import stamp
from agedit.photo import encode_photo
from agedit.reports.compare import compare, with_times
from agedit.reports.journey import journey as every_age
from agedit.reports.journey import strip, write_gif, write_mp4
from ui.common import BUDGETS, ONE, said, untouched
from ui.service import Visit


def build(service):
    """Endpoints for `gradio_client`; call inside gr.Blocks. Nothing of it is visible."""

    def keep(block, data, name):
        """Into Gradio's own cache, which it empties: nothing of a visit outlives its call."""
        path = save_bytes_to_cache(data, name, block.GRADIO_CACHE)
        block.temp_files.add(path)
        return path

    def visit_of(photo, face):
        if photo is None:
            raise gr.Error("Give a photo: photo=handle_file('me.jpg').", print_exception=False)
        visit = Visit(service(), photo)
        faces = visit.editor.indices(
            "all" if str(face).strip() == "all" else int(face) if str(face).strip().isdigit() else -1
        )
        with visit.service.lock:
            for k in faces:
                visit.editor.prepare(k)
        return visit, list(faces)

    def budget_of(budget):
        return BUDGETS[2] if budget is None else budget

    @said
    def edit(photo, years, budget, face, mark):
        visit, faces = visit_of(photo, face)
        years = 20 if years is None else years
        visit.years = dict.fromkeys(faces, years)
        choice = visit.choose(budget_of(budget))
        submodel = choice["submodel"]["r"], choice["submodel"]["c"]
        with visit.service.lock:
            result = visit.editor.edit(visit.years, submodel=submodel)
            reading = visit.editor.read(result, faces[0])
        picture = stamp(result.picture) if mark and result.changes else result.picture
        data = encode_photo(picture, "PNG", synthetic=bool(result.changes))
        return keep(shown, data, "edit.png"), {
            "faces": len(visit.editor.faces),
            "submodel": choice["submodel"],
            "fits": choice["fits"],
            "years": years,
            **reading,
            "ms": {k: round(v, 2) for k, v in result.ms.items()},
        }

    @said
    def tune(budget, fresh):
        return service().tune(budget_of(budget), bool(fresh))

    @said
    def compare_sizes(photo, years, budget, face):
        visit, faces = visit_of(photo, face)
        with visit.service.lock:
            rows = list(compare(visit.editor, 20 if years is None else years, faces[0]))
        tuner = service().tuner
        rows = with_times(rows, tuner.times, tuner.engine.weights.order, budget_of(budget))
        return {"submodels": [{k: v for k, v in row.items() if k != "crop"} for row in rows]}

    @said
    def journey(photo, budget, face):
        visit, faces = visit_of(photo, face)
        choice = visit.service.choose(budget_of(budget))["submodel"]
        with visit.service.lock:
            frames = [
                (years, crop)
                for _, _, years, crop in every_age(visit.editor, faces[0], (choice["r"], choice["c"]))
            ]
        pictures = [crop for _, crop in frames]
        with tempfile.TemporaryDirectory() as folder:
            gif, mp4 = Path(folder) / "journey.gif", Path(folder) / "journey.mp4"
            write_gif(gif, pictures)
            write_mp4(mp4, pictures)
            return [
                keep(files[0], encode_photo(strip(frames), "PNG", True), "journey.png"),
                keep(files[1], gif.read_bytes(), gif.name),
                keep(files[2], mp4.read_bytes(), mp4.name),
            ]

    with gr.Row(visible=False):
        photo = gr.Image(type="filepath", label="photo")
        photo.preprocess = untouched()
        years, budget = gr.Number(20, label="years"), gr.Number(BUDGETS[2], label="budget")
        face, mark, fresh = (
            gr.Textbox("0", label="face"),
            gr.Checkbox(True, label="mark"),
            gr.Checkbox(False, label="fresh"),
        )
        shown, data, files = (
            gr.File(label="picture"),
            gr.JSON(label="data"),
            [gr.File(label=k) for k in ("strip", "gif", "mp4")],
        )
        for name, run, inputs, outputs in (
            ("edit", edit, [photo, years, budget, face, mark], [shown, data]),
            ("tune", tune, [budget, fresh], data),
            ("compare", compare_sizes, [photo, years, budget, face], data),
            ("journey", journey, [photo, budget, face], files),
        ):
            gr.Button(name).click(
                run,
                inputs,
                outputs,
                api_name=name,
                **(ONE if name != "tune" else {"concurrency_id": "tune", "concurrency_limit": 1}),
            )
