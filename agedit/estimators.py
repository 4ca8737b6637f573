"""Apparent age, gender, expression and identity of an aligned face, by small third-party networks (see the
model card).
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from agedit.align import EYE_CORNERS, TEMPLATE, pixel_centres, similarity, warp
from agedit.manifest import AGE_NETWORK, EXPRESSION_NETWORK, IDENTITY_NETWORK

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Crop = npt.NDArray[np.uint8]
"""An aligned face, RGB uint8 (S, S, 3)."""

Matrix = npt.NDArray[np.float64]
"""An affine map (2, 3) from the unit square of an aligned face to that of a network's input."""

AGE_INPUT = 112
"""Edge of the age network's input, and of the expression network's, in pixels."""

IDENTITY_INPUT = 150
"""Edge of the identity network's input, in pixels."""


class Square(NamedTuple):
    """An upright square in the unit square of an aligned face."""

    left: float
    top: float
    edge: float


def _crop_matrix(square: Square) -> Matrix:
    """The map of `square` to the unit square."""
    left = -square.left / square.edge
    top = -square.top / square.edge
    return np.array([[1 / square.edge, 0, left], [0, 1 / square.edge, top]])


AGE_BOX = Square(left=0.1925, top=0.2720, edge=0.6100)
"""What the age network wants, the detector's box: the square of lowest error on 250 labelled photos."""

AGE_CROP = _crop_matrix(AGE_BOX)

DLIB_MEAN = np.array([[0.2282, 0.2241], [0.7521, 0.2241], [0.2541, 0.7802], [0.7261, 0.7802]])
"""dlib's mean face: both eye centres and both mouth corners (4, 2) in its unit square."""

DLIB_PADDING = 0.25
"""Of the chip that dlib's identity network wants, on each side, as a share of the mean face's square."""

IDENTITY_CROP = similarity(TEMPLATE, (DLIB_MEAN + DLIB_PADDING) / (1 + 2 * DLIB_PADDING))

SAME_PERSON = 0.6
"""L2 distance between embeddings below which dlib says that two faces are one person's."""

EXPRESSION_CLASSES = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""The outputs of the expression network."""

EXPRESSION_MEASURES = ("mouth_corner_drop", "mouth_open", "mouth_width", "brow_height", "brow_gap")
"""What `expression_measures` measures, in distances between the eyes."""

SAME_EXPRESSION = np.array([0.022, 0.045, 0.07, 0.045, 0.04])
"""Most that each of EXPRESSION_MEASURES may differ while a face's expression stays."""

# Landmarks of MediaPipe's face mesh, by their numbers.
MOUTH_CORNERS = [61, 291]
LIPS_MIDDLE = [13, 14]
INNER_BROWS = [107, 336]


class AgeGender(NamedTuple):
    """Apparent age in years, and the probability of male in 0..1."""

    years: float
    male: float


class IdentityDistance(NamedTuple):
    """Of two embeddings: L2 distance, and cosine in -1..1."""

    l2: float
    cosine: float


def judge_crop(crop: Crop, matrix: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.float32]:
    """float32 (3, size, size) in 0..255 cut from an aligned RGB uint8 (S, S, 3) by a `Matrix`."""
    pixels = matrix * size
    pixels[:, :2] /= crop.shape[0]
    return warp(crop, pixel_centres(pixels), size).astype(np.float32).transpose(2, 0, 1)


class Estimators:
    """The networks that judge a face, each opened when it is first asked, but for the age network, which
    always is.

    Args:
        open_session: name of a file in the weights folder -> its ONNX Runtime session.
    """

    def __init__(self, open_session: Callable[[str], "InferenceSession"]) -> None:
        self._open = open_session
        self._age_session = open_session(AGE_NETWORK)

    def age(self, crop: Crop) -> AgeGender:
        """Apparent age and gender of an aligned RGB uint8 (S, S, 3)."""
        years, logits = _run(self._age_session, judge_crop(crop, AGE_CROP, AGE_INPUT))
        logits = np.asarray(logits).ravel()
        male = 1 / (1 + np.exp(logits[1] - logits[0]))
        return AgeGender(float(np.ravel(years)[0]), float(male))

    def expression_probabilities(self, crop: Crop) -> npt.NDArray[np.float32]:
        """Probabilities of EXPRESSION_CLASSES, float32 (7,), for an aligned RGB uint8 (S, S, 3)."""
        logits = np.ravel(_run(self._expression_session, judge_crop(crop, AGE_CROP, AGE_INPUT))[0])
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    def embed(self, crop: Crop) -> npt.NDArray[np.float32]:
        """Identity embedding, float32 (128,), of an aligned RGB uint8 (S, S, 3)."""
        return np.ravel(_run(self._identity_session, judge_crop(crop, IDENTITY_CROP, IDENTITY_INPUT))[0])

    @cached_property
    def _expression_session(self) -> "InferenceSession":
        """Not opened by the page, which never asks."""
        return self._open(EXPRESSION_NETWORK)

    @cached_property
    def _identity_session(self) -> "InferenceSession":
        """26 MB, and most moves of the slider do not ask."""
        return self._open(IDENTITY_NETWORK)


def _run(session: "InferenceSession", x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """All outputs for one input without its batch dimension."""
    outputs = session.run(None, {session.get_inputs()[0].name: x[None]})
    return cast(list[npt.NDArray[np.float32]], outputs)


def expression_measures(points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """EXPRESSION_MEASURES of a face's landmarks (478, 2), float (5,), in distances between the eyes.

    How far the corners of the mouth lie under its middle, its opening and width; how high the brows' inner
    ends stand over the eyes, and how far apart. Measured along the line between the eyes and across it, so a
    tilted head changes nothing.
    """
    left_eye, right_eye = (points[list(corners)].mean(0) for corners in EYE_CORNERS)
    x, y = _along_eyes(points, np.array([left_eye, right_eye]))
    upper_lip, lower_lip = LIPS_MIDDLE
    left_corner, right_corner = MOUTH_CORNERS
    left_brow, right_brow = INNER_BROWS
    return np.array(
        [
            y[MOUTH_CORNERS].mean() - y[LIPS_MIDDLE].mean(),
            y[lower_lip] - y[upper_lip],
            x[right_corner] - x[left_corner],
            -y[INNER_BROWS].mean(),
            x[right_brow] - x[left_brow],
        ]
    )


def _along_eyes(points: npt.NDArray[np.floating], eyes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(2, N): x along the line between the `eyes` (2, 2), y down across it; the eyes' middle is the origin
    and their distance 1.
    """
    dx, dy = eyes[1] - eyes[0]
    turn = np.array([[dx, -dy], [dy, dx]])
    return ((points - eyes.mean(0)) @ turn / (dx * dx + dy * dy)).T


def identity(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> IdentityDistance:
    """How far two embeddings (128,) are apart; under SAME_PERSON the network says it is one person."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return IdentityDistance(float(np.linalg.norm(a - b)), float(a @ b / lengths))
