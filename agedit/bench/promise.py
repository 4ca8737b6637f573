"""Does a waiting budget keep its promise over many edits of all portraits?"""

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from agedit.clock import milliseconds_since
from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.runtime import Engine
from agedit.selection.budget import SMALLEST_HEADROOM, TAIL_LIMIT, TIMING_MARGIN, required_budgets
from agedit.selection.drift import DriftWatch
from agedit.selection.times import Candidate, Times
from agedit.selection.tuner import REFERENCE, SHOWN, Tuner, candidate_of
from agedit.submodel import Submodel

FIRST_BUDGET = 100.0
"""Milliseconds that the device is tuned for before anything else."""

ABOVE_LOWEST = 1.01
"""The lowest budget over the least that the smallest sub-model fits in."""

ABOVE_HIGHEST = 1.25
"""The highest budget over what the most expensive sub-model requires."""


class PromiseRow(TypedDict):
    """A waiting budget and the edits made within it.

    submodel: (r, c) that ran most. p90_share: p90 over the budget. within_125: share of edits that took at
    most 1.25 budgets. told: share of edits at which the page says that nothing fits.
    """

    budget_ms: float
    submodel: Submodel
    edits: int
    p50_ms: float
    p90_ms: float
    p90_share: float
    within_125: float
    told: float


@dataclass
class _Visit:
    """A visit as the page keeps it, and what was seen in it.

    budget: ms. told: edits at which the page says that nothing fits.
    """

    budget: float
    watch: DriftWatch = field(default_factory=DriftWatch)
    times: Times = field(default_factory=Times)
    ran: Counter[Candidate] = field(default_factory=Counter)
    told: int = 0


def promise(engine: Engine, budgets: int = 6, edits: int = 300) -> list[PromiseRow]:
    """Edits of all portraits after tuning on one of them, at budgets from "only the smallest fits" to
    "everything fits", which take turns.

    The sub-model is chosen anew for every edit, by the times and by the visit's own pace.
    """
    editors = _portraits(engine)
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        tuner = Tuner(engine, folder)
        tuner.choose(FIRST_BUDGET, fresh=True)
        tuner.complete()
    visits = [_Visit(budget) for budget in _budgets(tuner, budgets)]
    for k in range(-len(editors), edits):  # before 0 each portrait is warmed up
        for visit in visits:
            _edit_within_budget(tuner, visit, editors[k % len(editors)], 10 + k % 20, counts=k >= 0)
    return [_row(visit, edits) for visit in visits]


def _portraits(engine: Engine) -> list[AgeEditor]:
    editors = []
    for path in sorted(REFERENCE.parent.glob("*.jpg")):
        editor = AgeEditor(engine)
        editor.set_photo(load_photo(path))
        editors.append(editor)
    return editors


def _budgets(tuner: Tuner, count: int) -> list[float]:
    """So many budgets in ms, each by the same factor above the one before."""
    required = required_budgets(tuner.times).values()
    low = min(required) * TIMING_MARGIN * SMALLEST_HEADROOM * ABOVE_LOWEST
    high = max(required) * ABOVE_HIGHEST
    return [float(budget) for budget in np.geomspace(low, high, count)]


def _edit_within_budget(tuner: Tuner, visit: _Visit, editor: AgeEditor, years: int, counts: bool) -> None:
    pace = visit.watch.pace
    choice = tuner.answer(visit.budget, pace)
    assert choice is not None  # everything was timed
    submodel = candidate_of(choice)
    editor.prepare(0, submodel)
    start = time.perf_counter()
    encode_photo(editor.edit(years, submodel=submodel, limit=SHOWN).picture, "JPEG", synthetic=True)
    took = milliseconds_since(start)
    if counts:
        visit.watch.observe(choice["p50_ms"] / pace, took)
        visit.times.runs.append(took)
        visit.ran[submodel] += 1
        visit.told += not choice["fits"]


def _row(visit: _Visit, edits: int) -> PromiseRow:
    budget = visit.budget
    most_run = visit.ran.most_common(1)[0][0]
    within = np.asarray(visit.times.runs) <= TAIL_LIMIT * budget
    return {
        "budget_ms": round(budget, 1),
        "submodel": most_run,
        "edits": edits,
        "p50_ms": round(visit.times.p50, 1),
        "p90_ms": round(visit.times.p90, 1),
        "p90_share": round(visit.times.p90 / budget, 3),
        "within_125": round(float(np.mean(within)), 4),
        "told": round(visit.told / edits, 3),
    }
