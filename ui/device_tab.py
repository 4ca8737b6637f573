"""The third tab: how the sub-model was chosen on this device."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from agedit import AgeEditError
from agedit.selection.profiles import exported, import_profile, load, power_state
from agedit.selection.selector import Entry
from agedit.selection.times import Candidate
from agedit.selection.tuner import Tuner
from ui.components import FileInput, budget_slider
from ui.errors import for_visitors, said
from ui.events import TUNE, listen
from ui.photos import Upload
from ui.plain_text import in_markdown
from ui.plots import runs
from ui.service import Service
from ui.words import plainly, say, t

HEADINGS = ("h_submodel", "h_verdict", "h_p50", "h_p90", "h_predicted", "h_runs", "h_reason")
"""Of the table, by their key in `words`."""

COLUMN_WIDTHS: list[str | int] = [110, 100, 90, 90, 130, 70, 380]
"""Pixels, of the same columns."""


class DeviceTab:
    """The tab; make it inside gr.Tab.

    Args:
        service: gives the one Service.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service
        self.build()
        self.wire()

    def build(self) -> None:
        """What is on the tab."""
        self.about = gr.Markdown("", elem_id="device-line")
        with gr.Row():
            self.budget = budget_slider("tune-budget", scale=3, min_width=300)
            self.again = gr.Button(t("tune"), variant="primary", elem_id="tune", scale=2, min_width=220)
        self.table = gr.Dataframe(
            label=t("tried"),
            interactive=False,
            elem_id="tried",
            buttons=[],
            wrap=True,
            datatype="str",
            column_widths=COLUMN_WIDTHS,
        )
        self.plot = gr.Image(
            label=t("spread"),
            interactive=False,
            elem_id="runs",
            buttons=["download", "fullscreen"],
            format="png",
        )
        with gr.Row():
            self.export = gr.DownloadButton(t("export"), size="sm", interactive=False, elem_id="export")
            self.profile = FileInput(t("import"), size="sm", file_types=[".json"], elem_id="import")

    def wire(self) -> None:
        """What follows what on the tab itself."""
        outputs = self.outputs()
        listen(
            self.again.click,
            self.time_again,
            self.budget,
            outputs,
            TUNE,
            progress="full",
            show_progress_on=[self.table],
        )
        listen(self.budget.release, self.arrive, self.budget, outputs)
        listen(self.profile.upload, self.take_in, self.profile, None)

    def wire_arrival(self, tab: gr.Tab) -> None:
        """The tab is filled when it is opened."""
        listen(tab.select, self.arrive, [self.budget], self.outputs())

    def outputs(self) -> list[Component]:
        """What is shown anew, in the order of `fill`."""
        return [self.about, self.table, self.plot, self.export]

    @said
    def arrive(self, budget: float, request: gr.Request) -> Any:
        """What is known of this device."""
        return self.fill(budget, request)

    @said
    def time_again(
        self,
        budget: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  by this default Gradio knows where it goes
    ) -> Any:
        """Time this device again, saying what is timed."""
        total = len(self.service().engine.weights.candidates)
        seen: list[Candidate] = []

        def tell(entry: Entry) -> None:
            seen.append(entry["submodel"])
            name = submodel_label(*entry["submodel"])
            progress((min(len(seen), total), total), desc=say(request, "timing", name=name))

        progress((0, total), desc=say(request, "timing", name="…"))
        self.service().tune(budget, tell=tell)
        return self.fill(budget, request)

    @said
    def take_in(self, profile: Upload | None, request: gr.Request) -> None:
        """Import another device's profile."""
        if profile is None:
            raise AgeEditError("Choose one profile, a file that ends in .json.")
        kept = import_profile(profile.path, self.service().tuner.path.parent, profile.name)
        gr.Info(say(request, "imported", device=load(kept)["device"]["processor"]))

    def fill(self, budget: float, request: gr.Request) -> list[Any]:
        """The device, what was tried, the runs, and the profile to download."""
        tuner = self.service().tuner
        plot = None
        if tuner.times:
            plot = Image.open(io.BytesIO(runs(tuner.times, tuner.engine.weights.order, budget)))
        return [device_line(tuner, request), table(tuner, request), plot, self._offer(tuner.path)]

    def _offer(self, path: Path) -> Any:
        """A copy to download: profiles may lie where Gradio serves nothing from."""
        try:
            copy = save_bytes_to_cache(exported(path), path.name, self.export.GRADIO_CACHE)
        except (AgeEditError, OSError):  # there is none yet, or no room for a copy
            return gr.skip()
        self.export.temp_files.add(copy)
        return gr.update(value=copy, interactive=True)


def device_line(tuner: Tuner, request: gr.Request) -> str:
    """What this device is, in one line."""
    device = tuner.device
    notes = " ".join(plainly(request, for_visitors(note)) for note in tuner.notes)
    return say(
        request,
        "device_line",
        processor=in_markdown(device["processor"]),
        cores=device["cores"],
        threads=tuner.engine.threads,
        runtime=in_markdown(device["runtime"]),
        power=say(request, f"power_{power_state()}"),
        note=in_markdown(notes),
    )


def table(tuner: Tuner, request: gr.Request) -> dict[str, Any]:
    """What was tried, in order; where nothing was in this run of the program, what the profile knows."""
    body = [_tried(entry, request) for entry in tuner.tried]
    if not body:
        known = say(request, "known")
        body = [
            [submodel_label(r, c), "", round(times.p50, 1), round(times.p90, 1), "", len(times.runs), known]
            for (r, c), times in sorted(tuner.times.items())
        ]
    return {"headers": [say(request, key) for key in HEADINGS], "data": body}


def _tried(entry: Entry, request: gr.Request) -> list[Any]:
    return [
        submodel_label(entry["submodel"]["r"], entry["submodel"]["c"]),
        say(request, entry["verdict"].replace(" ", "_")),
        entry.get("p50_ms", ""),
        entry.get("p90_ms", ""),
        entry.get("predicted_ms", ""),
        entry.get("n", ""),
        say(request, f"why_{entry['why']}", **entry),
    ]


def submodel_label(r: int, c: float) -> str:
    """As the command line takes it: 256:0.5."""
    return f"{r}:{c:g}"
