"""The third tab: S4 as it happened on this device."""

import io

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from agedit import AgeEditError
from agedit.selection.profiles import exported, import_profile, load, power_state
from ui.common import QUIET, budget_slider, said
from ui.plain_text import in_markdown
from ui.plots import runs
from ui.words import plainly, say, t


def build(service):
    """Lay out the tab inside a gr.Tab. Returns {"arrive": what to do when it opens}."""
    about = gr.Markdown("", elem_id="device-line")
    with gr.Row():
        budget = budget_slider("tune-budget", scale=3, min_width=300)
        again = gr.Button(t("tune"), variant="primary", elem_id="tune", scale=2, min_width=220)
    table = gr.Dataframe(
        label=t("tried"),
        interactive=False,
        elem_id="tried",
        buttons=[],
        wrap=True,
        datatype="str",
        column_widths=[110, 100, 90, 90, 130, 70, 380],
    )
    plot = gr.Image(
        label=t("spread"), interactive=False, elem_id="runs", buttons=["download", "fullscreen"], format="png"
    )
    with gr.Row():
        export = gr.DownloadButton(t("export"), size="sm", interactive=False, elem_id="export")
        load_button = gr.UploadButton(
            t("import"), size="sm", file_types=[".json"], elem_id="import", type="filepath"
        )

    def fill(budget, request):
        tuner = service().tuner
        device = tuner.device
        line = say(
            request,
            "device_line",
            processor=in_markdown(device["processor"]),
            cores=device["cores"],
            threads=tuner.engine.threads,
            runtime=in_markdown(device["runtime"]),
            power=say(request, f"power_{power_state()}"),
            note=in_markdown(" ".join(plainly(request, n) for n in tuner.notes)),
        )
        head = [
            say(request, k)
            for k in ("h_submodel", "h_verdict", "h_p50", "h_p90", "h_predicted", "h_runs", "h_reason")
        ]
        name = lambda s: f"{s['r']}:{s['c']:g}" if isinstance(s, dict) else f"{s[0]}:{s[1]:g}"
        body = [
            [
                name(e["submodel"]),
                say(request, e["verdict"].replace(" ", "_")),
                e.get("p50_ms", ""),
                e.get("p90_ms", ""),
                e.get("predicted_ms", ""),
                e.get("n", ""),
                say(request, f"why_{e['why']}", **e),
            ]
            for e in tuner.tried
        ]
        if not body:  # known from the profile: nothing was tried in this run of the program
            body = [
                [name(k), "", round(v.p50, 1), round(v.p90, 1), "", len(v.runs), say(request, "known")]
                for k, v in sorted(tuner.times.items())
            ]
        shown = (
            Image.open(io.BytesIO(runs(tuner.times, tuner.engine.weights.order, budget)))
            if tuner.times
            else None
        )
        return (
            line,
            {"headers": head, "data": body},
            shown,
            offer(tuner.path),
        )

    def offer(path):
        """A copy to download: profiles may lie where Gradio serves nothing from."""
        try:
            copy = save_bytes_to_cache(exported(path), path.name, export.GRADIO_CACHE)
        except AgeEditError:  # there is none yet, or it cannot be read, as the line above says
            return gr.skip()
        export.temp_files.add(copy)
        return gr.update(value=copy, interactive=True)

    @said
    def arrive(budget, request: gr.Request):
        return fill(budget, request)

    @said
    def time_again(budget, request: gr.Request, progress=gr.Progress()):
        total, seen = len(service().engine.weights.candidates), []

        def tell(entry):
            seen.append(entry)
            r, c = entry["submodel"]
            progress((min(len(seen), total), total), desc=say(request, "timing", name=f"{r}:{c:g}"))

        progress((0, total), desc=say(request, "timing", name="…"))
        service().tune(budget, tell=tell)
        return fill(budget, request)

    @said
    def take_in(path, request: gr.Request):
        if not isinstance(path, str):
            raise AgeEditError("Choose one profile, a file that ends in .json.")
        kept = import_profile(path, service().tuner.path.parent)
        gr.Info(say(request, "imported", device=load(kept)["device"]["processor"]))

    outputs = [about, table, plot, export]
    again.click(
        time_again,
        budget,
        outputs,
        show_progress_on=[table],
        api_visibility="private",
        concurrency_id="tune",
        concurrency_limit=1,
    )
    budget.release(arrive, budget, outputs, **QUIET)
    load_button.upload(take_in, load_button, None, **QUIET)
    return {"arrive": (arrive, [budget], outputs)}
