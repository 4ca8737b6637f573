"""Shapes drawn around landmarks: filled outlines, and discs to widen or narrow them by."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt


def pixels(points: npt.NDArray[np.floating], outline: Sequence[int]) -> npt.NDArray[np.int32]:
    """The landmarks of an outline, rounded to whole pixels: (len(outline), 2)."""
    return np.round(points[list(outline)]).astype(np.int32)


def fill(picture: npt.NDArray[np.uint8], points: npt.NDArray[np.floating], outline: Sequence[int]) -> None:
    """Fill the polygon through the landmarks of an outline with 255, in place."""
    cv2.fillPoly(picture, [pixels(points, outline)], (255,))


def disc(share: float, size: int) -> npt.NDArray:
    """A disc as a morphological kernel, `share` of `size` pixels across, an odd number."""
    edge = int(size * share) | 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
