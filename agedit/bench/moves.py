"""What a slider's move costs."""

import time
from typing import NamedTuple, TypedDict

import numpy as np

from agedit.bench.timing import median
from agedit.clock import milliseconds_since
from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.runtime import Engine
from agedit.selection.tuner import REFERENCE, SHOWN
from agedit.submodel import Submodel

WARM_UP = 3
"""Moves that do not count."""


class MoveCosts(TypedDict):
    """A move at the best sub-model, by medians.

    ms: from years to the encoded picture.
    share: of that, generate, blend and encode.
    switch_ratio: a move right after another sub-model's over one after its own.
    read_ms: reading the age in the picture, which the page does after each move.
    """

    ms: float
    share: float
    switch_ratio: float
    read_ms: float


class _Move(NamedTuple):
    """One move, in ms: all of it, its three named parts, and the reading of the age after it."""

    whole: float
    parts: float
    reading: float


def moves(engine: Engine, runs: int = 40) -> MoveCosts:
    """Twice `runs` moves of the reference portrait; before about half of them, in random order, another
    sub-model gets a move.
    """
    best = engine.weights.full
    other = engine.weights.smallest
    editor = AgeEditor(engine)
    editor.set_photo(load_photo(REFERENCE))
    for submodel in (best, other):
        editor.prepare(0, submodel)
    made: list[_Move] = []
    after_own: list[float] = []
    after_other: list[float] = []
    for k, switched in enumerate(np.random.default_rng(0).random(runs * 2) < 0.5):
        years = 10 + k % 20
        if switched:
            editor.edit(years, submodel=other, limit=SHOWN)
        made.append(_move(editor, years, best))
        before = after_other if switched else after_own
        before.append(made[-1].whole)
    whole = median([move.whole for move in made], WARM_UP)
    return {
        "ms": round(whole, 2),
        "share": round(median([move.parts for move in made], WARM_UP) / whole, 3),
        "switch_ratio": round(median(after_other, WARM_UP) / median(after_own, WARM_UP), 2),
        "read_ms": round(median([move.reading for move in made], WARM_UP), 2),
    }


def _move(editor: AgeEditor, years: float, submodel: Submodel) -> _Move:
    start = time.perf_counter()
    edit = editor.edit(years, submodel=submodel, limit=SHOWN)
    encoding = time.perf_counter()
    encode_photo(edit.picture, "JPEG")
    encoded_ms = milliseconds_since(encoding)
    whole_ms = milliseconds_since(start)
    reading = time.perf_counter()
    editor.age(edit)
    parts_ms = edit.ms["generate"] + edit.ms["blend"] + encoded_ms
    return _Move(whole_ms, parts_ms, milliseconds_since(reading))
