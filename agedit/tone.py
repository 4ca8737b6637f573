"""What the app shows of a generated change: the photo's own colours, shadows and strands of hair, and no crisper than the photo."""

import cv2
import numpy as np

from agedit.blend import MASK_SIZE

TONE, BRIGHTNESS = (
    0.9,
    0.95,
)  # share of a change's colour outside the hair, and of the brightness of the skin around, that is taken back
PLACES, FACE_BLUR, PLACE_BLUR = (
    32,
    1.6,
    1.2,
)  # cells across a grid over the crop; sigmas, in cells: half a cheek, one lock of hair
LOCKS, OWN_STRANDS = (
    64,
    0.9,
)  # cells across a grid over the crop; share of what is drawn finer than them in hair that is taken back
LIT, BLACK, RANGE = (
    0.8,
    12,
    (-0.6, 1.5),
)  # share of a change's light that strands get; levels of 255 that black hair reflects; by how much, at most
SHADED, SHARE, LIT_LOCK = (
    0.8,
    0.6,
    230,
)  # of how much lighter hair gets: by how much its light and shade grow; how far a lock is brought to that; levels of a lit lock
LIGHTER = (
    10  # levels of 255: hair that gets so much lighter is greying, and gets no colour that it does not have
)
STRONG = 40  # levels of 255 by which a strand stands out from its lock: as much, and getting lighter adds nothing to that
WHITE, SHOULDER = (
    230,
    0.5,
)  # levels of 255 beyond which hair gets no lighter: between strands a bright wall is seen; share of the way there that it slows down
DIM = (
    0.75,
    0.9,
)  # of the surroundings' brightness: below the first it is not skin but a brow, an eye, a nostril
DARK = 8  # levels of 255 by which black outside the hair may get lighter
DARKER, BLACKER, FREE = (
    0.15,
    4,
    400,
)  # share and levels of 255 by which what is dark may get darker; levels that plain skin and hair may
FOLD, RIDGES = 0.9, 0.5  # sigma in cells of LOCKS: light that is finer is a ridge; share of it that stays
BLOWN, BEYOND_WHITE = (
    (225, 252),
    16,
)  # of a pixel's brightest colour: from where on it is overexposed, and wholly; levels of light that then lie beyond white
SHADE = (
    48  # levels of 255 that are added to a pixel before its colour is taken: very dark pixels have hardly one
)
LUMA = (0.299, 0.587, 0.114)
GREY, SUM = np.float32([LUMA]), np.ones((1, 3), np.float32)
CAST = np.float32(255) * np.float32(
    [[0, 1.403, 0], [0, -0.714, -0.344], [0, 0, 1.773]]
)  # YCrCb to RGB, without Y
IN_FOCUS, CELL, MOST_BLUR = (
    1.1,
    0.5,
    0.006,
)  # sigmas: of a crop in focus, in its pixels; of a network's picture, in its own; the most, in crops
REBLUR, EDGES, FAINT = (
    2,
    0.97,
    32,
)  # sigma of the blur that tells how blurred a crop is; share and slope (8 a level a pixel) from which an edge is one


def _places(v, sigma=PLACE_BLUR, cells=PLACES):
    """(r, r) averaged over the neighbourhoods of a grid: (cells, cells). sigma: in cells."""
    return cv2.GaussianBlur(cv2.resize(v, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), sigma)


def _fine(v):
    """(r, r) less what is coarser than a fold."""
    return cv2.subtract(
        v, cv2.resize(_places(v, FOLD, LOCKS), v.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    )


def skin(grey, mask, kept):
    """How much each place is plain skin, float32 (r, r) in 0..1: what tells whether a face as a whole gets lighter or darker.

    Greying brows and the hair's rim do get lighter; counted in, they made the skin around them darker by some 10 levels of 255.

    Args:
        grey: (r, r), the photo's brightness. mask, kept: (r, r) in 0..1, what may change, and what is not hair.
    """
    face = mask * kept
    around = cv2.resize(
        _places(grey * face, FACE_BLUR) / (_places(face, FACE_BLUR) + 1e-3),
        grey.shape[::-1],
        interpolation=cv2.INTER_LINEAR,
    )
    return face * kept**3 * np.clip((grey / (around + 1) - DIM[0]) / (DIM[1] - DIM[0]), 0, 1)


def gain_of(lighter, lock):
    """How much stronger strands get, -0.6..1.5, where a lock of this brightness gets so much lighter; NumPy or torch, of one shape, in levels of 255."""
    return (LIT * lighter / (lock + BLACK)).clip(*RANGE)


def lit(strands, gain):
    """How much further strands stand out from a lock that gets lighter, NumPy or torch, in levels of 255: light multiplies, but white hair lets light
    through, so that its shades are filled. Multiplied alone, well-lit hair looked drawn with a pen.

    Args:
        strands: brightness less that of the lock. gain: see `gain_of`; of the same shape.
    """
    strong = abs(strands) / STRONG
    return strands * gain * (1 - (gain > 0) * strong) / (1 + gain.clip(0) * strong)


def too_light(light, room):
    """What is taken off how much lighter hair gets so that it comes near to `room` only slowly, as highlights do on film. NumPy or torch, of one shape."""
    over = (light - (1 - SHOULDER) * room).clip(0)
    return over * over / (over + SHOULDER * room + 1e-4)


def photo_blur(crop):
    """How blurred a photo is: sigma as a share of its aligned crop, RGB uint8 (S, S, 3); 0 for one in focus.

    A second blur takes much of a sharp edge and little of a soft one (Zhuo and Sim, 2011), here of the strongest edges between forehead and mouth.
    """
    s = crop.shape[0]
    grey = cv2.cvtColor(
        np.ascontiguousarray(crop[s // 4 : s * 4 // 5, s // 4 : s * 3 // 4]), cv2.COLOR_RGB2GRAY
    ).astype(np.float32)
    slope = lambda v: cv2.magnitude(cv2.Sobel(v, cv2.CV_32F, 1, 0), cv2.Sobel(v, cv2.CV_32F, 0, 1))
    before, after = slope(grey), slope(cv2.GaussianBlur(grey, (0, 0), REBLUR))
    edges = before >= max(FAINT, np.quantile(before, EDGES))
    if not edges.any():
        return 0.0
    ratio = max(1.01, float(np.median(before[edges] / (after[edges] + 1e-3))))
    return max(0.0, REBLUR**2 / (ratio**2 - 1) - IN_FOCUS**2) ** 0.5 / s


def change_blur(blur, r):
    """By how much a change drawn at r pixels must be blurred to be no crisper than its photo: sigma in pixels of r. blur: see `photo_blur`."""
    return r * min(MOST_BLUR, max(0.0, blur**2 - (CELL / r) ** 2) ** 0.5)


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
        area = lambda v, size: cv2.resize(
            v, (size, size), interpolation=cv2.INTER_AREA if size < v.shape[0] else cv2.INTER_LINEAR
        )
        photo = area(crop, r).astype(np.float32)
        kept = area(1 - hair, r)
        light = photo + SHADE
        self.shade = kept[:, :, None] * light / cv2.transform(light, GREY)[:, :, None]
        own = 1 - TONE * kept  # what `keep_tone` leaves of a change's colour
        self.drawn = np.repeat(own[:, :, None], 3, 2)
        grey = cv2.transform(photo, GREY)
        self.skin = skin(grey, area(mask, r), kept)
        self.around = _places(self.skin, FACE_BLUR) + 0.01
        self.hair = area(hair, r)
        self.hairs = self.hair / own  # at the rim most of that is the hair's
        self.rim = self.hairs - self.hair
        self.lines, self.ridged = np.maximum(-_fine(grey), 0), (1 - RIDGES) * kept
        blown = cv2.GaussianBlur(
            np.clip((photo.max(2) - BLOWN[0]) / (BLOWN[1] - BLOWN[0]), 0, 1), (0, 0), r / 256
        )
        self.beyond_white = BEYOND_WHITE * blown * kept if blown.any() else None
        self.room = grey / 2 + DARK + 255 * self.hair
        self.floor = -(DARKER * grey + BLACKER + FREE * (self.skin + self.hair))
        colour = photo - grey[:, :, None]
        self.colour, self.coarse, self.coarse_hair = (
            colour * self.hair[:, :, None],
            area(colour, 2 * PLACES),
            area(hair, 2 * PLACES),
        )
        own_colour = cv2.transform(self.coarse * self.coarse, SUM) * self.coarse_hair
        self.strength = _places(own_colour) + 20 * _places(self.coarse_hair) + 1e-3
        self.all_colour = float(own_colour.sum()) + 1
        self.blur = change_blur(blur, r)
        fine = max(r, MASK_SIZE)  # strands are the photo's own: a small network's pictures get them too
        self.fine_hair, light = (
            (self.hair, grey)
            if fine == r
            else (area(hair, fine), cv2.transform(area(crop, fine).astype(np.float32), GREY))
        )
        self.locks = area(light, LOCKS)
        plain = area(self.fine_hair, LOCKS) ** 4
        self.plain = plain / max(float(plain.sum()), 20)  # a few strands tell nothing
        self.lock = float((self.plain * self.locks).sum())
        self.unlike = self.locks - self.lock
        self.contrast = float((self.plain * self.unlike**2).sum())
        self.strands = (
            light - cv2.resize(self.locks, (fine, fine), interpolation=cv2.INTER_LINEAR)
        ) * self.fine_hair
        self.white = np.maximum(WHITE - light, 0)
        self.unit = photo / np.float32(255)
        before = cv2.cvtColor(self.unit, cv2.COLOR_RGB2YCrCb)
        self.least, self.most = np.minimum(before[:, :, 1], 0.5), np.maximum(before[:, :, 2], 0.5)

    def __call__(self, change):
        """The change, float32 (r, r, 3) in units of 0..255, as it is shown: (s, s, 3), s = max(r, MASK_SIZE)."""
        change = self.keep_soft(self.keep_hair(self.keep_blown(self.keep_tone(self.keep_shadows(change)))))
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
        whole = cv2.resize(
            _places(grey * self.skin, FACE_BLUR) / self.around, size, interpolation=cv2.INTER_LINEAR
        )
        light = cv2.multiply(self.shade, _three(cv2.addWeighted(grey, TONE, whole, -BRIGHTNESS, 0)))
        return cv2.add(light, cv2.multiply(change, self.drawn), light)

    def keep_blown(self, change):
        """The change, as above, less of what is faint where the photo is overexposed: a shadow takes light beyond white first. All of it looked smeared on."""
        if self.beyond_white is None:
            return change
        grey = np.abs(cv2.transform(change, GREY))
        return cv2.multiply(change, _three(cv2.divide(grey, grey + self.beyond_white + np.float32(1e-3))))

    def keep_hair(self, change):
        """The change, as above, hair that turns grey place by place brought to less of its own colour instead of spots of others.

        Colours of hair change smoothly: what is drawn finer than that is light and dark, and the rest of it noise.
        """
        small = cv2.resize(change, self.coarse.shape[1::-1], interpolation=cv2.INTER_AREA)
        lighter = cv2.transform(small, GREY)[:, :, None]
        small -= lighter
        after = self.coarse + small
        small *= np.clip(1 - lighter / LIGHTER, 0, 1)
        kept = cv2.transform(self.coarse * after, SUM) * self.coarse_hair
        # no lock keeps more than the head of hair as a whole: half blond and half white looked dyed
        left = np.minimum(
            np.clip(_places(kept) / self.strength, 0, 1), max(0.0, float(kept.sum()) / self.all_colour)
        )
        # grey hair may get colour, half of what is drawn: black hair's is often red
        gains = 0.5 * np.clip(
            _places(cv2.transform(after * after, SUM) * self.coarse_hair) / self.strength - 1, 0, 1
        )
        drawn, gains, lost = (
            cv2.resize(v, change.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            for v in (small, gains, (1 - gains) * (left - 1))
        )
        toward = cv2.subtract(_three(cv2.transform(change, GREY)), change)
        cv2.multiply(toward, _three(self.hairs), toward)
        cv2.add(cv2.add(toward, change, toward), cv2.multiply(self.colour, _three(lost)), toward)
        return cv2.add(
            toward, cv2.multiply(drawn, _three(cv2.add(cv2.multiply(gains, self.hair), self.rim))), toward
        )

    def keep_locks(self, change):
        """The change, float32 (r, r, 3) in units of 0..255, hair that gets lighter brought some way to what keeps its own lit and shaded locks so:
        drawn, it was one flat grey, at the temples as light as skin."""
        low = cv2.resize(cv2.transform(change, GREY), (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)
        lighter = float((self.plain * low).sum())
        if lighter <= 0:
            return change
        slope = float((self.plain * self.unlike * (low - lighter)).sum()) / (self.contrast + 100)
        shaded = min(
            SHADED * lighter / (self.lock + 30),
            (LIT_LOCK - self.lock - lighter) / (2 * self.contrast**0.5 + 1) - 1,
        )
        more = SHARE * (lighter + max(slope, shaded) * self.unlike - low)
        return cv2.add(
            change,
            _three(
                cv2.multiply(cv2.resize(more, change.shape[1::-1], interpolation=cv2.INTER_LINEAR), self.hair)
            ),
        )

    def keep_strands(self, change):
        """The change, as above, enlarged to MASK_SIZE if it is smaller, with the photo's own strands for those that are drawn in the hair.

        Where a lock gets lighter, so do its strands, see `lit` (`training.batches.keep_strands` is the same in training).
        """
        size = self.strands.shape[::-1]
        if change.shape[0] < size[0]:
            change = cv2.resize(change, size, interpolation=cv2.INTER_CUBIC)
        grey = cv2.transform(change, GREY)
        low = cv2.resize(grey, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)
        gain = gain_of(low, self.locks)
        low, gain = (cv2.resize(v, size, interpolation=cv2.INTER_LINEAR) for v in (low, gain))
        light = cv2.subtract(
            lit(self.strands, gain), cv2.multiply(cv2.subtract(grey, low), self.fine_hair, scale=OWN_STRANDS)
        )
        over = too_light(cv2.add(grey, light), self.white)
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
        np.minimum(
            np.subtract(red, self.least, out=red), 0, out=red
        )  # how far they go beyond the limit; grey is 0.5
        np.maximum(np.subtract(blue, self.most, out=blue), 0, out=blue)
        return cv2.subtract(change, cv2.transform(cv2.merge((red, red, blue)), CAST))
