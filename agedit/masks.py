"""Where a generated change may show: soft masks of face and hair in the reference position.

Hair is what the hair network takes for hair, what another network takes for a person, and what hangs together
with the face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import EYES, IRISES, LIPS, NOSE, OVAL, Face, Neighbour
from agedit.compat import mediapipe_file
from agedit.errors import AgeEditError
from agedit.manifest import HAIR_MODEL
from agedit.outlines import disc, fill
from agedit.paths import weights_folder

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""

PERSON_MODEL = "modules/selfie_segmentation/selfie_segmentation.tflite"
"""File of the network that tells a person from the background, within mediapipe."""

MASK_SIZE = 256
"""Edge of all masks in pixels."""

WIDE = 2.0
"""Edge of the square that is searched for hair, in edges of the reference square."""

VIEWS = (WIDE, 1.5)
"""Edges of the squares that the networks look at for it: in a small picture of a head they overlook some of
what they find in a larger one.
"""


@dataclass(frozen=True)
class FeatureSettings:
    """How much of the photo's own features stays, and how softly they end."""

    lips: float = 0.8
    """Share of the photo's own lips."""
    irises: float = 0.95
    """Share of the photo's own irises."""
    nose: float = 0.7
    """Share of the photo's own nose."""
    lips_sigma: float = 0.006
    """Blur of the lips' outline, as a share of the crop: sigma."""
    irises_sigma: float = 0.004
    """Blur of the irises' outline, likewise."""
    nose_sigma: float = 0.02
    """Blur of the nose's outline, likewise."""
    oversampling: int = 4
    """Outlines are drawn so many times as large: their edges are smooth then."""


@dataclass(frozen=True)
class MaskSettings:
    """The shape of the mask; lengths are shares of the crop."""

    oval_margin: float = 0.05
    """Width of the ellipse by which the landmarks' oval is dilated: ears and jaw."""
    forehead_gap: float = 0.16
    """Widest gap between forehead and hair that is still skin."""
    hair_sigma: float = 0.014
    """Blur of the rim beside hair: hair ends where its own strands do."""
    plain_sigma: float = 0.03
    """Blur of the mask without its hair, which tells where the rim is soft."""
    jaw_inset: float = 0.06
    """Width of the ellipse by which the oval is eroded below the eyes."""
    jaw_sigma: float = 0.016
    """Blur of the eroded oval."""
    jaw_from: float = 0.45
    """Height, from the top, from which on the mask ends inside the face."""
    border: float = 0.07
    """Width of the crop's border in which everything fades out."""


@dataclass(frozen=True)
class HairSettings:
    """Which hair is the face's own."""

    likely: float = 0.3
    """Share of person below which a place is background."""
    sure: float = 0.7
    """Share of person from which on it is none."""
    rim: int = 3
    """Pixels of the wide square by which a person is dilated: strands stand off."""
    connected: float = 0.3
    """Share of hair from which on neighbouring places hang together."""
    margin: float = 0.1
    """Width of the ellipse, as a share of the crop, by which the landmarks' oval is dilated to meet its hair.
    """


FEATURES = FeatureSettings()
MASK = MaskSettings()
HAIR = HairSettings()


class Segmentation:
    """A TensorFlow Lite network that tells how much each place of a picture is hair, or a person."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self._input = details["index"]
        _, height, width, _ = details["shape"].tolist()
        self._size = width, height
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, picture: Picture) -> Array:
        """RGB uint8 (H, W, 3) to float32 (MASK_SIZE, MASK_SIZE) in 0..1, stretched to a square."""
        small = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._interpreter.set_tensor(self._input, small[None].astype(np.float32) / 255)
        self._interpreter.invoke()
        coarse = self._interpreter.get_tensor(self._output)[0, ..., 0]
        return cv2.resize(coarse, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_LINEAR)


class Masker:
    """Masks of aligned faces. Not thread-safe: networks keep their tensors between calls.

    Args:
        models: folder of the hair network; default: the weights folder.

    Raises:
        AgeEditError: the network is missing.
    """

    def __init__(self, models: Path | None = None) -> None:
        path = (models or weights_folder()) / HAIR_MODEL
        if not path.exists():
            raise AgeEditError(f"The hair network is missing at {path}; fetch the weights folder again.")
        self._hair = Segmentation(path)
        self._person = Segmentation(mediapipe_file(PERSON_MODEL))

    def hair(self, crop: Picture) -> Array:
        """How much each place of an aligned RGB uint8 (S, S, 3) is hair: float32 (256, 256) in 0..1.

        The network is too coarse for single strands and for the rim before a bright wall; a guided filter
        (He et al., 2010) takes them from the photo.
        """
        hair = cv2.GaussianBlur(np.clip(self._hair(crop) * 1.6 - 0.3, 0, 1), (0, 0), MASK_SIZE * 0.006)
        guide = cv2.resize(crop, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
        matte = cv2.ximgproc.guidedFilter(guide, cv2.dilate(hair, np.ones((3, 3))) * 255, 10, 60) / 255
        return np.clip(matte * 1.4 - 0.2, 0, 1)

    def own_hair(self, crop: Picture, views: Mapping[float, Picture], face: Face) -> tuple[Array, Array]:
        """How much each place is hair of this head.

        Args:
            crop: RGB uint8 (S, S, 3), the aligned face.
            views: {edge in reference squares: that square, RGB uint8}, for all of VIEWS.
            face: whose reference square `crop` shows.

        Returns:
            float32 (256, 256) in 0..1 of the reference square, and of the wide one around it.
        """
        person = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
        wide = person.copy()
        for edge, view in views.items():
            person = np.maximum(person, centred(self._person(view), edge))
            wide = np.maximum(wide, centred(self.hair(view), edge))
        person = np.clip((person - HAIR.likely) / (HAIR.sure - HAIR.likely), 0, 1)
        person = cv2.dilate(person, np.ones((HAIR.rim, HAIR.rim)))
        hair = self.hair(crop) * _centre_of(person)
        wide = wide * person
        own = connected_to_face(hair, wide, face)
        return hair * _centre_of(own), wide * own

    @staticmethod
    def mask(hair: Array, face: Face, shape: tuple[int, ...]) -> Array:
        """What may change, face, ears, throat and `hair`: float32 (256, 256) in 0..1.

        It fades out towards the crop's edge and is 0 outside the photo.

        Args:
            hair: see `hair`.
            shape: the photo's (H, W).
        """
        landmarks = face.in_square(MASK_SIZE)
        outline = landmarks[list(OVAL)]
        oval = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
        cv2.fillConvexPoly(oval, np.round(outline).astype(np.int32), (1.0,))
        mask = np.maximum(cv2.dilate(oval, disc(MASK.oval_margin, MASK_SIZE)), hair)
        _close_forehead(mask, outline)
        mask = _soften(mask, hair)
        mask += _jaw_limit(mask, oval, hair)
        mask *= 1 - own_features(landmarks, MASK_SIZE)
        # dilated: the photo's own edge cuts exactly
        inside = cv2.dilate(warp_inside(face, shape, MASK_SIZE), np.ones((5, 5)))
        return mask * _border(MASK_SIZE) * inside


def centred(v: Array, edge: float) -> Array:
    """A square of `edge` reference squares in its place in the wide one: (256, 256), zeros around it."""
    size = round(MASK_SIZE * edge / WIDE)
    before = (MASK_SIZE - size) // 2
    after = MASK_SIZE - size - before
    return np.pad(cv2.resize(v, (size, size), interpolation=cv2.INTER_AREA), (before, after))


def _centre_of(wide: Array) -> Array:
    """The reference square of the wide one, (256, 256)."""
    size = round(MASK_SIZE / WIDE)
    before = (MASK_SIZE - size) // 2
    inner = wide[before : before + size, before : before + size]
    return cv2.resize(inner, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_LINEAR)


def connected_to_face(hair: Array, wide: Array, face: Face) -> npt.NDArray[np.float32]:
    """Which places of the wide square belong to hair that reaches the face: (256, 256), 0 or 1.

    Args:
        hair: (256, 256) in 0..1 of the reference square, seen there more clearly than in `wide`.
        wide: alike, of the wide square.
    """
    within = centred(np.ones_like(hair), 1) > 0
    seen = np.where(within, centred(hair, 1), wide)
    labels = cv2.connectedComponents((seen > HAIR.connected).astype(np.uint8))[1]
    outline = cv2.transform(face.points[None, list(OVAL)], face.widened(WIDE).matrix)[0] * MASK_SIZE
    oval = np.zeros((MASK_SIZE, MASK_SIZE), np.uint8)
    cv2.fillConvexPoly(oval, np.round(outline).astype(np.int32), (1,))
    near = cv2.dilate(oval, disc(HAIR.margin / WIDE, MASK_SIZE)) > 0
    own = np.isin(labels, np.unique(labels[near])) & (labels > 0)
    return cv2.dilate(own.astype(np.float32), np.ones((3, 3))).astype(np.float32, copy=False)


def _close_forehead(mask: Array, outline: npt.NDArray[np.floating]) -> None:
    """Close the gap between the landmarks' oval and the hair, in place, above the eyes only.

    Args:
        outline: (36, 2), the oval's points in pixels.
    """
    gap = disc(MASK.forehead_gap, MASK_SIZE)
    pad = len(gap)
    padded = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, gap)[pad:-pad, pad:-pad]
    left = int(np.clip(outline[:, 0].min(), 0, MASK_SIZE))
    right = int(np.clip(outline[:, 0].max(), 0, MASK_SIZE))
    upper = MASK_SIZE // 2
    mask[:upper, left:right] = closed[:upper, left:right]


def _soften(mask: Array, hair: Array) -> Array:
    """The mask with soft rims, but for the hair's: its own strands end it, and a soft rim would stay dark."""
    soft = cv2.GaussianBlur(mask, (0, 0), MASK_SIZE * MASK.hair_sigma)
    plain = cv2.GaussianBlur(np.maximum(mask - hair, 0), (0, 0), MASK_SIZE * MASK.plain_sigma)
    return hair + (soft - hair) * np.clip(8 * plain, 0, 1)


def _jaw_limit(mask: Array, oval: Array, hair: Array) -> Array:
    """What is taken off (0 or less) so that the mask ends inside the face below the eyes.

    A jaw that is drawn elsewhere would leave a pale rim on what is behind it.
    """
    inner = np.maximum(cv2.erode(oval, disc(MASK.jaw_inset, MASK_SIZE)), hair)
    inner = cv2.GaussianBlur(inner, (0, 0), MASK_SIZE * MASK.jaw_sigma)
    heights = np.arange(MASK_SIZE, dtype=np.float32) / MASK_SIZE
    lower = np.clip((heights - MASK.jaw_from) * 10, 0, 1)[:, None]
    return lower * np.minimum(inner - mask, 0)


def ramp(size: int) -> Array:
    """How a square fades out towards its edges: float32 (size,) in 0..1."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
    near = np.clip(distance / (size * MASK.border), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)


def _border(size: int) -> Array:
    """`ramp` in both directions: float32 (size, size) in 0..1."""
    return np.outer(ramp(size), ramp(size))


def _places(square: Face, size: int) -> npt.NDArray[np.float64]:
    """Where in the photo each pixel of a face's reference square lies: (size, size, 2), pixel centres."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(float)
    return cv2.transform(grid, cv2.invertAffineTransform(square.to_crop(size))).astype(float, copy=False)


def warp_inside(face: Face, shape: tuple[int, ...], size: int) -> Array:
    """float32 (size, size): 1 where the reference square shows the photo, 0 where it reaches beyond it.

    Args:
        shape: the photo's (H, W, ...).
    """
    places = _places(face, size)
    return ((places > -0.5) & (places < np.array(shape[1::-1]) - 0.5)).all(-1).astype(np.float32)


def own_share(square: Face, face: Face, others: Sequence[Face | Neighbour], size: int) -> Array:
    """How much nearer each place is to `face` than to any other head: float32 (size, size) in 0..1.

    Distances are measured in frames of each head. 1 everywhere without `others`.

    Args:
        square: the face whose reference square is shown.
    """
    if not others:
        return np.ones((size, size), np.float32)
    places = _places(square, size)

    def distance(head: Face | Neighbour) -> npt.NDArray[np.float64]:
        return np.linalg.norm(places - head.centre, axis=2) / head.frame

    ahead = np.min([distance(other) for other in others], axis=0) - distance(face)
    return np.clip(5 * ahead + 0.5, 0, 1).astype(np.float32)


def own_features(points: npt.NDArray[np.floating], size: int) -> Array:
    """How much of the photo's own lips, irises and nose stays: float32 (size, size) in 0..1.

    Lips are the expression and irises are the person: drawn older the ones turn down and the others lighten,
    as the teacher's do. A nose got dark flanks and a bright ridge, as if it were another one, and a red one
    lost its red.

    Args:
        points: (478, 2) landmarks in pixels of the result.
    """
    fine = points * FEATURES.oversampling
    edge = size * FEATURES.oversampling
    lips = np.zeros((edge, edge), np.uint8)
    fill(lips, fine, LIPS)
    eyes = np.zeros((edge, edge), np.uint8)
    for lids in EYES:
        fill(eyes, fine, lids)
    irises = np.zeros((edge, edge), np.uint8)
    for centre, *rim in IRISES:
        radius = float(np.linalg.norm(fine[rim] - fine[centre], axis=1).mean())
        x, y = np.round(fine[centre]).astype(int).tolist()
        cv2.circle(irises, (x, y), round(radius), (255,), -1)
    nose = np.zeros((edge, edge), np.uint8)
    hull = cv2.convexHull(np.round(fine[list(NOSE)]).astype(np.int32))
    cv2.fillConvexPoly(nose, hull, (255,))
    return np.maximum.reduce(
        [
            FEATURES.lips * _soft(lips, size, FEATURES.lips_sigma),
            FEATURES.irises * _soft(irises & eyes, size, FEATURES.irises_sigma),
            FEATURES.nose * _soft(nose, size, FEATURES.nose_sigma),
        ]
    )


def _soft(picture: Picture, size: int, sigma: float) -> Array:
    """A filled outline, shrunk to (size, size) in 0..1 and blurred by a `sigma` in shares of the crop."""
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(small, (0, 0), size * sigma)
