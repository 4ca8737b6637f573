"""Hair that hangs out of the reference square: it gets the tone that an edit gives to the hair within.

The generator sees and draws the square alone. What it does to the light of hair there is a line over the hair's own brightness, and
what it leaves of its colour is a share; both go on along the same head of hair, to its tips.
"""

import cv2
import numpy as np

from agedit.align import Face, align, region
from agedit.masks import MASK_SIZE, own_share, ramp, warp_inside
from agedit.tone import HAIR, LOCKS, TO_LUMA, highlight_rolloff, relit_strands, strand_gain

WIDE = 2  # edge of the square that is searched for hair, in edges of the reference square
SEARCHED = (
    WIDE,
    1.5,
)  # in a small picture of a head the hair network overlooks some of what it finds in a larger one
LEAST = 12  # locks within the square that are hair: fewer say nothing about its tone
MOST, TILE = (
    1_500_000,
    64,
)  # pixels in which the change is worked out; a larger photo gets it enlarged, by tiles of so many of them
WALL = 40  # levels of 255: what is so much brighter than bright locks within is half likely a wall, and gets half as dark
VIEWS = 2  # sizes of a photo that stay ready: the one on the page, and the aligned face


def _centred(v, times):
    """(256, 256) of a square of `times` reference squares, in its place in one of WIDE: (256, 256), zeros around it."""
    edge = round(MASK_SIZE * times / WIDE)
    pad = (MASK_SIZE - edge) // 2
    return np.pad(cv2.resize(v, (edge, edge), interpolation=cv2.INTER_AREA), (pad, MASK_SIZE - edge - pad))


class OuterHair:
    """One face's hair beyond its square.

    Args:
        rgb: uint8 (H, W, 3). face: align.Face. mask, hair: float32 (256, 256) in 0..1, what may change within the square, and its hair.
        hair_of: `blend.Masker.hair`. others: the photo's other faces; what is nearer to one of them, by the size of each, is not this one's.
    """

    def __init__(self, rgb, face, mask, hair, hair_of, others=()):
        s, self.face, self.ready = MASK_SIZE, face.widened(WIDE), {}
        crop, wide = align(rgb, self.face, s), np.zeros((s, s), np.float32)
        for times in SEARCHED:
            seen = crop if times == WIDE else align(rgb, face.widened(times), s)
            wide = np.maximum(wide, _centred(hair_of(seen), times))
        # one head of hair: what hangs together with some of it within the square, a tail behind the neck included
        labels = cv2.connectedComponents((np.maximum(wide, _centred(hair, 1)) > 0.3).astype(np.uint8))[1]
        own = np.isin(labels, np.unique(labels[_centred(np.ones((s, s)), 1) > 0])) & (labels > 0)
        wide *= cv2.dilate(own.astype(np.uint8), np.ones((3, 3)))
        # within the square it is for hair that the network's own change does not reach at all: lips, irises and nose are reached a little
        reached = np.clip(20 * _centred(mask, 1), 0, 1) * _centred(np.outer(ramp(s), ramp(s)), 1)
        inside = cv2.dilate(
            warp_inside(self.face, rgb.shape, s), np.ones((5, 5))
        )  # the photo's own edge cuts exactly
        self.weight = np.float32(wide * (1 - reached) * np.outer(ramp(s), ramp(s)) * inside)
        self.weight *= own_share(self.face, face, others, s)
        self.weight[self.weight < 0.02] = 0
        grey, cells = cv2.transform(crop.astype(np.float32), TO_LUMA), (WIDE * LOCKS,) * 2
        area = lambda v: cv2.GaussianBlur(cv2.resize(v, cells, interpolation=cv2.INTER_AREA), (0, 0), 1.0)
        self.locks = area(grey * (wide + 0.01)) / area(wide + 0.01)
        self.inner = cv2.resize(hair, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA) > 0.8
        within = align(rgb, face, LOCKS)[self.inner].astype(np.float32)
        self.light = within @ TO_LUMA[0]
        self.colour = within - self.light[:, None]
        self.bright = np.percentile(self.light, 95) + WALL if len(self.light) else 255
        self.exists = bool(self.weight.any()) and self.inner.sum() >= LEAST
        self.weight *= self.exists

    def tone(self, change):
        """What an edit does to the hair within: (a, b, colour left), the light Y of its locks, in 0..255, becoming Y + a + b Y.

        Args:
            change: float32 (r, r, 3) in units of 0..255, as it is shown.
        """
        drawn = cv2.resize(change, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)[self.inner]
        lighter, apart, count = drawn @ TO_LUMA[0], self.light - self.light.mean(), len(self.light)
        least = 0.0 if lighter.mean() > 0 else -0.9  # hair that greys keeps its lit and shaded locks
        slope = float(np.clip((apart @ lighter) / (apart @ apart + 25 * count), least, 1.2))
        gained = (self.colour * (drawn - lighter[:, None])).sum() / ((self.colour**2).sum() + 4 * count)
        return float(lighter.mean() - slope * self.light.mean()), slope, float(np.clip(1 + gained, 0, 1))

    def in_crop(self, size):
        """The wide face as the aligned crop of `size` pixels shows it, as `add` wants it."""
        return Face(
            self.face.points,
            self.face.yaw,
            np.array([[1 / (WIDE * size), 0, 0.5 - 0.5 / WIDE], [0, 1 / (WIDE * size), 0.5 - 0.5 / WIDE]]),
        )

    def add(self, picture, photo, tone, face):
        """Add the change of the hair beyond to `picture` in place.

        Args:
            picture: RGB uint8 (H, W, 3), contiguous, the edit of `photo`, of the same shape. tone: see `tone`.
            face: `self.face` as this photo has it (`align.Face.scaled`, `in_crop`).
        """
        places, weight, darker, low, strands, colour, layer, tiles = self._ready(photo, face)
        if not len(places):
            return
        a, b, left = tone
        light = a + b * low
        light += relit_strands(strands, strand_gain(light, low))
        light -= highlight_rolloff(light, np.maximum(HAIR.white - low - strands, 0))
        light *= np.where(light < 0, darker, weight)
        change = cv2.scaleAdd(colour, left - 1, cv2.merge((light, light, light)))
        if layer is None:
            pixels = picture.reshape(-1, 3).view("V3")[
                :, 0
            ]  # whole pixels at a time are several times as quick
            after = cv2.add(pixels[places].view(np.uint8).reshape(-1, 1, 3), change, dtype=cv2.CV_8U)
            pixels[places] = after.reshape(-1, 3).view("V3")[:, 0]
        else:
            layer.reshape(-1, 3).view("V12")[places, 0] = change.reshape(-1, 3).view("V12")[:, 0]
            for x0, y0, x1, y1, back in tiles:
                tile = cv2.warpAffine(
                    layer,
                    back,
                    (x1 - x0, y1 - y0),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REPLICATE,
                )
                part = picture[y0:y1, x0:x1]
                part[:] = cv2.add(part, tile, dtype=cv2.CV_8U)

    def _ready(self, photo, face):
        """Where the hair is, (N,) flat indices; its weight, the same for getting darker, its locks' brightness and the strands over it, (N,), and its
        weighted colour, (N, 1, 3).

        Where the wide square covers more than MOST pixels all this is of that part of the photo, shrunk, with a layer of its size, and the tiles of
        the photo that show some of it.
        """
        key = photo.shape, face.matrix.tobytes()
        if key not in self.ready:
            x0, y0, x1, y1 = (int(v) for v in region(face.to_crop(MASK_SIZE), MASK_SIZE, photo.shape))
            part, width, height = photo[y0:y1, x0:x1], x1 - x0, y1 - y0
            times = min(1, (MOST / (width * height)) ** 0.5)
            w, h = max(1, round(width * times)), max(1, round(height * times))
            if times < 1:
                part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)

            def place(v):
                to_crop = face.to_crop(v.shape[0])
                to_crop[:, 2] += to_crop[:, :2] @ (x0 + 0.5 * width / w - 0.5, y0 + 0.5 * height / h - 0.5)
                to_crop[:, :2] *= width / w, height / h
                return cv2.warpAffine(
                    v,
                    to_crop,
                    (w, h),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_CONSTANT,
                )

            weight = place(self.weight)
            rows, columns = np.nonzero(weight > 0.01)
            pixels, weight, low = (
                part[rows, columns].astype(np.float32),
                weight[rows, columns],
                place(self.locks)[rows, columns],
            )
            grey = pixels @ TO_LUMA[0]
            likely = np.clip(1.5 - (grey - self.bright) / WALL, 0, 1)
            found = (
                weight,
                weight * likely,
                low,
                grey - low,
                ((pixels - grey[:, None]) * weight[:, None])[:, None],
            )
            if len(self.ready) == VIEWS:
                del self.ready[next(iter(self.ready))]
            if times < 1:
                places, layer = rows * w + columns, np.zeros((h, w, 3), np.float32)
                layer.reshape(-1, 3)[places] = 1
                self.ready[key] = places, *found, layer, _tiles(layer[:, :, 0], x0, y0, width, height)
            else:
                self.ready[key] = (rows + y0) * photo.shape[1] + columns + x0, *found, None, None
        return self.ready[key]


def _tiles(used, left, top, width, height):
    """[(x0, y0, x1, y1, back)]: parts of a picture that show some of what is `used`, (h, w), enlarged to width x height pixels from (left, top) on;
    `back` goes from a part's pixels to those of `used`."""
    (h, w), found = used.shape, []
    used = cv2.dilate(used, np.ones((3, 3)))
    for y in range(0, h, TILE):
        for x in range(0, w, TILE):
            if used[y : y + TILE, x : x + TILE].any():
                (x0, x1), (y0, y1) = (
                    (round(v * full / part) for v in (at, min(at + TILE, part)))
                    for at, full, part in ((x, width, w), (y, height, h))
                )
                back = np.array(
                    [
                        [w / width, 0, (x0 + 0.5) * w / width - 0.5],
                        [0, h / height, (y0 + 0.5) * h / height - 0.5],
                    ]
                )
                found.append((left + x0, top + y0, left + x1, top + y1, back))
    return found
