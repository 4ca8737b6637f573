"""What covers the lower face, a mask or a scarf: nothing of it may change.

The lips tell: those of a face that shows are redder than its skin, or as red; where they are far less so,
something else is seen in their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import EYES, LIPS, OVAL
from agedit.outlines import disc, fill

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""

NOSE_TIP = 4
"""Its landmark."""


@dataclass(frozen=True)
class CoveringSettings:
    """How a covering is told from skin; colours are logarithms of red and blue over green."""

    dark_offset: float = 16.0
    """Levels added to a pixel before its colour is taken: very dark pixels hardly have one."""
    lips: float = 0.12
    """By how much less red than the skin lips are that do not show."""
    skin: float = 0.12
    """Distance of a colour from the skin's up to which it is skin in another light."""
    cloth: float = 0.16
    """Distance from which on it is not."""
    rim: float = 0.03
    """Width, as a share of the crop, by which a covering is dilated: its shadow and its edge."""
    sigma: float = 0.008
    """Blur of its outline, likewise."""
    inset: float = 0.06
    """Width by which the oval is eroded where skin is looked at, likewise."""
    reach: float = 0.05
    """Width by which it is dilated to hold all of a covering: further out is hair, likewise."""


COVERING = CoveringSettings()


def uncovered(crop: Picture, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """How much each place is not covered: float32 (S, S) in 0..1.

    Args:
        crop: an aligned face in ordinary light, RGB uint8 (S, S, 3).
        points: (478, 2) its landmarks in pixels of `crop`.
    """
    size = len(crop)
    colour = _colour(cv2.GaussianBlur(crop, (0, 0), 0.004 * size))
    skin = _median(colour, _upper_face(points, size))
    lips = _median(colour, _filled([LIPS], points, size))
    if skin is None or lips is None or skin[0] - lips[0] < COVERING.lips:
        return np.ones((size, size), np.float32)
    apart = np.linalg.norm(colour - skin, axis=2)
    cloth = np.clip((apart - COVERING.skin) / (COVERING.cloth - COVERING.skin), 0, 1).astype(np.float32)
    below_eyes = int(np.clip(max(points[list(lids), 1].max() for lids in EYES), 0, size))
    cloth[:below_eyes] = 0
    cloth[cv2.dilate(_filled([OVAL], points, size), disc(COVERING.reach, size)) == 0] = 0
    cloth = cv2.morphologyEx(cloth, cv2.MORPH_OPEN, disc(COVERING.rim, size))
    cloth = cv2.dilate(cloth, disc(COVERING.rim, size))
    return (1 - cv2.GaussianBlur(cloth, (0, 0), COVERING.sigma * size)).astype(np.float32, copy=False)


def _colour(picture: MatLike) -> Array:
    """(S, S, 3) to logarithms of red and blue over green, (S, S, 2)."""
    light = np.log(picture.astype(np.float32) + COVERING.dark_offset)
    return light[:, :, [0, 2]] - light[:, :, [1]]


def _upper_face(points: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.uint8]:
    """Where skin shows above the tip of the nose, (S, S)."""
    face = np.asarray(cv2.erode(_filled([OVAL], points, size), disc(COVERING.inset, size)), np.uint8)
    face[int(np.clip(points[NOSE_TIP, 1], 0, size)) :] = 0
    return face & ~_filled(EYES, points, size)


def _filled(
    outlines: Sequence[Sequence[int]], points: npt.NDArray[np.floating], size: int
) -> npt.NDArray[np.uint8]:
    """(S, S), 255 within polygons through landmarks."""
    filled = np.zeros((size, size), np.uint8)
    for outline in outlines:
        fill(filled, points, outline)
    return filled


def _median(colour: Array, where: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
    """The colour (2,) of what is marked; None where nothing is."""
    marked = colour[where > 0]
    return np.median(marked, axis=0) if len(marked) else None
