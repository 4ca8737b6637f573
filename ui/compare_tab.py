"""The second tab, for the product manager: what every size of the network costs and gives on this face."""

import json
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from agedit.photo import encode_photo
from agedit.reports.compare import compare, to_csv, with_times
from agedit.selection.budget import TIMING_MARGIN
from agedit.selection.cost_model import answer
from agedit.selection.profiles import TimesOf
from agedit.submodel import RATIOS, work
from ui.compare_views import Device, Picture, Row, by_size, devices, difference, label, table, thumb
from ui.components import budget_slider
from ui.edit_picture import usable
from ui.errors import said
from ui.events import COMPARE, PAINT, listen
from ui.files import Forgotten
from ui.plain_text import in_markdown
from ui.plots import quality_against_latency
from ui.service import Service
from ui.visit import Visit
from ui.waiting import until_served
from ui.words import plainly, say, t

MOST_DRAWN = 8
"""Devices in one plot: more lines than that nobody tells apart."""

MOST_TOLD = 3
"""Sentences about profiles that were left out."""

OUTPUTS = 7
"""How many outputs most handlers have."""

POSITION = 1
"""Of this tab, counted from 0."""


class CompareTab:
    """The tab; make it inside gr.Tab.

    Args:
        service: gives the one Service.
        visit: the visitor's `Visit`.
        who: the face that was picked on the Edit tab.
    """

    def __init__(self, service: Callable[[], Service], visit: gr.State, who: gr.Radio) -> None:
        self.service = service
        self.visit = visit
        self.who = who
        self.is_open = gr.State(False)
        self.build()
        self.wire()

    def build(self) -> None:
        """What is on the tab."""
        with gr.Row():
            self.run = gr.Button(t("compare_run"), variant="primary", elem_id="compare-run", scale=2)
            self.budget = budget_slider("compare-budget", scale=3)
            self.device = gr.Dropdown(
                [], label=t("device_choice"), elem_id="compare-device", scale=2, visible=False
            )
        self.whatif = gr.Markdown("", elem_id="whatif")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                self._build_grid()
            with gr.Column(scale=2, min_width=280):
                self._build_large()
        self.plot = gr.Image(
            label=t("quality_plot"),
            interactive=False,
            elem_id="plot",
            buttons=["download", "fullscreen"],
            format="png",
        )
        self.table = gr.Dataframe(
            interactive=False, show_label=False, elem_id="table", buttons=[], wrap=True, datatype="str"
        )
        with gr.Row():
            self.files = [
                gr.DownloadButton(t(name), size="sm", interactive=False, elem_id=f"save-{name}")
                for name in ("csv", "json")
            ]

    def _build_grid(self) -> None:
        self.grid = gr.Gallery(
            label=t("compare_grid"),
            columns=len(RATIOS),
            height="auto",
            allow_preview=False,
            elem_id="grid",
            interactive=False,
            buttons=[],
            object_fit="contain",
        )
        gr.Markdown(t("compare_hint"), elem_id="hint2")

    def _build_large(self) -> None:
        self.large = gr.ImageSlider(
            label=t("compare_large"),
            interactive=False,
            elem_id="large",
            format="png",
            max_height=420,
            buttons=["fullscreen"],
        )
        self.difference = gr.Image(
            label=t("difference"),
            interactive=False,
            elem_id="difference",
            height=260,
            buttons=["fullscreen"],
        )

    def wire(self) -> None:
        """What follows what on the tab itself."""
        inputs = [self.visit, self.who, self.budget, self.device]
        repaints = [self.visit, self.budget, self.device]
        outputs = self.outputs()
        listen(
            self.run.click, self.go, inputs, outputs, COMPARE, progress="full", show_progress_on=[self.grid]
        )
        listen(self.budget.input, self.repaint, repaints, outputs, PAINT, trigger_mode="always_last")
        listen(self.device.input, self.repaint, repaints, outputs, PAINT)
        listen(self.grid.select, self.enlarge, self.visit, [self.large, self.difference])

    def wire_arrival(self, tab: gr.Tab) -> None:
        """The tab is filled when it is opened."""
        listen(
            tab.select,
            self.arrive,
            [self.visit, self.who, self.budget, self.device],
            self.outputs(),
            COMPARE,
            progress="full",
            show_progress_on=[self.grid],
        )

    def wire_photo(self, opened: list[Dependency], tabs: gr.Tabs) -> None:
        """Another photo empties the tab, or is drawn on it where the visitor looks at it already."""
        listen(tabs.select, self.note_open, None, self.is_open)
        inputs = [self.visit, self.who, self.budget, self.device, self.is_open]
        outputs = [*self.outputs(), self.large, self.difference]
        for event in opened:
            listen(
                event.then,
                self.follow,
                inputs,
                outputs,
                COMPARE,
                progress="full",
                show_progress_on=[self.grid],
            )

    def outputs(self) -> list[Component]:
        """What is drawn anew, in the order of `paint`."""
        return [self.device, self.whatif, self.grid, self.plot, self.table, *self.files]

    @said
    def go(
        self,
        visit: Visit | None,
        who: float | None,
        budget: float,
        device: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  by this default Gradio knows where it goes
    ) -> list[Any]:
        """Draw this face in every size."""
        if not usable(visit):
            return [gr.skip(), say(request, "choose_first"), *[gr.skip()] * (OUTPUTS - 2)]
        face = visit.faces(who)[0]
        try:
            visit.rows = self._drawn(visit, face, request, progress)
            visit.compared = (visit.years.get(face), face)
            return self.paint(visit, budget, device, request)
        except Forgotten:  # another photo was chosen, or the page was closed
            return [gr.skip()] * OUTPUTS

    def _drawn(self, visit: Visit, face: int, request: gr.Request, progress: gr.Progress) -> list[Row]:
        total = len(visit.editor.engine.weights.candidates)
        rows: list[Row] = []
        with self.service().comparisons.place() as place:
            for text in until_served(place, request):
                progress((0, total), desc=text)
            steps = compare(visit.editor, visit.years.get(face, 0), face)
            for row in self.service().one_by_one(visit, steps):
                rows.append(row)
                progress((len(rows), total), desc=say(request, "drawing", done=len(rows), all=total))
        return rows

    def note_open(self, event: gr.SelectData) -> bool:
        """Whether the tab that was chosen is this one."""
        return event.index == POSITION

    @said
    def follow(
        self,
        visit: Visit | None,
        who: float | None,
        budget: float,
        device: str | None,
        is_open: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  by this default Gradio knows where it goes
    ) -> list[Any]:
        """Another photo: what was drawn of the one before goes."""
        if visit is not None and visit.rows:  # compared already
            return [gr.skip()] * (OUTPUTS + 2)
        if is_open and usable(visit):
            return [*self.go(visit, who, budget, device, request, progress), None, None]
        no_file = gr.update(value=None, interactive=False)
        return [gr.skip(), "", None, None, None, no_file, no_file, None, None]

    @said
    def repaint(
        self, visit: Visit | None, budget: float, device: str | None, request: gr.Request
    ) -> list[Any]:
        """Another budget or device."""
        if not usable(visit) or not visit.rows:
            return [gr.skip()] * OUTPUTS
        return self.paint(visit, budget, device, request)

    def arrive(
        self,
        visit: Visit | None,
        who: float | None,
        budget: float,
        device: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  by this default Gradio knows where it goes
    ) -> list[Any]:
        """Opening the tab draws the grid, unless it shows this edit already."""
        if visit is not None and visit.rows:
            face = visit.faces(who)[0]
            if visit.compared == (visit.years.get(face), face):
                return self.repaint(visit, budget, device, request)
        return self.go(visit, who, budget, device, request, progress)

    def enlarge(self, visit: Visit | None, event: gr.SelectData) -> Any:
        """One size large beside the full network, and their difference."""
        if visit is None or not visit.rows:
            return gr.skip(), gr.skip()
        row = sorted(visit.rows, key=by_size)[event.index]
        full = visit.rows[0]["crop"]
        size_path = _written(visit, row, row["crop"], "size")
        full_path = _written(visit, row, full, "full")
        apart = _written(visit, row, difference(row["crop"], full), "apart")
        return (size_path, full_path), apart

    def paint(self, visit: Visit, budget: float, device: str | None, request: gr.Request) -> list[Any]:
        """Everything that depends on the budget and the device, from pictures already drawn."""
        every, left_out = devices(self.service())
        order = self.service().engine.weights.order
        chosen = next((found for found in every if found[0] == device), every[0])
        rows = with_times(visit.rows, chosen[1], order, budget)
        name = chosen[0] or say(request, "this_device")
        told = [in_markdown(plainly(request, sentence)) for sentence in left_out[:MOST_TOLD]]
        text = "\n\n".join([self._what_if(chosen[1], name, budget, request), *told])
        names = [(say(request, "this_device"), ""), *[(other, other) for other, _ in every[1:]]]
        return [
            gr.update(choices=names, value=device or "", visible=len(names) > 1),
            text,
            _grid(visit, rows),
            self._plot(visit, chosen, every, budget),
            table(rows, request),
            *[gr.update(value=path, interactive=True) for path in _tables(visit, rows, name, budget)],
        ]

    def _what_if(self, times: TimesOf, name: str, budget: float, request: gr.Request) -> str:
        """Which sub-model people would see on that device."""
        found = answer(self.service().engine.weights.order, work, times, budget / TIMING_MARGIN)
        if found is None and times:
            return say(request, "too_little", device=in_markdown(name))
        if found is None:
            return say(request, "not_measured")
        r, c = found.candidate
        key = "whatif" if found.fits else "whatif_none"
        return say(request, key, budget=budget, device=in_markdown(name), r=r, c=c, p90=found.p90)

    def _plot(self, visit: Visit, chosen: Device, every: list[Device], budget: float) -> str | None:
        """Path of the plot, the chosen device first; None where nothing was timed anywhere."""
        order = self.service().engine.weights.order
        others = [found for found in every if found[0] != chosen[0]]
        drawn = [
            (name or "This device", with_times(visit.rows, times, order, budget))
            for name, times in [chosen, *others]
            if times
        ]
        if not drawn:
            return None
        return visit.write(quality_against_latency(drawn[:MOST_DRAWN], budget), "plot.png")


def _grid(visit: Visit, rows: list[Row]) -> list[tuple[str, str]]:
    """(path, label) of each size's thumbnail."""
    return [(_written(visit, row, thumb(row), "grid"), label(row)) for row in sorted(rows, key=by_size)]


def _tables(visit: Visit, rows: list[Row], device: str, budget: float) -> list[str]:
    """Paths of the table as CSV and as JSON."""
    plain = [{key: value for key, value in row.items() if key != "crop"} for row in rows]
    content = {"device": device, "budget_ms": budget, "submodels": plain}
    return [
        visit.write(to_csv(rows).encode(), "agedit_submodels.csv"),
        visit.write(json.dumps(content, indent=1).encode(), "agedit_submodels.json"),
    ]


def _written(visit: Visit, row: Row, picture: Picture, name: str) -> str:
    """Path of a picture of one size, marked as synthetic."""
    data = encode_photo(picture, "JPEG", True)
    return visit.write(data, f"{name}-{row['r']}-{row['c']:g}.jpeg")
