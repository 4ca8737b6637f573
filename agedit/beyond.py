"""Hair that hangs out of the reference square: it gets the tone that an edit gives to the hair within.

The generator sees and draws the square alone. What it does to the light and the colour of hair there is a line over the hair's own
brightness; the same line goes on along the same head of hair, to its tips.
"""
import cv2
import numpy as np

from agedit.align import align
from agedit.blend import BLACK, GREY, LIT, LOCKS, MASK_SIZE, RANGE, ramp, warp_inside

WIDE = 2                    # edge of the square that is searched for hair, in edges of the reference square
SEARCHED = WIDE, 1.5        # in a small picture of a head the hair network overlooks some of what it finds in a larger one
LEAST = 12                  # locks within the square that are hair: fewer say nothing about its tone
KEPT = 2_000_000            # pixels of a photo whose hair is kept ready for the next move


def _centred(v, times):
    """(256, 256) of a square of `times` reference squares, in its place in one of WIDE: (256, 256), zeros around it."""
    edge = round(MASK_SIZE * times / WIDE)
    pad = (MASK_SIZE - edge) // 2
    return np.pad(cv2.resize(v, (edge, edge), interpolation=cv2.INTER_AREA), (pad, MASK_SIZE - edge - pad))


class Beyond:
    """One face's hair beyond its square.

    Args:
        rgb: uint8 (H, W, 3). face: align.Face. mask, hair: float32 (256, 256) in 0..1, what may change within the square, and its hair.
        hair_of: `blend.Masker.hair`. others: the photo's other faces; what is nearer to one of them, by the size of each, is not this one's.
    """

    def __init__(self, rgb, face, mask, hair, hair_of, others=()):
        s, self.face, self.ready = MASK_SIZE, face.widened(WIDE), {}
        crop, wide = align(rgb, self.face, s), np.zeros((s, s), np.float32)
        for times in SEARCHED:
            seen = face.widened(times)
            wide = np.maximum(wide, _centred(hair_of(crop if times == WIDE else align(rgb, seen, s)), times))
        within, covered = _centred(hair, 1), _centred(mask, 1)
        # one head of hair: what hangs together with some of it within the square
        labels = cv2.connectedComponents((np.maximum(wide, within) > 0.3).astype(np.uint8))[1]
        square = slice(round(s * (1 - 1 / WIDE) / 2), round(s * (1 + 1 / WIDE) / 2))
        own = np.isin(labels, np.unique(labels[square, square])) & (labels > 0)
        wide *= cv2.dilate(own.astype(np.uint8), np.ones((3, 3)))
        self.weight = np.maximum(wide - covered, 0) * np.outer(ramp(s), ramp(s)) * warp_inside(self.face, rgb.shape, s)
        if others:
            self.weight *= self._nearest(face, others)
        self.weight[self.weight < 0.02] = 0
        grey, cells = cv2.transform(crop.astype(np.float32), GREY), (WIDE * LOCKS,) * 2
        area = lambda v: cv2.GaussianBlur(cv2.resize(v, cells, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
        self.locks = area(grey * (wide + 0.01)) / area(wide + 0.01)
        self.inner = cv2.resize(hair, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA) > 0.8
        self.exists = bool(self.weight.any()) and self.inner.sum() >= LEAST
        self.weight *= self.exists

    def _nearest(self, face, others):
        s = MASK_SIZE
        places = cv2.transform(np.stack(np.meshgrid(np.arange(s), np.arange(s)), -1).astype(float), cv2.invertAffineTransform(self.face.to_crop(s)))
        far = lambda f: np.linalg.norm(places - f.points.mean(0), axis=2) / f.frame
        return np.min([far(f) for f in others], axis=0) > far(face)

    def tone(self, crop, change):
        """What an edit does to the hair within: (a, b, colour left), its light becoming Y + a + b Y, of the locks' brightness Y in 0..255.

        Args:
            crop: RGB uint8 (S, S, 3), aligned. change: float32 (r, r, 3) in units of 0..255, as it is shown.
        """
        small = lambda v: cv2.resize(v, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)
        before, drawn = small(crop).astype(np.float32)[self.inner], small(change)[self.inner]
        light, lighter = (cv2.transform(v[None], GREY)[0] for v in (before, drawn))
        apart = light - light.mean()
        slope = float(np.clip((apart * lighter).sum() / ((apart ** 2).sum() + 25 * len(light)), -0.9, 0.5))
        colour = before - light[:, None]
        after = colour + drawn - lighter[:, None]
        left = float(np.clip((colour * after).sum() / ((colour ** 2).sum() + 20 * len(light)), 0, 1))
        return float(lighter.mean() - slope * light.mean()), slope, left

    def add(self, picture, photo, tone, shape):
        """Add the change of the hair beyond to `picture` in place.

        Args:
            picture: RGB uint8 (H, W, 3), the edit of `photo`, of the same shape. tone: see `tone`. shape: of the photo that the face was found in.
        """
        places, weight, low, strands, colour = self._ready(photo, shape)
        a, b, left = tone
        light = a + b * low
        light += np.clip(LIT * light / (low + BLACK), *RANGE) * strands
        light *= weight
        flat = picture.reshape(-1, 3)
        after = flat[places] + light[:, None]
        after += colour * ((left - 1) * weight)[:, None]
        flat[places] = np.clip(np.rint(after), 0, 255).astype(np.uint8)

    def _ready(self, photo, shape):
        """Where the hair is in a photo of this size, (N,) flat indices; its weight, its locks' brightness and the strands over it, and its colour."""
        if photo.shape not in self.ready:
            face, size = self.face.scaled(shape, photo.shape), photo.shape[1::-1]
            place = lambda v: cv2.warpAffine(v, face.to_crop(v.shape[0]), size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
            weight = place(self.weight).ravel()
            places = np.flatnonzero(weight > 0.01)
            pixels = photo.reshape(-1, 3)[places].astype(np.float32)
            grey, low = pixels @ GREY[0], place(self.locks).ravel()[places]
            found = places, weight[places], low, grey - low, pixels - grey[:, None]
            if photo.shape[0] * photo.shape[1] > KEPT:
                return found
            self.ready[photo.shape] = found
        return self.ready[photo.shape]
