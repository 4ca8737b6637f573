"""S11/S61: find faces, one similarity transform into the reference position, and its exact inverse."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from agedit.compat import mediapipe_solutions
from agedit.errors import AgeEditError
from agedit.paths import weights_folder

# Reference position in a unit square: both eye centres and both mouth corners of an average FFHQ-framed face.
TEMPLATE = np.array([[0.3799, 0.4767], [0.6201, 0.4767], [0.3877, 0.7278], [0.6123, 0.7278]])
EYE_MOUTH = ((33, 133), (362, 263), (61,), (291,))  # face-mesh points behind the four
OVAL = (
    10,
    338,
    297,
    332,
    284,
    251,
    389,
    356,
    454,
    323,
    361,
    288,
    397,
    365,
    379,
    378,
    400,
    377,
    152,
    148,
    176,
    149,
    150,
    136,
    172,
    58,
    132,
    93,
    234,
    127,
    162,
    21,
    54,
    103,
    67,
    109,
)
LIPS = (
    61,
    146,
    91,
    181,
    84,
    17,
    314,
    405,
    321,
    375,
    291,
    409,
    270,
    269,
    267,
    0,
    37,
    39,
    40,
    185,
)  # their outer outline
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),  # between the lids
    (362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398),
)
NOSE = (
    168,
    122,
    351,
    188,
    412,
    174,
    399,
    198,
    420,
    131,
    360,
    48,
    278,
    64,
    294,
    98,
    327,
    2,
)  # on it; its hull is the nose
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))  # centre, then rim
MOST_FACES = 20  # of one photo, the largest: a crowd must not keep everybody else waiting
MIN_FRAME, MAX_YAW = 64, 60  # pixels of the photo across the template; degrees


@dataclass
class Face:
    """One face: `points` (478, 2) photo pixels, `yaw` in degrees, `matrix` (2, 3) photo pixels -> unit square."""

    points: np.ndarray
    yaw: float
    matrix: np.ndarray

    @property
    def frame(self):
        """Edge of the template square in photo pixels."""
        return 1.0 / np.hypot(*self.matrix[:, 0])

    def to_crop(self, size):
        """(2, 3) matrix from photo pixel centres to the pixel centres of a size x size crop."""
        m = self.matrix * size
        m[:, 2] += m[:, :2] @ (0.5, 0.5) - 0.5  # pixel i covers [i, i + 1) of the plane
        return m

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


def similarity(source, target):
    """Least-squares rotation, uniform scale and shift (Umeyama 1991): (2, 3) with target = M [source, 1]."""
    cs, ct = source.mean(0), target.mean(0)
    s = (source - cs) @ (1, 1j)
    t = (target - ct) @ (1, 1j)
    a = np.vdot(s, t) / np.vdot(s, s)
    rotation = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([rotation, ct - rotation @ cs])


class FaceFinder:
    """YuNet proposes faces of any size, MediaPipe's face mesh places 478 landmarks on each.

    Not thread-safe: MediaPipe graphs keep state between calls.
    """

    def __init__(self, models: Path | None = None) -> None:
        path = (models or weights_folder()) / "face_detection_yunet.onnx"
        if not path.exists():
            raise AgeEditError(f"The face detector is missing at {path}; fetch the weights folder again.")
        self.detector_model = str(path)
        self.mesh = mediapipe_solutions().face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
        )

    def find(self, rgb):
        """All faces of RGB uint8 (H, W, 3), the MOST_FACES largest, largest first; raises AgeEditError when there is none."""
        boxes = self._boxes(rgb, 640)
        if not len(boxes) and max(rgb.shape[:2]) > 640:
            boxes = self._boxes(rgb, 1600)
        if not len(boxes):  # a crop tighter than the detector likes: give it some surroundings
            pad = max(rgb.shape[:2]) // 3
            boxes = self._boxes(cv2.copyMakeBorder(rgb, pad, pad, pad, pad, cv2.BORDER_REPLICATE), 640)
            boxes[:, [0, 1, 4, 5, 6, 7]] -= pad
        boxes, faces = sorted(boxes, key=lambda box: -box[2] * box[3])[:MOST_FACES], []
        for face in sorted(
            filter(None, (self._landmarks(rgb, box) for box in boxes)), key=lambda face: -face.frame
        ):
            centre = face.points.mean(0)  # two boxes may end on one face: keep it once
            if all(np.linalg.norm(centre - f.points.mean(0)) > 0.25 * f.frame for f in faces):
                faces.append(face)
        if not faces:
            raise AgeEditError(
                "No face was found; use a photo where a face is clearly visible from the front."
            )
        return faces

    def _boxes(self, rgb, limit):
        height, width = rgb.shape[:2]
        scale = min(1.0, limit / max(height, width))
        small = cv2.resize(
            rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
        # opened anew each time, in 5 ms: what it has computed in stays allocated, 44 MB for 640 pixels
        detector = cv2.FaceDetectorYN.create(
            self.detector_model, "", (small.shape[1], small.shape[0]), 0.7, 0.3, 50
        )
        found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
        return np.zeros((0, 15)) if found is None else found / scale

    def _landmarks(self, rgb, box, size=256):
        centre = box[:2] + box[2:4] / 2
        eyes = box[6:8] - box[4:6]
        angle = np.arctan2(eyes[1], eyes[0])  # upright for the mesh, however the head is tilted
        scale = size / (1.6 * max(box[2], box[3]))
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        crop_from_photo = np.column_stack([turn, size / 2 - turn @ centre])
        crop = warp(rgb, crop_from_photo, size)
        result = self.mesh.process(crop).multi_face_landmarks
        if not result:
            return None
        mesh = np.array([(p.x, p.y, p.z) for p in result[0].landmark]) * size
        points = cv2.transform(mesh[None, :, :2], cv2.invertAffineTransform(crop_from_photo))[0]
        across = mesh[263] - mesh[33]
        yaw = float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))
        anchors = np.array([points[list(i)].mean(0) for i in EYE_MOUTH])
        # landmarks are in pixels with the origin at a pixel's corner, as the template is
        return Face(points, yaw, similarity(anchors, TEMPLATE))


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
