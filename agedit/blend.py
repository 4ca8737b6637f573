"""The picture: a soft face-and-hair mask, and the generated change added to the photo at its own resolution."""

from pathlib import Path

import cv2
import numpy as np

from agedit.align import EYES, IRISES, LIPS, NOSE, OVAL, region
from agedit.errors import AgeEditError
from agedit.paths import weights_folder

MASK_SIZE, HAIR_SIZE = 256, 160
OWN_LIPS, OWN_IRISES, OWN_NOSE = 0.8, 0.95, 0.7  # share of the photo's own that stays
RIM = 0.16  # widest gap between forehead and hair that is still skin, in crops


class Masker:
    """Soft masks in the reference position. Not thread-safe."""

    def __init__(self, models: Path | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        path = (models or weights_folder()) / "hair_segmentation_mobile.tflite"
        if not path.exists():
            raise AgeEditError(f"The hair network is missing at {path}; fetch the weights folder again.")
        self.network = Interpreter(str(path), num_threads=1)
        self.network.allocate_tensors()
        self.input = self.network.get_input_details()[0]["index"]
        self.output = self.network.get_output_details()[0]["index"]

    def hair(self, crop):
        """How much each place is hair, float32 (256, 256) in 0..1, in an aligned RGB uint8 (S, S, 3)."""
        small = cv2.resize(crop, (HAIR_SIZE, HAIR_SIZE), interpolation=cv2.INTER_AREA)
        self.network.set_tensor(self.input, small[None].astype(np.float32) / 255)
        self.network.invoke()
        hair = cv2.resize(
            self.network.get_tensor(self.output)[0, ..., 0],
            (MASK_SIZE, MASK_SIZE),
            interpolation=cv2.INTER_LINEAR,
        )
        hair = cv2.GaussianBlur(np.clip(hair * 1.6 - 0.3, 0, 1), (0, 0), MASK_SIZE * 0.006)
        # single strands and the rim before a bright wall, which the network is too coarse for (guided filter, He et al., 2010)
        guide = cv2.resize(crop, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
        matte = cv2.ximgproc.guidedFilter(guide, cv2.dilate(hair, np.ones((3, 3))) * 255, 10, 60) / 255
        return np.clip(matte * 1.4 - 0.2, 0, 1)

    @staticmethod
    def mask(hair, face, shape):
        """What may change, face, ears, throat and `hair`: float32 (256, 256) in 0..1.

        It fades out towards the crop's edge and is 0 outside the photo's `shape` (H, W).
        """
        s = MASK_SIZE
        landmarks = cv2.transform(face.points[None], face.matrix)[0] * s
        points, oval = landmarks[list(OVAL)], np.zeros((s, s), np.float32)
        cv2.fillConvexPoly(oval, np.round(points).astype(np.int32), 1.0)
        ellipse = lambda share: cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (int(s * share) | 1,) * 2)
        mask = np.maximum(cv2.dilate(oval, ellipse(0.05)), hair)
        # the forehead's rim lies between the landmarks' oval and the hair: close it, above the eyes only
        pad = int(s * RIM) | 1
        closed = cv2.morphologyEx(
            cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT),
            cv2.MORPH_CLOSE,
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pad, pad)),
        )[pad:-pad, pad:-pad]
        left, right = (int(np.clip(v, 0, s)) for v in (points[:, 0].min(), points[:, 0].max()))
        mask[: s // 2, left:right] = closed[: s // 2, left:right]
        # hair ends where its own strands do, which a soft rim would leave dark; all else fades out
        soft, plain = (
            cv2.GaussianBlur(mask, (0, 0), s * 0.014),
            cv2.GaussianBlur(np.maximum(mask - hair, 0), (0, 0), s * 0.03),
        )
        mask = hair + (soft - hair) * np.clip(8 * plain, 0, 1)
        # below the eyes it ends inside the face: a jaw that is drawn elsewhere would leave a pale rim on what is behind it
        near = cv2.GaussianBlur(np.maximum(cv2.erode(oval, ellipse(0.06)), hair), (0, 0), s * 0.016)
        lower = np.clip((np.arange(s, dtype=np.float32) / s - 0.45) * 10, 0, 1)[:, None]
        mask += lower * np.minimum(near - mask, 0)
        mask *= 1 - own_features(landmarks, s)
        inside = warp_inside(face, shape, s)
        return (
            mask * np.outer(ramp(s), ramp(s)) * cv2.dilate(inside, np.ones((5, 5)))
        )  # the photo's own edge cuts exactly


def own_share(square, face, others, size):
    """How much nearer to `face` than to any of the `others` each place is, float32 (size, size) in 0..1, 1 without others.

    Distances are measured in frames of each head.

    Args:
        square: the align.Face whose reference square is shown. others: align.Face or align.Neighbour.
    """
    if not others:
        return np.ones((size, size), np.float32)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(float)
    places = cv2.transform(grid, cv2.invertAffineTransform(square.to_crop(size)))

    def distance(head):
        return np.linalg.norm(places - head.centre, axis=2) / head.frame

    ahead = np.min([distance(other) for other in others], axis=0) - distance(face)
    return np.float32(np.clip(5 * ahead + 0.5, 0, 1))


def ramp(size):
    """How a square fades out towards its edges: float32 (size,) in 0..1."""
    near = np.clip((np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) / (size * 0.07), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)


def own_features(points, size):
    """How much of the photo's own lips, irises and nose stays, float32 (size, size) in 0..1.

    Lips are the expression and irises are the person: drawn older the ones turn down and the others lighten, as the teacher's
    do. A nose got dark flanks and a bright ridge, as if it were another one, and the red of a red one.
    points: (478, 2) in pixels of the result.
    """
    fine = points * 4  # drawn four times as large: their edges are smooth then
    lips, eyes, irises, nose = np.zeros((4, size * 4, size * 4), np.uint8)
    cv2.fillConvexPoly(nose, cv2.convexHull(np.round(fine[list(NOSE)]).astype(np.int32)), 255)
    for picture, outlines in ((lips, [LIPS]), (eyes, EYES)):
        for outline in outlines:
            cv2.fillPoly(picture, [np.round(fine[list(outline)]).astype(np.int32)], 255)
    for centre, *rim in IRISES:
        radius = np.linalg.norm(fine[rim] - fine[centre], axis=1).mean()
        cv2.circle(irises, [int(v) for v in np.round(fine[centre])], int(round(radius)), 255, -1)
    soft = lambda v, sigma: cv2.GaussianBlur(
        cv2.resize(v, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255,
        (0, 0),
        size * sigma,
    )
    return np.maximum.reduce(
        [OWN_LIPS * soft(lips, 0.006), OWN_IRISES * soft(irises & eyes, 0.004), OWN_NOSE * soft(nose, 0.02)]
    )


def warp_inside(face, shape, size):
    """float32 (size, size): 1 where the reference square shows the photo, 0 where it reaches beyond it."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(float)
    places = cv2.transform(grid, cv2.invertAffineTransform(face.to_crop(size)))
    return ((places > -0.5) & (places < np.array(shape[1::-1]) - 0.5)).all(-1).astype(np.float32)


def add_change(photo, change, mask, face):
    """y = photo + U(change): the residual form, at the photo's own resolution.

    Args:
        photo: RGB uint8 (H, W, 3). change: float32 (r, r, 3) in units of 0..255, in the reference position.
        mask: float32 (256, 256) in 0..1. face: the align.Face whose inverse places the change.

    Returns:
        RGB uint8 (H, W, 3), a new array, equal to `photo` bit for bit wherever the change or the mask is 0.
    """
    r = change.shape[0]
    size = max(r, MASK_SIZE)
    if r < size:
        change = cv2.resize(change, (size, size), interpolation=cv2.INTER_CUBIC)
    elif r > MASK_SIZE:
        mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)
    layer = change * mask[:, :, None]
    result = photo.copy()
    x0, y0, x1, y1 = region(face.to_crop(size), size, photo.shape, margin=1)
    edge, ratio = size, face.frame / size
    if ratio * 1.5 < 1:  # a face smaller than the change: shrink by areas
        edge = int(np.ceil(face.frame))
        layer = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_AREA)
    elif ratio > 1.5:  # enlarge upright, which is quick, to half the way or more; then turn
        edge = size * 2 ** max(1, int(np.log2(ratio)))
        layer = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_CUBIC)
    to_crop = face.to_crop(edge)
    to_crop[:, 2] += to_crop[:, :2] @ (x0, y0)
    placed = cv2.warpAffine(
        layer,
        to_crop,
        (int(x1 - x0), int(y1 - y0)),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    part = photo[y0:y1, x0:x1]
    result[y0:y1, x0:x1] = cv2.add(part, placed, dtype=cv2.CV_8U)
    return result


def add_change_to_crop(crop, change, mask):
    """The same on the aligned crop, RGB uint8 (S, S, 3)."""
    s = crop.shape[0]
    layer = cv2.resize(change, (s, s), interpolation=cv2.INTER_CUBIC) * cv2.resize(mask, (s, s))[:, :, None]
    return np.clip(np.rint(crop + layer), 0, 255).astype(np.uint8)
