"""The named HTTP endpoints: /edit, /tune, /compare and /journey. Each is one call, with no page and no state."""

import contextlib
from pathlib import Path

import gradio as gr

from agedit.compare import compare, with_times
from agedit.journey import journey as every_age
from agedit.journey import strip, write_gif, write_mp4
from agedit.mark import stamp
from agedit.photo import encode_photo
from ui.common import BUDGETS, said
from ui.edit_tab import PhotoInput
from ui.files import Files, sessions
from ui.service import Visit


def build(service):
    """Endpoints for `gradio_client`; call inside gr.Blocks. Nothing of it is visible."""

    def results(request):
        """Where a call's results are written: deleted with its session, or soon after a call without one."""
        files = Files()
        sessions.keep(request.session_hash, files)
        return files

    @contextlib.contextmanager
    def visit_of(photo, face, request):
        """(visit, face numbers) of a call; the photo is forgotten at its end, the upload stays for the next call."""
        if photo is None:
            raise gr.Error("Give a photo: photo=handle_file('me.jpg').", print_exception=False)
        visit = Visit(service(), sessions.claim(request.session_hash, photo.path), photo.name)
        try:
            faces = visit.editor.indices(
                "all" if str(face).strip() == "all" else int(face) if str(face).strip().isdigit() else -1
            )
            with visit.service.lock:
                for k in faces:
                    visit.editor.prepare(k)
            yield visit, list(faces)
        finally:
            visit.delete()

    def budget_of(budget):
        return BUDGETS[2] if budget is None else budget

    @said
    def edit(photo, years, budget, face, mark, request: gr.Request):
        with visit_of(photo, face, request) as (visit, faces):
            years = 20 if years is None else years
            visit.years = dict.fromkeys(faces, years)
            choice = visit.choose(budget_of(budget))
            submodel = choice["submodel"]["r"], choice["submodel"]["c"]
            with visit.service.edits.turn(), visit.service.lock:
                result = visit.editor.edit(visit.years, submodel=submodel)
                reading = visit.editor.read(result, faces[0])
            picture = stamp(result.picture) if mark and result.changes else result.picture
            data = encode_photo(picture, "PNG", synthetic=bool(result.changes))
            return results(request).write(data, "edit.png"), {
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
    def compare_sizes(photo, years, budget, face, request: gr.Request):
        with visit_of(photo, face, request) as (visit, faces):
            steps = compare(visit.editor, 20 if years is None else years, faces[0])
            rows = list(service().one_by_one(visit, steps))
        tuner = service().tuner
        rows = with_times(rows, tuner.times, tuner.engine.weights.order, budget_of(budget))
        return {"submodels": [{k: v for k, v in row.items() if k != "crop"} for row in rows]}

    @said
    def journey(photo, budget, face, request: gr.Request):
        with visit_of(photo, face, request) as (visit, faces):
            choice = visit.service.choose(budget_of(budget))["submodel"]
            steps = every_age(visit.editor, faces[0], (choice["r"], choice["c"]))
            frames = [(years, crop) for _, _, years, crop in service().one_by_one(visit, steps)]
        pictures = [crop for _, crop in frames]
        files = results(request)
        paths = [
            files.write(encode_photo(strip(frames), "PNG", True), "journey.png"),
            files.write(b"", "journey.gif"),
            files.write(b"", "journey.mp4"),
        ]
        write_gif(Path(paths[1]), pictures)
        write_mp4(Path(paths[2]), pictures)
        return paths

    with gr.Row(visible=False):
        photo = PhotoInput(type="filepath", label="photo")
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
                # not the page's lines: nobody's slider waits for a program
                concurrency_id=f"call-{name}" if name != "tune" else "tune",
                concurrency_limit=1,
            )
