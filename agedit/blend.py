"""The residual form: the generated change is added to the photo, at the photo's own resolution."""

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import Face, region
from agedit.masks import MASK_SIZE

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""

DIRECT_SCALE = 1.5
"""Up to so many times larger or smaller a change is warped at once, without being resized before."""


def add_change(photo: Picture, change: Array, mask: Array, face: Face) -> Picture:
    """y = photo + U(mask change), where U places the reference square in the photo.

    Args:
        photo: RGB uint8 (H, W, 3).
        change: float32 (r, r, 3) in levels of 255, in the reference position.
        mask: float32 (256, 256) in 0..1.
        face: the face whose inverse transform places the change.

    Returns:
        RGB uint8 (H, W, 3), a new array, equal to `photo` bit for bit wherever the change or the mask is 0.
    """
    layer = _masked(change, mask)
    size = len(layer)
    x0, y0, x1, y1 = region(face.to_crop(size), size, photo.shape, margin=1)
    layer = _resized_for(face, layer)
    to_crop = face.to_crop(len(layer))
    to_crop[:, 2] += to_crop[:, :2] @ (x0, y0)
    placed = cv2.warpAffine(
        layer,
        to_crop,
        (int(x1 - x0), int(y1 - y0)),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0),
    )
    result = photo.copy()
    result[y0:y1, x0:x1] = cv2.add(photo[y0:y1, x0:x1], placed, dtype=cv2.CV_8U)
    return result


def _masked(change: Array, mask: Array) -> Array:
    """mask * change at the larger of both resolutions: (s, s, 3), s = max(r, 256)."""
    r = len(change)
    if r < MASK_SIZE:
        change = cv2.resize(change, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_CUBIC)
    elif r > MASK_SIZE:
        mask = cv2.resize(mask, (r, r), interpolation=cv2.INTER_LINEAR)
    return change * mask[:, :, None]


def _resized_for(face: Face, layer: Array) -> Array:
    """A layer (s, s, 3) near the size at which the photo shows the face, so that it can be warped linearly.

    A face that is smaller gets it shrunk by areas. For a larger one it is enlarged upright, which is quick,
    by a power of two to at least half the size.
    """
    size = len(layer)
    ratio = face.frame / size
    if ratio * DIRECT_SCALE < 1:
        edge = int(np.ceil(face.frame))
        return cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_AREA)
    if ratio > DIRECT_SCALE:
        edge = size * 2 ** max(1, int(np.log2(ratio)))
        return cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_CUBIC)
    return layer


def add_change_to_crop(crop: Picture, change: Array, mask: Array) -> Picture:
    """The same on the aligned crop itself, RGB uint8 (S, S, 3): a new array."""
    size = len(crop)
    layer = cv2.resize(change, (size, size), interpolation=cv2.INTER_CUBIC)
    layer = layer * cv2.resize(mask, (size, size))[:, :, None]
    return np.clip(np.rint(crop + layer), 0, 255).astype(np.uint8)
