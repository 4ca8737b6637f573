"""The picture: a soft face-and-hair mask, and the generated change added to the photo at its own resolution."""
import functools
from pathlib import Path

import cv2
import numpy as np

from agedit.align import MODELS, OVAL, region
from agedit.errors import AgeEditError

MASK_SIZE, HAIR_SIZE = 256, 160
TONE = 0.95           # share of the colour change of patches of skin, and of the brightness of the whole face, that is taken back
PATCHES, PATCH_BLUR, FACE_BLUR = 32, 1.0, 3.2     # a grid over the crop; sigmas in its cells: a patch of skin, the whole face
LUMA = (0.299, 0.587, 0.114)
RIM = 0.16           # widest gap between forehead and hair that is still skin, in crops


class Masker:
    """Soft mask of face, ears, throat and hair in the reference position. Not thread-safe."""

    def __init__(self, models=MODELS):
        from ai_edge_litert.interpreter import Interpreter
        path = Path(models) / "hair_segmentation_mobile.tflite"
        if not path.exists():
            raise AgeEditError(f"The hair network is missing at {path}; fetch the weights folder again.")
        self.network = Interpreter(str(path), num_threads=1)
        self.network.allocate_tensors()
        self.input = self.network.get_input_details()[0]["index"]
        self.output = self.network.get_output_details()[0]["index"]

    def hair(self, crop):
        """Probability of hair, float32 (160, 160) in 0..1, for an aligned RGB uint8 (S, S, 3)."""
        small = cv2.resize(crop, (HAIR_SIZE, HAIR_SIZE), interpolation=cv2.INTER_AREA)
        self.network.set_tensor(self.input, small[None].astype(np.float32) / 255)
        self.network.invoke()
        return self.network.get_tensor(self.output)[0, ..., 0]

    def mask(self, crop, face, shape):
        """float32 (256, 256) in 0..1; fades out towards the crop's edge and is 0 outside the photo's `shape` (H, W)."""
        s = MASK_SIZE
        points = cv2.transform(face.points[None, list(OVAL)], face.matrix)[0] * s
        head = np.zeros((s, s), np.float32)
        cv2.fillConvexPoly(head, np.round(points).astype(np.int32), 1.0)
        head = cv2.dilate(head, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (int(s * 0.05) | 1,) * 2))
        hair = cv2.resize(self.hair(crop), (s, s), interpolation=cv2.INTER_LINEAR)
        hair = np.clip(hair * 1.6 - 0.3, 0, 1)
        mask = np.maximum(head, hair)
        # the forehead's rim lies between the landmarks' oval and the hair: close it, above the eyes only
        pad = int(s * RIM) | 1
        closed = cv2.morphologyEx(cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE,
                                  cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pad, pad)))[pad:-pad, pad:-pad]
        left, right = (int(np.clip(v, 0, s)) for v in (points[:, 0].min(), points[:, 0].max()))
        mask[:s // 2, left:right] = closed[:s // 2, left:right]
        mask = cv2.GaussianBlur(mask, (0, 0), s * 0.014)
        ramp = np.clip((np.minimum(np.arange(s), np.arange(s)[::-1]) + 0.5) / (s * 0.07), 0, 1)
        ramp = ramp * ramp * (3 - 2 * ramp)
        inside = warp_inside(face, shape, s)
        return mask * ramp[:, None] * ramp[None] * cv2.dilate(inside, np.ones((5, 5)))      # the photo's own edge cuts exactly


def warp_inside(face, shape, size):
    """float32 (size, size): 1 where the reference square shows the photo, 0 where it reaches beyond it."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(float)
    places = cv2.transform(grid, cv2.invertAffineTransform(face.to_crop(size)))
    return ((places > -0.5) & (places < np.array(shape[1::-1]) - 0.5)).all(-1).astype(np.float32)


@functools.lru_cache(maxsize=None)
def skin(size):
    """Soft ellipse over the face, hair left out, in the reference position: float32 (size, size, 1) in 0..1."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.exp(-(((line - 0.5) / 0.25) ** 4)[None] - (((line - 0.6) / 0.29) ** 4)[:, None])[:, :, None]


def keep_tone(change, strength=TONE):
    """The change without most of what it does to the colour of patches of skin, and to the brightness of the whole face.

    People of another age are not of another colour, but the teacher's and the photos' are (`training.batches.keep_tone`
    is the same in training, so the networks learn what is shown).

    Args:
        change: float32 (r, r, 3), r a multiple of 32, in the reference position.
    """
    r = change.shape[0]
    patches = cv2.GaussianBlur(cv2.resize(change, (PATCHES, PATCHES), interpolation=cv2.INTER_AREA), (0, 0), PATCH_BLUR)
    grey = patches @ np.array(LUMA, np.float32)
    tone = patches - (grey - cv2.GaussianBlur(grey, (0, 0), FACE_BLUR))[:, :, None]
    return change - strength * skin(r) * cv2.resize(tone, (r, r), interpolation=cv2.INTER_LINEAR)


def keep_warm(change, crop):
    """The change without blue or green casts: skin, lips and hair lie on the warm side of grey, and grey hair is grey.

    No pixel becomes bluer or greener than grey, or than it was.

    Args:
        change: float32 (r, r, 3) in units of 0..255. crop: RGB uint8 (S, S, 3), the aligned photo.
    """
    photo = cv2.resize(crop, change.shape[:2], interpolation=cv2.INTER_AREA).astype(np.float32)
    before, after = (cv2.cvtColor(v / np.float32(255), cv2.COLOR_RGB2YCrCb) for v in (photo, photo + change))
    cast = np.zeros_like(after)                     # how far red-green and blue-yellow go beyond the limit; grey is 0.5
    cast[:, :, 1] = np.minimum(after[:, :, 1] - np.minimum(before[:, :, 1], 0.5), 0)
    cast[:, :, 2] = np.maximum(after[:, :, 2] - np.maximum(before[:, :, 2], 0.5), 0)
    cr, cb = cast[:, :, 1], cast[:, :, 2]
    return change - np.float32(255) * np.stack([1.403 * cr, -0.714 * cr - 0.344 * cb, 1.773 * cb], -1)


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
    if face.frame * 1.5 < size:          # a face smaller than the change: shrink by areas
        edge = int(np.ceil(face.frame))
        layer = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_AREA)
    else:                                # enlarge upright, which is quick, to half the way or more; then turn
        edge = size * 2 ** int(np.log2(max(2, face.frame / size))) if face.frame > size else size
        layer = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_CUBIC)
    to_crop = face.to_crop(edge)
    to_crop[:, 2] += to_crop[:, :2] @ (x0, y0)
    placed = cv2.warpAffine(layer, to_crop, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                            borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    part = photo[y0:y1, x0:x1]
    result[y0:y1, x0:x1] = cv2.add(part, placed, dtype=cv2.CV_8U)
    return result


def add_change_to_crop(crop, change, mask):
    """The same on the aligned crop, RGB uint8 (S, S, 3)."""
    s = crop.shape[0]
    layer = cv2.resize(change, (s, s), interpolation=cv2.INTER_CUBIC) * cv2.resize(mask, (s, s))[:, :, None]
    return np.clip(np.rint(crop + layer), 0, 255).astype(np.uint8)
