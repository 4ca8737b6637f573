"""What each (r, c) costs and gives on one face: rows for tables, points for the plot."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np

from agedit.align import align
from agedit.editor import AgeEditor, Picture
from agedit.selection.budget import TIMING_MARGIN, fits_budget
from agedit.selection.cost_model import answer, estimates, frontier
from agedit.selection.profiles import TimesOf
from agedit.selection.times import Candidate
from agedit.submodel import cost, work


def compare(editor: AgeEditor, years: float, face: int = 0, size: int = 384) -> Iterator[dict[str, Any]]:
    """Yield one row a sub-model, the full network first.

    Args:
        years: change of the face's age.
        face: its number in the editor's photo.
        size: edge of "crop", pixels.

    Yields:
        {"r", "c", "macs", "parameters", "mb" (fp16), "lpips" (to the full network, held-out faces, from the
        manifest), "difference" (mean absolute, levels of 255, to the full network on this face),
        "crop" RGB uint8 (size, size, 3)}.
    """
    weights = editor.engine.weights
    quality = {(q["r"], q["c"]): q["lpips"] for q in weights.manifest.get("quality", [])}
    prepared = editor.prepare(face)
    base = align(editor.view(), prepared.face, size)
    full: Picture | None = None
    inside = cv2.resize(prepared.mask, (size, size)) > 0.5
    for r, c in reversed(weights.candidates):
        with editor.engine.passing([(r, c)]):
            change = editor.change(years, face, (r, c))
        crop = prepared.shown(base, change) if years else base.copy()
        if full is None:
            full = crop
        shown = np.abs(crop.astype(np.int16) - full).mean(2)
        price = cost(r, c)
        yield {
            "r": r,
            "c": c,
            **price._asdict(),
            "mb": price.parameters * 2 / 1e6,
            "lpips": quality.get((r, c)),
            "difference": float(shown[inside].mean()),
            "crop": crop,
        }


def with_times(
    rows: Iterable[dict[str, Any]], times: TimesOf, order: list[Candidate], budget: float
) -> list[dict[str, Any]]:
    """Rows with "p50_ms", "p90_ms", "measured", "fits", "chosen" for a device's `times` and a budget, in ms.

    "fits" follows the rule of `cost_model.answer`: where that says that nothing fits, no row does.
    A sub-model without times is predicted by the fit; None where there is nothing to predict from.
    """
    candidates = frontier(order, work)
    found = answer(order, work, times, budget / TIMING_MARGIN)
    nothing_fits = found is not None and not found.fits
    rows = list(rows)
    keys = [(row["r"], row["c"]) for row in rows]
    result = []
    for row, key, known in zip(rows, keys, estimates(keys, work, times), strict=True):
        p50, p90, needed, measured = known or (None, None, None, False)
        promised = needed is not None and fits_budget(needed, budget / TIMING_MARGIN, key == candidates[-1])
        result.append(
            row
            | {
                "p50_ms": p50,
                "p90_ms": p90,
                "measured": measured,
                "fits": promised and not nothing_fits,
                "chosen": found is not None and found.candidate == key,
                "frontier": key in candidates,
            }
        )
    return result


COLUMNS = (
    "r",
    "c",
    "macs",
    "parameters",
    "mb",
    "lpips",
    "difference",
    "p50_ms",
    "p90_ms",
    "measured",
    "fits",
    "chosen",
    "frontier",
)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """The table as CSV text, numbers as they are."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row.get(k)) for k in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """Text that a spreadsheet would compute as a formula becomes plain text."""
    if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@")):
        return f"'{value}"
    return value
