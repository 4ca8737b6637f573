"""Judge the edits of a folder of photos with the shipped estimators, through the same path as the app."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from agedit.align import unalign
from agedit.editor import AgeEditor, Edit
from agedit.errors import AgeEditError
from agedit.estimators import SAME_EXPRESSION, SAME_PERSON, expression_measures
from agedit.photo import load_photo
from agedit.reports.background import BACKGROUND, BackgroundJudge
from agedit.reports.sheet import pictures_in
from agedit.runtime import Engine
from agedit.submodel import Submodel

JUDGED_AGES = (1, 95)
"""Lowest and highest apparent age, in years, that an edit is asked for here; others are left out of the
figures. The editor itself asks nobody's age: `Calibration.reach` limits what comes of an edit.
"""

JOURNEY = range(-30, 41, 10)
"""Years of the edits whose judged ages should rise from each to the next."""

JOURNEY_FROM = 4
"""Years that an edit of the journey stays above the youngest age of all."""

JOURNEY_STEPS = 3
"""Edits below which nothing is said of a journey."""

YOUNGER_FROM = 35
"""Years: people who look younger are not judged as younger still."""

STRICT_YEARS = 30
"""Of the strict form's edit, or as many as the slider has."""

REACH = 5
"""Pixels: edge of the square within which interpolation at a mask's edge changes a photo."""

Progress = Callable[[Iterable[Path]], Iterable[Path]]
"""Wraps the photos while they are worked on, as tqdm does."""


class Cell(TypedDict):
    """One photo at one change in years, judged at the full network and, `small_...`, the smallest sub-model.

    change: of the judged age, years. cosine, l2: identity, see `estimators.identity`. flip: another gender.
    mood: the same expression by the network. expression: by how much each of EXPRESSION_MEASURES differs,
    None where no face is found any more. small_mse: mean squared difference of the two crops, of 1.
    outside: see `outside`. background: see `BackgroundJudge.changed`.
    """

    change: float
    cosine: float
    l2: float
    flip: bool
    mood: bool
    expression: list[float] | None
    small_change: float
    small_l2: float
    small_mse: float
    outside: int
    background: float | None


class StrictRow(TypedDict):
    """The strict form: identity L2 at 0 years, and the judged years between 0 and STRICT_YEARS."""

    l2_at_0: float
    change_at_30: float


class Row(TypedDict):
    """One photo. age: judged, years. monotony: see `rank_correlation`, None for too few steps."""

    file: str
    age: float
    plus30: NotRequired[Cell]
    minus20: NotRequired[Cell]
    plus17: NotRequired[Cell]
    monotony: float | None
    strict: StrictRow


class CellSummary(TypedDict):
    """The cells of all photos at one change in years: means and shares; None where no photo qualified."""

    photos: int
    judged_change: float | None
    cosine: float | None
    l2: float | None
    same_person: float | None
    gender_flips: float | None
    expression_kept: float | None
    expression_read_alike: float | None
    mouth_corners_lower: float | None
    right_direction: float | None
    smallest_judged_change: float | None
    smallest_age_difference: float | None
    smallest_mse: float | None
    outside_the_mask: int | None
    background_changed: float | None
    """Share of the photos in which over `BACKGROUND.much` of the background is changed."""


class Summary(TypedDict):
    """The figures over all photos. strict: means."""

    plus30: CellSummary
    minus20: CellSummary
    plus17: CellSummary
    rank_correlation_median: float | None
    strict: StrictRow


class Evaluation(Summary):
    """What `agedit evaluate` prints. skipped: one sentence for each photo that could not be used."""

    photos: int
    submodel: list[float]
    smallest: list[float]
    smallest_lpips: float | None
    skipped: list[str]
    rows: list[Row]


class _Judged(NamedTuple):
    """An edit, the change of the judged age in years, and identity."""

    edit: Edit
    change: float
    cosine: float
    l2: float


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's, in -1..1; equal values share their mean rank, so a slider that does nothing is not steady.

    0 where all of `a` or all of `b` is equal, for which it is not defined.
    """
    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0
    result = spearmanr(a, b)
    return float(result.statistic)  # pyright: ignore[reportAttributeAccessIssue]  # scipy has no types


def evaluate(
    folder: str | Path, engine: Engine, limit: int | None = None, progress: Progress = iter
) -> Evaluation:
    """`evaluate_files` on every picture of `folder`, or the first `limit`."""
    return evaluate_files(pictures_in(folder)[:limit], engine, progress)


def evaluate_files(files: Sequence[Path], engine: Engine, progress: Progress = iter) -> Evaluation:
    """Every photo's largest face, at the full network and the smallest sub-model.

    Raises AgeEditError when nothing could be judged.
    """
    editor = AgeEditor(engine)
    judge = _Judge(editor)
    rows: list[Row] = []
    skipped: list[str] = []
    for path in progress(files):
        try:
            editor.set_photo(load_photo(path))
        except AgeEditError as error:
            skipped.append(f"{path.name}: {error}")
            continue
        rows.append(judge.row(path.name))
    if not rows:
        raise AgeEditError(f"None of the {len(files)} pictures has a usable face. First: {skipped[0]}")
    # LPIPS needs a network that does not ship: it was measured when the weights were calibrated
    lpips = {(row["r"], row["c"]): row["lpips"] for row in engine.weights.manifest.get("quality", [])}
    return {
        "photos": len(rows),
        "submodel": list(judge.full),
        "smallest": list(judge.smallest),
        "smallest_lpips": lpips.get(judge.smallest),
        **summary(rows),
        "skipped": skipped,
        "rows": rows,
    }


class _Judge:
    """Judges edits of the photo that its editor holds."""

    def __init__(self, editor: AgeEditor) -> None:
        engine = editor.engine
        self.full: Submodel = engine.weights.best
        self.smallest: Submodel = engine.weights.smallest
        self._engine = engine
        self._editor = editor
        self._background = BackgroundJudge()
        self._lowest, self._highest = engine.weights.years_range

    def row(self, name: str) -> Row:
        """All figures of the photo, a file of this name."""
        age = self._editor.prepare(0).age
        row: Row = {
            "file": name,
            "age": age,
            "monotony": self._monotony(age),
            "strict": self._strict(age),
        }
        if self._is_judged(age, 30):
            row["plus30"] = self._cell(age, 30)
        if self._is_judged(age, -20):
            row["minus20"] = self._cell(age, -20)
        if self._is_judged(age, 17):
            row["plus17"] = self._cell(age, 17)
        return row

    def _is_judged(self, age: float, years: int) -> bool:
        """Whether an edit by `years` makes sense for a face that looks `age` years old."""
        on_slider = self._lowest <= years <= self._highest
        grown = years > 0 or age > YOUNGER_FROM
        return on_slider and grown and JUDGED_AGES[0] <= age + years <= JUDGED_AGES[1]

    def _judged(self, age: float, years: float, submodel: Submodel, strict: bool = False) -> _Judged:
        edit = self._editor.edit(years, submodel=submodel, strict=strict)
        reading = self._editor.read(edit)
        return _Judged(edit, reading["age_after"] - age, reading["identity"], reading["identity_l2"])

    def _cell(self, age: float, years: int) -> Cell:
        readout = self._engine.readout
        photo = self._editor.view()
        prepared = self._editor.prepare(0)
        crop = prepared.crop
        full = self._judged(age, years, self.full)
        small = self._judged(age, years, self.smallest)
        shown = self._editor.crop(full.edit)
        small_shown = self._editor.crop(small.edit)
        moved = expression_change(self._engine, self._editor, full.edit)
        return {
            "change": full.change,
            "cosine": full.cosine,
            "l2": full.l2,
            "flip": (readout.age(shown).male > 0.5) != (readout.age(crop).male > 0.5),
            "mood": bool(
                readout.expression_probabilities(shown).argmax()
                == readout.expression_probabilities(crop).argmax()
            ),
            "expression": None if moved is None else moved.round(4).tolist(),
            "small_change": small.change,
            "small_l2": small.l2,
            "small_mse": float(np.mean((shown / 255 - small_shown / 255) ** 2)),
            "outside": outside(self._editor, full.edit),
            "background": self._background.changed(photo, full.edit.picture, prepared.face.frame),
        }

    def _monotony(self, age: float) -> float | None:
        steps = [
            years
            for years in JOURNEY
            if self._lowest <= years <= self._highest
            and JUDGED_AGES[0] + JOURNEY_FROM <= age + years <= JUDGED_AGES[1]
        ]
        if len(steps) < JOURNEY_STEPS:
            return None
        return rank_correlation(steps, [self._judged(age, years, self.full).change for years in steps])

    def _strict(self, age: float) -> StrictRow:
        now = self._judged(age, 0, self.full, strict=True)
        older = self._judged(age, min(STRICT_YEARS, self._highest), self.full, strict=True)
        return {"l2_at_0": now.l2, "change_at_30": older.change - now.change}


def expression_change(engine: Engine, editor: AgeEditor, edit: Edit) -> npt.NDArray[np.float64] | None:
    """By how much the first face's `estimators.expression_measures` (5,) differ from the photo's.

    None where no face is found any more.
    """
    try:
        faces = engine.find_faces(edit.picture)
    except AgeEditError:
        return None
    before = editor.faces[0].points
    centre = before.mean(0)
    apart = [np.linalg.norm(face.points.mean(0) - centre) for face in faces]
    after = faces[int(np.argmin(apart))].points
    return expression_measures(after) - expression_measures(before)


def outside(editor: AgeEditor, edit: Edit) -> int:
    """Largest change, in levels of 255, of a pixel that neither the first face's mask nor its hair beyond
    reaches: 0 if nothing else moves.
    """
    photo = editor.view()
    assert photo is not None  # an edit of it exists
    shape = photo.shape[:2]
    prepared = editor.prepare(0)
    reached = unalign(prepared.mask, prepared.face, shape) != 0
    reached |= unalign(prepared.beyond.weight, prepared.beyond.face, shape) != 0
    interpolated = cv2.dilate(reached.astype(np.uint8), np.ones((REACH, REACH), np.uint8)) > 0
    apart = np.abs(edit.picture.astype(np.int16) - photo).max(2)
    return int(apart[~interpolated].max(initial=0))


def summary(rows: Sequence[Row]) -> Summary:
    """The figures over all rows; None where no photo qualified."""
    monotony = [row["monotony"] for row in rows if row["monotony"] is not None]
    return {
        "plus30": _summarize([row["plus30"] for row in rows if "plus30" in row], older=True),
        "minus20": _summarize([row["minus20"] for row in rows if "minus20" in row], older=False),
        "plus17": _summarize([row["plus17"] for row in rows if "plus17" in row], older=True),
        "rank_correlation_median": round(float(np.median(monotony)), 3) if monotony else None,
        "strict": {
            "l2_at_0": round(float(np.mean([row["strict"]["l2_at_0"] for row in rows])), 3),
            "change_at_30": round(float(np.mean([row["strict"]["change_at_30"] for row in rows])), 3),
        },
    }


def _summarize(cells: Sequence[Cell], older: bool) -> CellSummary:
    """older: whether the edits should look older, or younger."""
    backgrounds = [cell["background"] for cell in cells if cell["background"] is not None]
    return {
        "photos": len(cells),
        "judged_change": _mean([cell["change"] for cell in cells]),
        "cosine": _mean([cell["cosine"] for cell in cells]),
        "l2": _mean([cell["l2"] for cell in cells]),
        "same_person": _mean([cell["l2"] < SAME_PERSON for cell in cells]),
        "gender_flips": _mean([cell["flip"] for cell in cells]),
        "expression_kept": _mean([_keeps_expression(cell["expression"]) for cell in cells]),
        "expression_read_alike": _mean([cell["mood"] for cell in cells]),
        "mouth_corners_lower": _mean([cell["expression"][0] if cell["expression"] else 0 for cell in cells]),
        "right_direction": _mean([(cell["change"] > 0) == older for cell in cells]),
        "smallest_judged_change": _mean([cell["small_change"] for cell in cells]),
        "smallest_age_difference": _mean([abs(cell["small_change"] - cell["change"]) for cell in cells]),
        "smallest_mse": _mean([cell["small_mse"] for cell in cells], digits=6),
        "outside_the_mask": max((cell["outside"] for cell in cells), default=None),
        "background_changed": _mean([share > BACKGROUND.much for share in backgrounds]),
    }


def _keeps_expression(moved: list[float] | None) -> bool:
    """Whether every measure stays within SAME_EXPRESSION; not where no face was found."""
    return moved is not None and bool((np.abs(moved) <= SAME_EXPRESSION).all())


def _mean(values: Sequence[float], digits: int = 3) -> float | None:
    """The mean, or of truths their share; None of nothing."""
    return round(float(np.mean(values)), digits) if values else None
