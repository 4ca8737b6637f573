"""Apparent age, gender, expression and identity of an aligned face, by small third-party networks (see the model card)."""

import numpy as np

from agedit.align import TEMPLATE, similarity, warp

# Where the judges look, as unit-square -> unit-square matrices. The age network wants the detector's box as an upright
# square (its edge and height tuned on labelled photos); the identity network wants dlib's chip with padding 0.25.
AGE_BOX = (0.1925, 0.2720, 0.6100)  # left, top, edge: lowest error on 250 labelled photos
AGE_CROP = np.array(
    [[1 / AGE_BOX[2], 0, -AGE_BOX[0] / AGE_BOX[2]], [0, 1 / AGE_BOX[2], -AGE_BOX[1] / AGE_BOX[2]]]
)
DLIB_MEAN = np.array(
    [[0.2282, 0.2241], [0.7521, 0.2241], [0.2541, 0.7802], [0.7261, 0.7802]]
)  # eyes, mouth corners
IDENTITY_CROP = similarity(TEMPLATE, (DLIB_MEAN + 0.25) / 1.5)
SAME_PERSON = 0.6  # L2 between embeddings below which dlib says "same"


def judge_crop(crop, matrix, size):
    """float32 (3, size, size) in 0..255 cut from an aligned RGB (S, S, 3) by a unit -> unit matrix."""
    s = crop.shape[0]
    m = matrix * size
    m[:, :2] /= s
    m[:, 2] += m[:, :2] @ (0.5, 0.5) - 0.5
    return warp(crop, m, size).astype(np.float32).transpose(2, 0, 1)


class Estimators:
    """The judges. `open_session(name)` returns an ONNX Runtime session for a file in the weights folder."""

    def __init__(self, open_session):
        self._open, self._mood, self._identity = open_session, None, None
        self._age = open_session("age_gender_faceapi.onnx")

    def age(self, crop):
        """(age in years, probability of male in 0..1) for an aligned RGB uint8 (S, S, 3)."""
        years, logits = self._run(self._age, judge_crop(crop, AGE_CROP, 112))
        logits = np.asarray(logits).ravel()
        return float(np.ravel(years)[0]), float(1 / (1 + np.exp(logits[1] - logits[0])))

    def mood(self, crop):
        """Probabilities of EXPRESSIONS, float32 (7,), for an aligned RGB uint8 (S, S, 3)."""
        self._mood = self._mood or self._open("expression_faceapi.onnx")  # the app never asks
        logits = np.ravel(self._run(self._mood, judge_crop(crop, AGE_CROP, 112))[0])
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    def embed(self, crop):
        """Identity embedding, float32 (128,)."""
        self._identity = self._identity or self._open(
            "identity_dlib.onnx"
        )  # 26 MB, and most moves of the slider do not ask
        return np.ravel(self._run(self._identity, judge_crop(crop, IDENTITY_CROP, 150))[0])

    @staticmethod
    def _run(session, x):
        return session.run(None, {session.get_inputs()[0].name: x[None]})


EXPRESSIONS = (
    "neutral",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgusted",
    "surprised",
)  # the expression network's outputs
EXPRESSION = ("mouth_corner_drop", "mouth_open", "mouth_width", "brow_height", "brow_gap")
SAME_EXPRESSION = np.array(
    [0.022, 0.045, 0.07, 0.045, 0.04]
)  # most that each may differ while a face's expression stays


def expression(points):
    """EXPRESSION of a face's landmarks (478, 2), float (5,), each in distances between the eyes.

    How far the corners of the mouth lie under its middle, its opening and width; how high the brows' inner ends stand over
    the eyes, and how far apart. Upright, so a tilted head changes nothing.
    """
    eyes = np.array([points[[33, 133]].mean(0), points[[362, 263]].mean(0)])
    (a, b), middle = eyes[1] - eyes[0], eyes.mean(0)
    x, y = ((points - middle) @ np.array([[a, -b], [b, a]]) / (a * a + b * b)).T
    return np.array(
        [
            y[[61, 291]].mean() - y[[13, 14]].mean(),
            y[14] - y[13],
            x[291] - x[61],
            -y[[107, 336]].mean(),
            x[336] - x[107],
        ]
    )


def identity(a, b):
    """(L2 distance, cosine) of two embeddings; under SAME_PERSON the network says it is one person."""
    return float(np.linalg.norm(a - b)), float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
