"""What the Compare tab shows of every size of the network: thumbnails, table, difference, and whose times."""

from typing import Any

import cv2
import gradio as gr
import numpy as np
import numpy.typing as npt

from agedit import submodel
from agedit.selection.profiles import TimesOf, survey
from ui.service import Service
from ui.words import say

Picture = npt.NDArray[np.uint8]
"""RGB (height, width, 3)."""

Row = dict[str, Any]
"""A row of `agedit.reports.compare`: what a sub-model costs and gives, and its "crop"."""

Device = tuple[str | None, TimesOf]
"""A device's name, None for this one, and its times."""

THUMB = 288
"""Side of a thumbnail's picture in pixels."""

BAND = 84
"""Height in pixels of the band under it."""

BAND_LEVEL = 246
LEFT = 12
"""Pixels left of the band's text."""

FIRST_LINE = 24
"""Pixels from the band's top to its first line."""

LINE = 25
"""Pixels from line to line."""

FRAME = 11
"""Width in pixels of the frame around the chosen one."""

FRAME_COLOUR = (79, 70, 229)
INK = (40, 40, 46)
PALE_INK = (150, 150, 156)

PALE = 0.35
"""Share of its own that a picture keeps where the budget is not kept; the rest is white."""

DIFFERENCE_GAIN = 8
"""Times that a difference is enlarged."""

GREY = 128
"""Level that stands for no difference."""

HEADINGS = ("h_submodel", "h_macs", "h_size", "h_p50", "h_p90", "h_distance", "h_here", "h_fits")
"""Of the table, by their key in `words`."""


def devices(service: Service) -> tuple[list[Device], list[str]]:
    """Every device whose times are known, and a sentence for each profile that was left out.

    This device comes first, then every readable profile of the folder, each by another name.
    """
    tuner = service.tuner
    found: dict[str | None, TimesOf] = {None: tuner.times}
    profiles, left_out = survey(tuner.path.parent)
    for profile in profiles:
        if profile["path"] == str(tuner.path):
            continue
        name = f"{profile['device']['processor']}, {profile['device']['cores']} cores"
        namesakes = sum(other is not None and other.startswith(name) for other in found)
        found[f"{name} ({namesakes + 1})" if namesakes else name] = profile["times"]
    return list(found.items()), left_out


def by_size(row: Row) -> tuple[int, float]:
    """Sorts rows as the grid shows them."""
    return row["r"], row["c"]


def label(row: Row) -> str:
    """A sub-model's name, starred where it would be chosen."""
    star = "★ " if row["chosen"] else ""
    return star + submodel.label((row["r"], row["c"]))


def thumb(row: Row) -> Picture:
    """RGB uint8 (THUMB + BAND, THUMB, 3): the face with its figures under it.

    Pale where the budget is not kept; framed where this sub-model would be chosen.
    """
    picture = np.full((THUMB + BAND, THUMB, 3), BAND_LEVEL, np.uint8)
    face = cv2.resize(row["crop"], (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    if not row["fits"]:
        face = (face * PALE + 255 * (1 - PALE)).astype(np.uint8)
    picture[:THUMB] = face
    ink = INK if row["fits"] else PALE_INK
    figures = (
        (f"{submodel.label((row['r'], row['c']))}   {_milliseconds(row)}", 0.62),
        (f"{row['macs'] / 1e9:.2g} GMAC   {row['mb']:.1f} MB", 0.52),
        (f"{row['difference']:.1f} levels from full", 0.52),
    )
    for k, (text, scale) in enumerate(figures):
        place = (LEFT, THUMB + FIRST_LINE + LINE * k)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    if row["chosen"]:
        corner = (THUMB - 1, THUMB + BAND - 1)
        cv2.rectangle(picture, (0, 0), corner, FRAME_COLOUR, FRAME)
    return picture


def _milliseconds(row: Row) -> str:
    """p50 / p90, with a tilde where they are predicted."""
    if row["p50_ms"] is None:
        return "not timed"
    about = "" if row["measured"] else "~"
    return f"{about}{row['p50_ms']:.0f} / {row['p90_ms']:.0f} ms"


def difference(crop: Picture, full: Picture) -> Picture:
    """What a size draws otherwise than the full network, DIFFERENCE_GAIN times, on grey."""
    apart = (crop.astype(np.int16) - full) * DIFFERENCE_GAIN
    return np.clip(GREY + apart, 0, 255).astype(np.uint8)


def table(rows: list[Row], request: gr.Request) -> dict[str, Any]:
    """For a gr.Dataframe, in the visitor's language."""
    yes = say(request, "yes")
    no = say(request, "no")
    body = [
        [
            label(row),
            _rounded(row["macs"] / 1e9, 2),
            _rounded(row["mb"], 1),
            _rounded(row["p50_ms"], 1),
            _rounded(row["p90_ms"], 1),
            _rounded(row["lpips"], 4),
            _rounded(row["difference"], 1),
            yes if row["fits"] else no,
        ]
        for row in rows
    ]
    return {"headers": [say(request, key) for key in HEADINGS], "data": body}


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)
