"""The picture: a soft face-and-hair mask, and the generated change added to the photo at its own resolution."""
from pathlib import Path

import cv2
import numpy as np

from agedit.align import EYES, IRISES, LIPS, MODELS, NOSE, OVAL, region
from agedit.errors import AgeEditError

MASK_SIZE, HAIR_SIZE = 256, 160
TONE, BRIGHTNESS = 0.9, 0.95         # share of a change's colour outside the hair, and of the brightness of the skin around, that is taken back
PLACES, FACE_BLUR, PLACE_BLUR = 32, 1.6, 1.2          # cells across a grid over the crop; sigmas, in cells: half a cheek, one lock of hair
LOCKS, OWN_STRANDS = 64, 0.9         # cells across a grid over the crop; share of what is drawn finer than them in hair that is taken back
LIT, BLACK, RANGE = 0.8, 12, (-0.6, 1.5)    # share of a change's light that strands get; levels of 255 that black hair reflects; by how much, at most
SHADED, SHARE, LIT_LOCK = 0.8, 0.6, 230     # of how much lighter hair gets: by how much its light and shade grow; how far a lock is brought to that; levels of a lit lock
LIGHTER = 10         # levels of 255: hair that gets so much lighter is greying, and gets no colour that it does not have
WHITE = 220          # levels of 255 beyond which hair gets no lighter: between strands a bright wall is seen
DIM = 0.75, 0.9       # of the surroundings' brightness: below the first it is not skin but a brow, an eye, a nostril
DARK = 8              # levels of 255 by which black outside the hair may get lighter
DARKER, BLACKER, FREE = 0.15, 4, 400      # share and levels of 255 by which what is dark may get darker; levels that plain skin and hair may
FOLD, RIDGES = 0.9, 0.5        # sigma in cells of LOCKS: light that is finer is a ridge; share of it that stays
SHADE = 48            # levels of 255 that are added to a pixel before its colour is taken: very dark pixels have hardly one
LUMA = (0.299, 0.587, 0.114)
GREY, SUM = np.float32([LUMA]), np.ones((1, 3), np.float32)
CAST = np.float32(255) * np.float32([[0, 1.403, 0], [0, -0.714, -0.344], [0, 0, 1.773]])     # YCrCb to RGB, without Y
OWN_LIPS, OWN_IRISES, OWN_NOSE = 0.8, 0.95, 0.7        # share of the photo's own that stays
IN_FOCUS, CELL, MOST_BLUR = 1.1, 0.5, 0.006     # sigmas: of a crop in focus, in its pixels; of a network's picture, in its own; the most, in crops
REBLUR, EDGES, FAINT = 2, 0.97, 32      # sigma of the blur that tells how blurred a crop is; share and slope (8 a level a pixel) from which an edge is one
RIM = 0.16           # widest gap between forehead and hair that is still skin, in crops


class Masker:
    """Soft masks in the reference position. Not thread-safe."""

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
        """How much each place is hair, float32 (256, 256) in 0..1, in an aligned RGB uint8 (S, S, 3)."""
        small = cv2.resize(crop, (HAIR_SIZE, HAIR_SIZE), interpolation=cv2.INTER_AREA)
        self.network.set_tensor(self.input, small[None].astype(np.float32) / 255)
        self.network.invoke()
        hair = cv2.resize(self.network.get_tensor(self.output)[0, ..., 0], (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_LINEAR)
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
        closed = cv2.morphologyEx(cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE,
                                  cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (pad, pad)))[pad:-pad, pad:-pad]
        left, right = (int(np.clip(v, 0, s)) for v in (points[:, 0].min(), points[:, 0].max()))
        mask[:s // 2, left:right] = closed[:s // 2, left:right]
        # hair ends where its own strands do, which a soft rim would leave dark; all else fades out
        soft, plain = cv2.GaussianBlur(mask, (0, 0), s * 0.014), cv2.GaussianBlur(np.maximum(mask - hair, 0), (0, 0), s * 0.03)
        mask = hair + (soft - hair) * np.clip(8 * plain, 0, 1)
        # below the eyes it ends inside the face: a jaw that is drawn elsewhere would leave a pale rim on what is behind it
        near = cv2.GaussianBlur(np.maximum(cv2.erode(oval, ellipse(0.06)), hair), (0, 0), s * 0.016)
        lower = np.clip((np.arange(s, dtype=np.float32) / s - 0.45) * 10, 0, 1)[:, None]
        mask += lower * np.minimum(near - mask, 0)
        mask *= 1 - own_features(landmarks, s)
        inside = warp_inside(face, shape, s)
        return mask * np.outer(ramp(s), ramp(s)) * cv2.dilate(inside, np.ones((5, 5)))      # the photo's own edge cuts exactly


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
    fine = points * 4                    # drawn four times as large: their edges are smooth then
    lips, eyes, irises, nose = np.zeros((4, size * 4, size * 4), np.uint8)
    cv2.fillConvexPoly(nose, cv2.convexHull(np.round(fine[list(NOSE)]).astype(np.int32)), 255)
    for picture, outlines in ((lips, [LIPS]), (eyes, EYES)):
        for outline in outlines:
            cv2.fillPoly(picture, [np.round(fine[list(outline)]).astype(np.int32)], 255)
    for centre, *rim in IRISES:
        radius = np.linalg.norm(fine[rim] - fine[centre], axis=1).mean()
        cv2.circle(irises, [int(v) for v in np.round(fine[centre])], int(round(radius)), 255, -1)
    soft = lambda v, sigma: cv2.GaussianBlur(cv2.resize(v, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255, (0, 0), size * sigma)
    return np.maximum.reduce([OWN_LIPS * soft(lips, 0.006), OWN_IRISES * soft(irises & eyes, 0.004), OWN_NOSE * soft(nose, 0.02)])


def warp_inside(face, shape, size):
    """float32 (size, size): 1 where the reference square shows the photo, 0 where it reaches beyond it."""
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(float)
    places = cv2.transform(grid, cv2.invertAffineTransform(face.to_crop(size)))
    return ((places > -0.5) & (places < np.array(shape[1::-1]) - 0.5)).all(-1).astype(np.float32)


def _places(v, sigma=PLACE_BLUR, cells=PLACES):
    """(r, r) averaged over the neighbourhoods of a grid: (cells, cells). sigma: in cells."""
    return cv2.GaussianBlur(cv2.resize(v, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), sigma)


def _fine(v):
    """(r, r) less what is coarser than a fold."""
    return cv2.subtract(v, cv2.resize(_places(v, FOLD, LOCKS), v.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def skin(grey, mask, kept):
    """How much each place is plain skin, float32 (r, r) in 0..1: what tells whether a face as a whole gets lighter or darker.

    Greying brows and the hair's rim do get lighter; counted in, they made the skin around them darker by some 10 levels of 255.

    Args:
        grey: (r, r), the photo's brightness. mask, kept: (r, r) in 0..1, what may change, and what is not hair.
    """
    face = mask * kept
    around = cv2.resize(_places(grey * face, FACE_BLUR) / (_places(face, FACE_BLUR) + 1e-3), grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return face * kept ** 3 * np.clip((grey / (around + 1) - DIM[0]) / (DIM[1] - DIM[0]), 0, 1)


def photo_blur(crop):
    """How blurred a photo is: sigma as a share of its aligned crop, RGB uint8 (S, S, 3); 0 for one in focus.

    A second blur takes much of a sharp edge and little of a soft one (Zhuo and Sim, 2011), here of the strongest edges between forehead and mouth.
    """
    s = crop.shape[0]
    grey = cv2.cvtColor(np.ascontiguousarray(crop[s // 4:s * 4 // 5, s // 4:s * 3 // 4]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = lambda v: cv2.magnitude(cv2.Sobel(v, cv2.CV_32F, 1, 0), cv2.Sobel(v, cv2.CV_32F, 0, 1))
    before, after = slope(grey), slope(cv2.GaussianBlur(grey, (0, 0), REBLUR))
    edges = before >= max(FAINT, np.quantile(before, EDGES))
    if not edges.any():
        return 0.0
    ratio = max(1.01, float(np.median(before[edges] / (after[edges] + 1e-3))))
    return max(0.0, REBLUR ** 2 / (ratio ** 2 - 1) - IN_FOCUS ** 2) ** 0.5 / s


def change_blur(blur, r):
    """By how much a change drawn at r pixels must be blurred to be no crisper than its photo: sigma in pixels of r. blur: see `photo_blur`."""
    return r * min(MOST_BLUR, max(0.0, blur ** 2 - (CELL / r) ** 2) ** 0.5)


def _three(v):
    """(r, r) to (r, r, 3): whole pixels at a time are several times as quick as NumPy's spreading over three channels."""
    return cv2.merge((v, v, v))


class Tone:
    """What keeps a photo's colours through an edit, made ready for pictures of one resolution.

    People of another age are not of another colour, but the teacher's and the photos' are. So outside the hair a change
    is light and dark of the photo's own colour (`training.batches.keep_tone` is the same in training: the networks learn
    what is shown). Hair that loses its colour loses it evenly, and nothing turns bluer or greener than grey, or crisper than the photo is.

    Args:
        crop: RGB uint8 (S, S, 3), aligned, S >= r. mask, hair: float32 (256, 256) in 0..1, see `Masker`. r: a multiple of LOCKS.
        blur: see `photo_blur`.
    """

    def __init__(self, crop, mask, hair, r, blur=0.0):
        area = lambda v, size: cv2.resize(v, (size, size), interpolation=cv2.INTER_AREA if size < v.shape[0] else cv2.INTER_LINEAR)
        photo = area(crop, r).astype(np.float32)
        kept = area(1 - hair, r)
        light = photo + SHADE
        self.shade = kept[:, :, None] * light / cv2.transform(light, GREY)[:, :, None]
        own = 1 - TONE * kept               # what `keep_tone` leaves of a change's colour
        self.drawn = np.repeat(own[:, :, None], 3, 2)
        grey = cv2.transform(photo, GREY)
        self.skin = skin(grey, area(mask, r), kept)
        self.around = _places(self.skin, FACE_BLUR) + 0.01
        self.hair = area(hair, r)
        self.hairs = self.hair / own        # at the rim most of that is the hair's
        self.rim = self.hairs - self.hair
        self.lines, self.ridged = np.maximum(-_fine(grey), 0), (1 - RIDGES) * kept
        self.room = grey / 2 + DARK + 255 * self.hair
        self.floor = -(DARKER * grey + BLACKER + FREE * (self.skin + self.hair))
        colour = photo - grey[:, :, None]
        self.colour, self.coarse, self.coarse_hair = colour * self.hair[:, :, None], area(colour, 2 * PLACES), area(hair, 2 * PLACES)
        self.strength = _places(cv2.transform(self.coarse * self.coarse, SUM) * self.coarse_hair) + 20 * _places(self.coarse_hair) + 1e-3
        self.blur = change_blur(blur, r)
        fine = max(r, MASK_SIZE)            # strands are the photo's own: a small network's pictures get them too
        self.fine_hair, light = (self.hair, grey) if fine == r else (area(hair, fine), cv2.transform(area(crop, fine).astype(np.float32), GREY))
        self.locks = area(light, LOCKS)
        plain = area(self.fine_hair, LOCKS) ** 4
        self.plain = plain / max(float(plain.sum()), 20)             # a few strands tell nothing
        self.lock = float((self.plain * self.locks).sum())
        self.unlike = self.locks - self.lock
        self.contrast = float((self.plain * self.unlike ** 2).sum())
        self.strands = (light - cv2.resize(self.locks, (fine, fine), interpolation=cv2.INTER_LINEAR)) * self.fine_hair
        self.white = np.maximum(WHITE - light, 0)
        self.unit = photo / np.float32(255)
        before = cv2.cvtColor(self.unit, cv2.COLOR_RGB2YCrCb)
        self.least, self.most = np.minimum(before[:, :, 1], 0.5), np.maximum(before[:, :, 2], 0.5)

    def __call__(self, change):
        """The change, float32 (r, r, 3) in units of 0..255, as it is shown: (s, s, 3), s = max(r, MASK_SIZE)."""
        change = self.keep_soft(self.keep_hair(self.keep_tone(self.keep_shadows(change))))
        return self.keep_strands(self.keep_locks(self.keep_warm(self.keep_dark(change))))

    def keep_shadows(self, change):
        """The change, float32 (r, r, 3) in units of 0..255, less half of its fine light outside the hair that does not fill a line of the photo's.

        Wrinkles and folds are shadows. The networks draw a light ridge beside each, as strong as the shadow, so that cheeks looked embossed;
        in the pictures that they learned from light is weaker.
        """
        ridges = np.maximum(cv2.subtract(_fine(cv2.transform(change, GREY)), self.lines), 0)
        return cv2.subtract(change, _three(cv2.multiply(ridges, self.ridged)))

    def keep_tone(self, change):
        """The change, as above, less most of its colour outside the hair and of the brightness of the skin around."""
        size, grey = change.shape[1::-1], cv2.transform(change, GREY)
        whole = cv2.resize(_places(grey * self.skin, FACE_BLUR) / self.around, size, interpolation=cv2.INTER_LINEAR)
        light = cv2.multiply(self.shade, _three(cv2.addWeighted(grey, TONE, whole, -BRIGHTNESS, 0)))
        return cv2.add(light, cv2.multiply(change, self.drawn), light)

    def keep_hair(self, change):
        """The change, as above, hair that turns grey place by place brought to less of its own colour instead of spots of others.

        Colours of hair change smoothly: what is drawn finer than that is light and dark, and the rest of it noise.
        """
        small = cv2.resize(change, self.coarse.shape[1::-1], interpolation=cv2.INTER_AREA)
        lighter = cv2.transform(small, GREY)[:, :, None]
        small -= lighter
        after = self.coarse + small
        small *= np.clip(1 - lighter / LIGHTER, 0, 1)
        left = np.clip(_places(cv2.transform(self.coarse * after, SUM) * self.coarse_hair) / self.strength, 0, 1)
        # grey hair may get colour, half of what is drawn: black hair's is often red
        gains = 0.5 * np.clip(_places(cv2.transform(after * after, SUM) * self.coarse_hair) / self.strength - 1, 0, 1)
        drawn, gains, lost = (cv2.resize(v, change.shape[1::-1], interpolation=cv2.INTER_LINEAR) for v in (small, gains, (1 - gains) * (left - 1)))
        toward = cv2.subtract(_three(cv2.transform(change, GREY)), change)
        cv2.multiply(toward, _three(self.hairs), toward)
        cv2.add(cv2.add(toward, change, toward), cv2.multiply(self.colour, _three(lost)), toward)
        return cv2.add(toward, cv2.multiply(drawn, _three(cv2.add(cv2.multiply(gains, self.hair), self.rim))), toward)

    def keep_locks(self, change):
        """The change, float32 (r, r, 3) in units of 0..255, hair that gets lighter brought some way to what keeps its own lit and shaded locks so:
        drawn, it was one flat grey, at the temples as light as skin."""
        low = cv2.resize(cv2.transform(change, GREY), (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)
        lighter = float((self.plain * low).sum())
        if lighter <= 0:
            return change
        slope = float((self.plain * self.unlike * (low - lighter)).sum()) / (self.contrast + 100)
        shaded = min(SHADED * lighter / (self.lock + 30), (LIT_LOCK - self.lock - lighter) / (2 * self.contrast ** 0.5 + 1) - 1)
        more = SHARE * (lighter + max(slope, shaded) * self.unlike - low)
        return cv2.add(change, _three(cv2.multiply(cv2.resize(more, change.shape[1::-1], interpolation=cv2.INTER_LINEAR), self.hair)))

    def keep_strands(self, change):
        """The change, as above, enlarged to MASK_SIZE if it is smaller, with the photo's own strands for those that are drawn in the hair.

        Light multiplies: where a lock gets twice as light, so do its strands (`training.batches.keep_strands` is the same in training).
        """
        size = self.strands.shape[::-1]
        if change.shape[0] < size[0]:
            change = cv2.resize(change, size, interpolation=cv2.INTER_CUBIC)
        grey = cv2.transform(change, GREY)
        low = cv2.resize(grey, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)
        gain = np.clip(LIT * low / (self.locks + BLACK), *RANGE)
        low, gain = (cv2.resize(v, size, interpolation=cv2.INTER_LINEAR) for v in (low, gain))
        light = cv2.subtract(cv2.multiply(self.strands, gain), cv2.multiply(cv2.subtract(grey, low), self.fine_hair, scale=OWN_STRANDS))
        over = np.maximum(cv2.subtract(cv2.add(grey, light), self.white), 0)
        return cv2.add(change, _three(cv2.subtract(light, cv2.multiply(over, self.fine_hair))))

    def keep_soft(self, change):
        """The change, as above, no crisper than the photo: in one out of focus, or of a small face, a crisp wrinkle looks drawn with a pen."""
        return cv2.GaussianBlur(change, (0, 0), self.blur) if self.blur > 0.3 else change

    def keep_dark(self, change):
        """The change, as above, but what is dark outside the hair gets at most half as light again, and DARK levels: glasses stay. And it gets
        little darker: drawn younger, brows and lashes looked made up."""
        grey = cv2.transform(change, GREY)
        return cv2.subtract(change, _three(cv2.subtract(grey, np.clip(grey, self.floor, self.room))))

    def keep_warm(self, change):
        """The change, as above, without blue or green casts: no pixel becomes bluer or greener than grey, or than it was."""
        _, red, blue = cv2.split(cv2.cvtColor(cv2.scaleAdd(change, 1 / 255, self.unit), cv2.COLOR_RGB2YCrCb))
        np.minimum(np.subtract(red, self.least, out=red), 0, out=red)      # how far they go beyond the limit; grey is 0.5
        np.maximum(np.subtract(blue, self.most, out=blue), 0, out=blue)
        return cv2.subtract(change, cv2.transform(cv2.merge((red, red, blue)), CAST))


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
    if ratio * 1.5 < 1:                  # a face smaller than the change: shrink by areas
        edge = int(np.ceil(face.frame))
        layer = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_AREA)
    elif ratio > 1.5:                    # enlarge upright, which is quick, to half the way or more; then turn
        edge = size * 2 ** max(1, int(np.log2(ratio)))
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
