"""S61: one similarity transform of a face into the reference position, and its exact inverse.

Points are in pixels with the origin at the outer corner of the first pixel, whose centre is at (0.5, 0.5);
OpenCV's warps count from pixel centres, and `pixel_centres` goes from the one to the other.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.floating]
Region = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in photo pixels, the last ones excluded."""

# Reference position in a unit square: both eye centres and both mouth corners of an average FFHQ-framed face.
TEMPLATE = np.array([[0.3799, 0.4767], [0.6201, 0.4767], [0.3877, 0.7278], [0.6123, 0.7278]])


def _indices(text: str) -> tuple[int, ...]:
    """Landmark numbers of MediaPipe's face mesh (0..477), written one after the other."""
    return tuple(int(number) for number in text.split())


# corners of the eye on the picture's left and of that on its right, each from left to right
EYE_CORNERS = ((33, 133), (362, 263))
EYE_MOUTH = (*EYE_CORNERS, (61,), (291,))  # the landmarks behind the four points of TEMPLATE
OVAL = _indices(
    "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 "
    "152 148 176 149 150 136 172 58 132 93 234 127 162 21 54 103 67 109"
)
LIPS = _indices("61 146 91 181 84 17 314 405 321 375 291 409 270 269 267 0 37 39 40 185")  # the outer outline
EYES = (  # between the lids
    _indices("33 7 163 144 145 153 154 155 133 173 157 158 159 160 161 246"),
    _indices("362 382 381 380 374 373 390 249 263 466 388 387 386 385 384 398"),
)
NOSE = _indices("168 122 351 188 412 174 399 198 420 131 360 48 278 64 294 98 327 2")  # its hull is the nose
IRISES = (_indices("468 469 470 471 472"), _indices("473 474 475 476 477"))  # centre, then rim

MIN_FRAME = 64
"""Pixels of the photo across the template square: a smaller face is refused."""

MAX_YAW = 60
"""Degrees: a face that is turned further away is refused."""


@dataclass(frozen=True)
class Neighbour:
    """Another person's head, in photo pixels.

    centre: (2,). frame: edge of its template square.
    """

    centre: npt.NDArray[np.floating]
    frame: float


@dataclass
class Face:
    """One face.

    points: (478, 2) landmarks in photo pixels.
    yaw: degrees.
    matrix: (2, 3), photo pixels -> unit square.
    neighbours: heads beside it that are not faces to edit: seen in part, from behind or not clearly.
    """

    points: Points
    yaw: float
    matrix: Points
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def centre(self) -> Points:
        """(2,) photo pixels."""
        return self.points.mean(0)

    @property
    def frame(self) -> float:
        """Edge of the template square in photo pixels."""
        return 1.0 / float(np.hypot(*self.matrix[:, 0]))

    def to_crop(self, size: int) -> Points:
        """(2, 3) matrix from photo pixel centres to the pixel centres of a size x size crop."""
        return pixel_centres(self.matrix * size)

    def scaled(self, shape: tuple[int, ...], new_shape: tuple[int, ...]) -> "Face":
        """The same face in the same photo resized from `shape` (H, W, ...) to `new_shape`."""
        if shape[:2] == new_shape[:2]:
            return self
        factor = np.array([new_shape[1] / shape[1], new_shape[0] / shape[0]])
        matrix = np.column_stack([self.matrix[:, :2] / factor, self.matrix[:, 2]])
        return Face(self.points * factor, self.yaw, matrix)

    def widened(self, times: float) -> "Face":
        """The same face in a square whose edges are `times` as long, around the same centre."""
        start = 0.5 - 0.5 / times
        shift = np.array([[0, 0, start], [0, 0, start]])
        return Face(self.points, self.yaw, self.matrix / times + shift)

    def in_square(self, size: int) -> Points:
        """The landmarks in pixels of the reference square, `size` pixels across: (478, 2)."""
        return cv2.transform(self.points[None], self.matrix)[0] * size

    def reason_to_refuse(self) -> str | None:
        """A plain sentence, or None for a face that can be edited."""
        if self.frame < MIN_FRAME:
            return "The face is too small; use a photo where it is at least 50 pixels wide."
        if abs(self.yaw) > MAX_YAW:
            return "The face is turned away; use a photo where both eyes are visible."
        return None


def pixel_centres(matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """A (2, 3) between planes whose pixel i covers [i, i + 1) as one between pixel centres, for OpenCV."""
    moved = matrix.copy()
    moved[:, 2] += moved[:, :2] @ (0.5, 0.5) - 0.5
    return moved


def similarity(source: Points, target: Points) -> Points:
    """Least-squares rotation, uniform scale and shift (Umeyama 1991): (2, 3) with target = M [source, 1].

    Args:
        source, target: (N, 2).
    """
    source_centre = source.mean(0)
    target_centre = target.mean(0)
    s = (source - source_centre) @ (1, 1j)  # as complex numbers a turn and a scale are one factor
    t = (target - target_centre) @ (1, 1j)
    a = np.vdot(s, t) / np.vdot(s, s)
    rotation = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([rotation, target_centre - rotation @ source_centre])


def region(matrix: Points, size: int, shape: tuple[int, ...], margin: int = 4) -> Region:
    """The part of a photo that a size x size crop by `matrix` shows, and `margin` pixels around it.

    Args:
        shape: the photo's (H, W, ...).
    """
    square = np.array([[[0, 0], [size, 0], [0, size], [size, size]]], float)
    corners = cv2.transform(square, cv2.invertAffineTransform(matrix))[0]
    height, width = shape[:2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - margin, 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + margin, (x0 + 1, y0 + 1), (width, height))
    return int(x0), int(y0), int(x1), int(y1)


def warp(picture: MatLike, matrix: Points, size: int) -> MatLike:
    """Warp (H, W, C) by `matrix` (2, 3) into size x size; the picture's edge repeats outside of it.

    Where it shrinks, it does so by areas first, so that nothing aliases.
    """
    scale = float(np.hypot(*matrix[:, 0]))
    # OpenCV refuses sides over 32766 pixels, so cut first
    x0, y0, x1, y1 = region(matrix, size, picture.shape)
    part: MatLike = picture[y0:y1, x0:x1]
    if scale >= 0.75:
        moved = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ (x0, y0)])
        method = cv2.INTER_CUBIC if picture.dtype == np.uint8 else cv2.INTER_LINEAR
        return cv2.warpAffine(part, moved, (size, size), flags=method, borderMode=cv2.BORDER_REPLICATE)
    width, height = np.maximum(np.round(np.array([x1 - x0, y1 - y0]) * scale), 1)
    across = width / (x1 - x0)
    down = height / (y1 - y0)
    part = cv2.resize(part, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    to_full = np.array(
        [
            [1 / across, 0, x0 + 0.5 / across - 0.5],
            [0, 1 / down, y0 + 0.5 / down - 0.5],
            [0, 0, 1],
        ]
    )
    return cv2.warpAffine(
        part, matrix @ to_full, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def align(rgb: Picture, face: Face, size: int) -> Picture:
    """The face in the reference position: RGB uint8 (size, size, 3); outside the photo its edge repeats."""
    return warp(rgb, face.to_crop(size), size).astype(np.uint8, copy=False)


def unalign(crop: MatLike, face: Face, shape: tuple[int, ...]) -> MatLike:
    """The exact inverse of `align`: (S, S, C) back into a photo-sized picture, zeros elsewhere.

    Args:
        shape: (H, W) of the photo.
    """
    return cv2.warpAffine(
        crop, face.to_crop(crop.shape[0]), (shape[1], shape[0]), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
