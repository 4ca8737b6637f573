"""The second tab, for the product manager: what every size of the network costs and gives on this face."""

import json

import cv2
import gradio as gr
import numpy as np

from agedit.photo import encode_photo
from agedit.reports.compare import compare, to_csv, with_times
from agedit.selection.budget import TIMING_MARGIN
from agedit.selection.cost_model import answer
from agedit.selection.profiles import TimesOf, survey
from agedit.submodel import RATIOS, work
from ui.common import QUIET, budget_slider, said
from ui.files import Forgotten
from ui.line import COMPARE, PAINT
from ui.plain_text import in_markdown
from ui.plots import quality_against_latency
from ui.service import Service
from ui.waiting import until_served
from ui.words import plainly, say, t

THUMB, BAND, DIFFERENCE_GAIN = 288, 84, 8  # pixels, pixels, times


MOST_DRAWN = 8  # devices in one plot: more lines than that nobody tells apart
MOST_TOLD = 3  # sentences about profiles that were left out


def devices(service: Service) -> tuple[list[tuple[str | None, TimesOf]], list[str]]:
    """([(name, times)], this device first, its name None, then every readable profile of the folder, each by another
    name; a sentence for each profile that was left out)."""
    tuner = service.tuner
    found: dict[str | None, TimesOf] = {None: tuner.times}
    profiles, left_out = survey(tuner.path.parent)
    for profile in profiles:
        if profile["path"] != str(tuner.path):
            name = f"{profile['device']['processor']}, {profile['device']['cores']} cores"
            again = sum(n is not None and n.startswith(name) for n in found)
            found[f"{name} ({again + 1})" if again else name] = profile["times"]
    return list(found.items()), left_out


def thumb(row):
    """RGB uint8 (THUMB + BAND, THUMB, 3): pale where the budget is not kept, framed where S4 picks, its figures under it."""
    picture = np.full((THUMB + BAND, THUMB, 3), 246, np.uint8)
    face = cv2.resize(row["crop"], (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    picture[:THUMB] = face if row["fits"] else (face * 0.35 + 255 * 0.65).astype(np.uint8)
    ink = (40, 40, 46) if row["fits"] else (150, 150, 156)
    ms = (
        "not timed"
        if row["p50_ms"] is None
        else f"{'' if row['measured'] else '~'}{row['p50_ms']:.0f} / {row['p90_ms']:.0f} ms"
    )
    for k, (text, scale) in enumerate(
        (
            (f"{row['r']}:{row['c']:g}   {ms}", 0.62),
            (f"{row['macs'] / 1e9:.2g} GMAC   {row['mb']:.1f} MB", 0.52),
            (f"{row['difference']:.1f} levels from full", 0.52),
        )
    ):
        cv2.putText(
            picture, text, (12, THUMB + 24 + 25 * k), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA
        )
    if row["chosen"]:
        cv2.rectangle(picture, (0, 0), (THUMB - 1, THUMB + BAND - 1), (79, 70, 229), 11)
    return picture


def build(service, visit, edit):
    """Lay out the tab inside a gr.Tab. edit: what edit_tab.build returned."""
    with gr.Row():
        run = gr.Button(t("compare_run"), variant="primary", elem_id="compare-run", scale=2)
        budget = budget_slider("compare-budget", scale=3)
        device = gr.Dropdown([], label=t("device_choice"), elem_id="compare-device", scale=2, visible=False)
    whatif = gr.Markdown("", elem_id="whatif")
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            grid = gr.Gallery(
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
        with gr.Column(scale=2, min_width=280):
            large = gr.ImageSlider(
                label=t("compare_large"),
                interactive=False,
                elem_id="large",
                format="png",
                max_height=420,
                buttons=["fullscreen"],
            )
            difference = gr.Image(
                label=t("difference"),
                interactive=False,
                elem_id="difference",
                height=260,
                buttons=["fullscreen"],
            )
    plot = gr.Image(
        label=t("quality_plot"),
        interactive=False,
        elem_id="plot",
        buttons=["download", "fullscreen"],
        format="png",
    )
    table = gr.Dataframe(
        interactive=False, show_label=False, elem_id="table", buttons=[], wrap=True, datatype="str"
    )
    with gr.Row():
        files = [
            gr.DownloadButton(t(k), size="sm", interactive=False, elem_id=f"save-{k}")
            for k in ("csv", "json")
        ]

    def paint(visit, budget, device, request):
        """Everything that depends on the budget and the device, from pictures already drawn."""
        every, left_out = devices(service())
        order = service().engine.weights.order
        chosen = next(((n, times) for n, times in every if n == device), every[0])
        rows = with_times(visit.rows, chosen[1], order, budget)
        name = chosen[0] or say(request, "this_device")
        found = answer(order, work, chosen[1], budget / TIMING_MARGIN)
        if found is None:
            text = say(request, "not_measured")
        else:
            r, c = found.candidate
            text = say(
                request,
                "whatif" if found.fits else "whatif_none",
                budget=budget,
                device=in_markdown(name),
                r=r,
                c=c,
                p90=found.p90,
            )
        told = [plainly(request, sentence) for sentence in left_out[:MOST_TOLD]]
        text = "\n\n".join([text, *map(in_markdown, told)])
        items = []
        for row in sorted(rows, key=lambda q: (q["r"], q["c"])):
            path = visit.write(encode_photo(thumb(row), "JPEG", True), f"grid-{row['r']}-{row['c']:g}.jpeg")
            items.append((path, f"{'★ ' if row['chosen'] else ''}{row['r']}:{row['c']:g}"))
        painted = [
            (n or "This device", with_times(visit.rows, times, order, budget))
            for n, times in [chosen] + [d for d in every if d[0] != chosen[0]]
            if times
        ][:MOST_DRAWN]
        picture = (
            visit.write(quality_against_latency(painted, order, budget), "plot.png") if painted else None
        )
        yes, no = say(request, "yes"), say(request, "no")
        head = [
            say(request, k)
            for k in ("h_submodel", "h_macs", "h_size", "h_p50", "h_p90", "h_distance", "h_here", "h_fits")
        ]
        number = lambda v, digits: "" if v is None else round(v, digits)
        body = [
            [
                f"{'★ ' if q['chosen'] else ''}{q['r']}:{q['c']:g}",
                number(q["macs"] / 1e9, 2),
                number(q["mb"], 1),
                number(q["p50_ms"], 1),
                number(q["p90_ms"], 1),
                number(q["lpips"], 4),
                number(q["difference"], 1),
                yes if q["fits"] else no,
            ]
            for q in rows
        ]
        plain = [{k: v for k, v in q.items() if k != "crop"} for q in rows]
        saved = [
            visit.write(to_csv(rows).encode(), "agedit_submodels.csv"),
            visit.write(
                json.dumps({"device": name, "budget_ms": budget, "submodels": plain}, indent=1).encode(),
                "agedit_submodels.json",
            ),
        ]
        names = [(say(request, "this_device"), "")] + [(n, n) for n, _ in every[1:]]
        return (
            gr.update(choices=names, value=device or "", visible=len(names) > 1),
            text,
            items,
            picture,
            {"headers": head, "data": body},
            *[gr.update(value=p, interactive=True) for p in saved],
        )

    @said
    def go(visit, who, budget, device, request: gr.Request, progress=gr.Progress()):
        if visit is None or visit.closed:
            return [gr.skip(), say(request, "choose_first"), *[gr.skip()] * 5]
        face, rows = visit.faces(who)[0], []
        total = len(visit.editor.engine.weights.candidates)
        try:
            with service().comparisons.place() as place:
                for text in until_served(place, request):
                    progress((0, total), desc=text)
                steps = compare(visit.editor, visit.years.get(face, 0), face)
                for row in service().one_by_one(visit, steps):
                    rows.append(row)
                    progress((len(rows), total), desc=say(request, "drawing", done=len(rows), all=total))
            visit.rows, visit.compared = rows, (visit.years.get(face), face)
            return list(paint(visit, budget, device, request))
        except Forgotten:  # another photo was chosen, or the page was closed
            return [gr.skip()] * 7

    def clear(visit):
        """Another photo: what was drawn of the one before goes."""
        if visit is not None and visit.rows:  # compared already
            return [gr.skip()] * 7
        return [None, None, None, *[gr.update(value=None, interactive=False)] * 2, None, None]

    @said
    def repaint(visit, budget, device, request: gr.Request):
        if visit is None or visit.closed or not visit.rows:
            return [gr.skip()] * 7
        return list(paint(visit, budget, device, request))

    def arrive(visit, who, budget, device, request: gr.Request, progress=gr.Progress()):
        """Opening the tab draws the grid, unless it shows this edit already."""
        if (
            visit is not None
            and visit.rows
            and visit.compared == (visit.years.get(visit.faces(who)[0]), visit.faces(who)[0])
        ):
            return repaint(visit, budget, device, request)
        return go(visit, who, budget, device, request, progress)

    def enlarge(visit, event: gr.SelectData):
        if visit is None or not visit.rows:
            return gr.skip(), gr.skip()
        row = sorted(visit.rows, key=lambda q: (q["r"], q["c"]))[event.index]
        full = visit.rows[0]["crop"]
        apart = np.clip(128 + (row["crop"].astype(np.int16) - full) * DIFFERENCE_GAIN, 0, 255).astype(
            np.uint8
        )
        write = lambda picture, name: visit.write(
            encode_photo(picture, "JPEG", True), f"{name}-{row['r']}-{row['c']:g}.jpeg"
        )
        return (write(row["crop"], "size"), write(full, "full")), write(apart, "apart")

    outputs = [device, whatif, grid, plot, table, *files]
    run.click(
        go,
        [visit, edit["who"], budget, device],
        outputs,
        show_progress_on=[grid],
        api_visibility="private",
        **COMPARE,
    )
    budget.input(repaint, [visit, budget, device], outputs, trigger_mode="always_last", **QUIET, **PAINT)
    device.input(repaint, [visit, budget, device], outputs, **QUIET, **PAINT)
    grid.select(enlarge, visit, [large, difference], **QUIET)
    return {
        "arrive": (arrive, [visit, edit["who"], budget, device], outputs),
        "grid": grid,
        "clear": (clear, visit, [grid, plot, table, *files, large, difference]),
    }
