"""How the cost of an edit grows: with the photo's size, with the faces in it, and with visitors at once."""

import threading
import time
from collections.abc import Sequence
from typing import TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from agedit.bench.timing import median
from agedit.clock import milliseconds_since
from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.runtime import Engine
from agedit.selection.fair_lock import FairLock
from agedit.selection.tuner import REFERENCE, SHOWN

SIZES = (0.3, 1, 3, 12, 50)
"""Megapixels."""

SIZE_RUNS = 11
SIZE_WARM_UP = 2
"""Of SIZE_RUNS, those that do not count."""

FACE_RUNS = 6
FACE_WARM_UP = 1
"""Of FACE_RUNS, those that do not count."""


class SizeCost(TypedDict):
    """An edit of a photo of so many megapixels. Medians, in ms."""

    megapixels: float
    generate: float
    blend: float


class FacesCost(TypedDict):
    """An edit of everyone in a photo. ratio: to the photo with the fewest faces."""

    faces: int
    ms: float
    ratio: float


class VisitorsCost(TypedDict):
    """Visitors who all edit at once.

    edits: that came. lost: that did not. p50_ms: a visitor's wait for one; ratio: to the fewest visitors'.
    uneven: the last visitor's time to finish over the first one's, near 1 when the order is fair.
    """

    visitors: int
    edits: int
    lost: int
    p50_ms: float
    uneven: float
    ratio: float


def by_size(engine: Engine, sizes: Sequence[float] = SIZES) -> list[SizeCost]:
    """Stages of an edit by the photo's size in megapixels, the sizes in random turns: only the paste-back may
    grow.
    """
    photo = load_photo(REFERENCE)
    submodel = engine.weights.full
    editors = [AgeEditor(engine, submodel) for _ in sizes]
    for megapixels, editor in zip(sizes, editors, strict=True):
        editor.set_photo(_resized(photo, megapixels))
        editor.prepare(0, submodel)
    stages: list[list[dict[str, float]]] = [[] for _ in sizes]
    rng = np.random.default_rng(0)
    for turn in range(SIZE_RUNS):
        for k in rng.permutation(len(editors)):
            stages[k].append(editors[k].edit(10 + turn).ms)
    return [
        {
            "megapixels": megapixels,
            "generate": _median_stage(edits, "generate"),
            "blend": _median_stage(edits, "blend"),
        }
        for megapixels, edits in zip(sizes, stages, strict=True)
    ]


def _resized(photo: npt.NDArray[np.uint8], megapixels: float) -> npt.NDArray[np.uint8]:
    """The photo at just under so many megapixels."""
    height, width = photo.shape[:2]
    scale = (megapixels * 1e6 / (height * width)) ** 0.5 * 0.999
    resized = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def _median_stage(edits: Sequence[dict[str, float]], stage: str) -> float:
    return round(median([ms[stage] for ms in edits], SIZE_WARM_UP), 2)


def by_faces(engine: Engine, counts: Sequence[int] = (1, 2, 4)) -> list[FacesCost]:
    """An edit of everyone in a photo of the portrait repeated `counts` times."""
    rows: list[FacesCost] = []
    for n in counts:
        row = _edit_all_faces(engine, n)
        rows.append(row)
        row["ratio"] = round(row["ms"] / rows[0]["ms"], 2)
    return rows


def _edit_all_faces(engine: Engine, count: int) -> FacesCost:
    """One row of `by_faces`, its ratio still 1: the portrait `count` times side by side."""
    submodel = engine.weights.full
    editor = AgeEditor(engine, submodel)
    editor.set_photo(np.hstack([load_photo(REFERENCE)] * count))
    faces = editor.indices("all")
    for index in faces:
        editor.prepare(index, submodel)
    runs = []
    for k in range(FACE_RUNS):
        start = time.perf_counter()
        editor.edit(dict.fromkeys(faces, 10 + k))
        runs.append(milliseconds_since(start))
    return {"faces": len(editor.faces), "ms": round(median(runs, FACE_WARM_UP), 1), "ratio": 1.0}


def by_visitors(engine: Engine, counts: Sequence[int] = (1, 2, 4, 8), edits: int = 12) -> list[VisitorsCost]:
    """Visitors with `edits` each, all at once, one edit running at a time: what each waits."""
    rows: list[VisitorsCost] = []
    for n in counts:
        row = _visitors_at_once(engine, n, edits)
        rows.append(row)
        row["ratio"] = round(row["p50_ms"] / rows[0]["p50_ms"], 2)
    return rows


def _visitors_at_once(engine: Engine, count: int, edits: int) -> VisitorsCost:
    """One row of `by_visitors`, its ratio still 1."""
    lock = FairLock()
    visits = [_Visit(engine, lock, edits) for _ in range(count)]
    start = time.perf_counter()
    for visit in visits:
        visit.start()
    for visit in visits:
        visit.join()
    waits = [wait for visit in visits for wait in visit.waits]
    ends = [visit.end - start for visit in visits]
    return {
        "visitors": count,
        "edits": len(waits),
        "lost": count * edits - len(waits),
        "p50_ms": round(median(waits), 1),
        "uneven": round(max(ends) / min(ends), 2),
        "ratio": 1.0,
    }


class _Visit(threading.Thread):
    """A visitor who edits the reference portrait as fast as the page answers.

    waits: milliseconds of each edit, the line before it included. end: seconds, by `time.perf_counter`.
    """

    def __init__(self, engine: Engine, lock: FairLock, edits: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.end = 0.0
        self._lock_of_page = lock
        self._edits = edits
        submodel = engine.weights.full
        self._editor = AgeEditor(engine, submodel)
        self._editor.set_photo(load_photo(REFERENCE))
        self._editor.prepare(0, submodel)

    def run(self) -> None:
        """Started by `start`. An edit that fails ends the visit; what did not come counts as lost."""
        try:
            for k in range(self._edits):
                start = time.perf_counter()
                with self._lock_of_page:
                    encode_photo(self._editor.edit(10 + k, limit=SHOWN).picture, "JPEG")
                self.waits.append(milliseconds_since(start))
        finally:
            self.end = time.perf_counter()
