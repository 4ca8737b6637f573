"""How much of a photo's background an edit changes, by a network that no edit has seen.

Edits know persons by MediaPipe's general segmentation network; its landscape network is the judge here. It
sees the whole photo, and its mirror image.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from agedit.compat import mediapipe_file
from agedit.masks import Segmentation

Picture = npt.NDArray[np.uint8]

JUDGE_MODEL = "modules/selfie_segmentation/selfie_segmentation_landscape.tflite"
"""File of the judging network within mediapipe."""


@dataclass(frozen=True)
class BackgroundSettings:
    """What is background, and what is changed."""

    person: float = 0.2
    """Share of person up to which a place may be background."""
    margin: float = 0.05
    """Width, in edges of the face's reference square, of the ellipse by which the person is dilated."""
    levels: int = 12
    """Levels of 255 beyond which a pixel is changed."""
    much: float = 0.05
    """Share of the background beyond which too much of it is changed."""
    least: float = 0.01
    """Share of the photo below which there is no background to speak of."""


BACKGROUND = BackgroundSettings()


class BackgroundJudge:
    """Tells which pixels surely show no person, and how many of them an edit changes."""

    def __init__(self) -> None:
        self._network = Segmentation(mediapipe_file(JUDGE_MODEL))

    def background(self, photo: Picture, frame: float) -> npt.NDArray[np.bool_]:
        """Where RGB uint8 (H, W, 3) surely shows no person: (H, W).

        Args:
            frame: edge of the face's reference square in pixels of the photo.
        """
        mirrored = self._network(np.ascontiguousarray(photo[:, ::-1]))[:, ::-1]
        person = np.maximum(self._network(photo), mirrored)
        person = cv2.resize(person, photo.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        edge = int(max(3, BACKGROUND.margin * frame)) | 1
        margin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
        return cv2.dilate((person > BACKGROUND.person).astype(np.uint8), margin) == 0

    def changed(self, photo: Picture, edited: Picture, frame: float) -> float | None:
        """Share, 0..1, of the background that an edit changes; None where there is hardly any background.

        Args:
            photo, edited: RGB uint8 of one shape.
            frame: see `background`.
        """
        background = self.background(photo, frame)
        if background.mean() < BACKGROUND.least:
            return None
        apart = cv2.absdiff(photo, edited).max(2)
        return float((apart[background] > BACKGROUND.levels).mean())
