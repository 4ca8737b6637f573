"""Whether the pictures of a reduced precision (int8, bf16, f16) are right on this processor, told by a real
face.

int8 without int8 instructions saturates: on AVX2 alone OpenVINO's pictures are ten times as far from fp32's
as rounding to int8 explains, and it is quick all the same. Why a picture is wrong does not matter here: it is
looked at.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from agedit.errors import AgeEditError

FACE = Path(__file__).resolve().parent / "reference_face.png"  # London 001 (CC BY 4.0), aligned, 128 px
# Mean difference from fp32's picture, in levels of 255, that a precision may cost at most. Rounding to int8
# costs 0.4 to 0.7 in the released sub-models, to bf16 0.2, to f16 0.03; int8 that saturates costs 4.5 to 5.3.
MOST_LEVELS = 1.0
# How many times what rounding to int8 by itself costs, computed exactly: bf16 between the layers adds a
# fifth, ties a little.
MOST_TIMES = 1.5

Picture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Precision:
    """What sub-models are computed in, and why.

    name: "f32", "bf16", "f16" or "i8". reason: a sentence.
    """

    name: str
    reason: str


def label(name: str) -> str:
    """How a precision is called: "int8" of "i8"; the others' names are their own."""
    return "int8" if name == "i8" else name


def reference_face() -> npt.NDArray[np.uint8]:
    """An aligned face, RGB uint8 (128, 128, 3). Raises AgeEditError where the file is missing or damaged."""
    picture = cv2.imread(str(FACE), cv2.IMREAD_COLOR)
    if picture is None:
        raise AgeEditError(f"{FACE.name} is missing or damaged; install agedit again.")
    return np.ascontiguousarray(picture[:, :, ::-1])


def difference(pictures: list[Picture], exact: list[Picture]) -> float:
    """Mean absolute difference in levels of 255 of pictures (1, 3, r, r) in about -1..1, the worst of the
    pairs; nan where a value is not finite.
    """
    return float(np.max([np.abs(a - b).mean() * 127.5 for a, b in zip(pictures, exact, strict=True)]))


def tolerance(rounded: float | None = None) -> float:
    """The `difference` that is still right, in levels of 255. rounded: what rounding to int8 costs these very
    pictures.
    """
    return MOST_LEVELS if rounded is None else min(MOST_LEVELS, MOST_TIMES * rounded)
