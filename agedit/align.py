"""S61: one similarity transform of a face into the reference position, and its exact inverse.

Points are in pixels with the origin at the outer corner of the first pixel, whose centre is at (0.5, 0.5); OpenCV's warps
count from pixel centres, and `pixel_centres` goes from the one to the other.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

# Reference position in a unit square: both eye centres and both mouth corners of an average FFHQ-framed face.
TEMPLATE = np.array([[0.3799, 0.4767], [0.6201, 0.4767], [0.3877, 0.7278], [0.6123, 0.7278]])


def _indices(text: str) -> tuple[int, ...]:
    """Landmark numbers of MediaPipe's face mesh (0..477), written one after the other."""
    return tuple(int(number) for number in text.split())


EYE_MOUTH = ((33, 133), (362, 263), (61,), (291,))  # the landmarks behind the four points of TEMPLATE
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
MIN_FRAME = 64  # pixels of the photo across the template: a smaller face is refused
MAX_YAW = 60  # degrees: a face that is turned further away is refused


@dataclass(frozen=True)
class Neighbour:
    """Another person's head in the photo: its `centre` (2,) and the edge `frame` of its template square, in photo pixels."""

    centre: npt.NDArray[np.floating]
    frame: float


@dataclass
class Face:
    """One face.

    points: (478, 2) photo pixels. yaw: degrees. matrix: (2, 3) photo pixels -> unit square.
    neighbours: heads beside it that are not faces to edit: seen in part, from behind or not clearly.
    """

    points: np.ndarray
    yaw: float
    matrix: np.ndarray
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def centre(self):
        """(2,) photo pixels."""
        return self.points.mean(0)

    @property
    def frame(self):
        """Edge of the template square in photo pixels."""
        return 1.0 / np.hypot(*self.matrix[:, 0])

    def to_crop(self, size):
        """(2, 3) matrix from photo pixel centres to the pixel centres of a size x size crop."""
        return pixel_centres(self.matrix * size)

    def scaled(self, shape, new_shape):
        """The same face in the same photo resized from `shape` (H, W, ...) to `new_shape`."""
        if shape[:2] == new_shape[:2]:
            return self
        factor = np.array([new_shape[1] / shape[1], new_shape[0] / shape[0]])
        return Face(
            self.points * factor, self.yaw, np.column_stack([self.matrix[:, :2] / factor, self.matrix[:, 2]])
        )

    def widened(self, times):
        """The same face in a square whose edges are `times` as long, around the same centre."""
        return Face(self.points, self.yaw, self.matrix / times + np.array([[0, 0, 0.5 - 0.5 / times]] * 2))

    def reason_to_refuse(self):
        """A plain sentence, or None for a face that can be edited."""
        if self.frame < MIN_FRAME:
            return "The face is too small; use a photo where it is at least 50 pixels wide."
        if abs(self.yaw) > MAX_YAW:
            return "The face is turned away; use a photo where both eyes are visible."
        return None


def pixel_centres(matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(2, 3) between planes whose pixel i covers [i, i + 1), as a new one between pixel centres, as OpenCV counts."""
    moved = matrix.copy()
    moved[:, 2] += moved[:, :2] @ (0.5, 0.5) - 0.5
    return moved


def similarity(source, target):
    """Least-squares rotation, uniform scale and shift (Umeyama 1991): (2, 3) with target = M [source, 1]."""
    cs, ct = source.mean(0), target.mean(0)
    s = (source - cs) @ (1, 1j)
    t = (target - ct) @ (1, 1j)
    a = np.vdot(s, t) / np.vdot(s, s)
    rotation = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([rotation, ct - rotation @ cs])


def region(matrix, size, shape, margin=4):
    """(x0, y0, x1, y1): the part of a photo of `shape` (H, W, ...) that a size x size crop by `matrix` shows."""
    corners = cv2.transform(
        np.array([[[0, 0], [size, 0], [0, size], [size, size]]], float), cv2.invertAffineTransform(matrix)
    )[0]
    height, width = shape[:2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - margin, 0, (width - 1, height - 1))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + margin, (x0 + 1, y0 + 1), (width, height))
    return x0, y0, x1, y1


def warp(picture, matrix, size):
    """Warp (H, W, C) by `matrix` (2, 3) into size x size; shrinks by areas first so that nothing aliases."""
    scale = np.hypot(*matrix[:, 0])
    x0, y0, x1, y1 = region(
        matrix, size, picture.shape
    )  # OpenCV refuses sides over 32766 pixels, so cut first
    part = picture[y0:y1, x0:x1]
    if scale >= 0.75:
        moved = np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ (x0, y0)])
        return cv2.warpAffine(
            part,
            moved,
            (size, size),
            flags=cv2.INTER_CUBIC if picture.dtype == np.uint8 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    new = np.maximum(np.round(np.array([x1 - x0, y1 - y0]) * scale), 1)
    ratio = new / (x1 - x0, y1 - y0)
    part = cv2.resize(part, tuple(int(v) for v in new), interpolation=cv2.INTER_AREA)
    to_full = np.array(
        [
            [1 / ratio[0], 0, x0 + 0.5 / ratio[0] - 0.5],
            [0, 1 / ratio[1], y0 + 0.5 / ratio[1] - 0.5],
            [0, 0, 1],
        ]
    )
    return cv2.warpAffine(
        part, matrix @ to_full, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def align(rgb, face, size):
    """The face in the reference position: RGB uint8 (size, size, 3); parts outside the photo repeat its edge."""
    return warp(rgb, face.to_crop(size), size)


def unalign(crop, face, shape):
    """The exact inverse of `align`: (S, S, C) back into a photo-sized picture, zeros elsewhere.

    Args:
        shape: (H, W) of the photo.
    """
    return cv2.warpAffine(
        crop, face.to_crop(crop.shape[0]), (shape[1], shape[0]), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    )
