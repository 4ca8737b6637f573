"""What is shown of a generated change: three layers with one idea each.

- Skin is the photo's own skin, lit anew: outside the hair a change is light and dark of the photo's own
  colour.
- Hair is the photo's own locks and strands, lit anew: they get lighter with their place, and lose colour
  evenly.
- Nothing is crisper than the photo.

The networks are trained on the change as it is shown: `training.shown` has the first two layers in PyTorch. A
change is float32 (r, r, 3), in levels of 255, in the reference position; brightness is luma in the same unit.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.light import TO_LUMA
from agedit.masks import MASK_SIZE

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""

SUM_CHANNELS = np.ones((1, 3), np.float32)

PLACES = 32
"""Cells across a grid over the crop: a place is as wide as an eye."""

LOCKS = 64
"""Cells across a finer grid: a lock of hair, the width of a fold."""


@dataclass(frozen=True)
class SkinSettings:
    """How a change outside the hair is shown."""

    own_colour: float = 0.9
    """Share of a change that is given the photo's own colour; the rest keeps the colour that was drawn."""
    own_brightness: float = 0.95
    """Share of what a change does to the brightness of the skin around that is taken back."""
    around_sigma: float = 1.6
    """Width of "around", half a cheek: sigma in PLACES."""
    dark_offset: float = 48.0
    """Levels added to a pixel before its colour is taken: very dark pixels hardly have one."""
    plain_from: float = 0.75
    """Brightness, as a share of the skin around, up to which a place is no skin but a brow, an eye, a
    nostril.
    """
    plain_to: float = 0.9
    """Brightness from which on a place is plain skin."""
    fold_sigma: float = 0.9
    """Light finer than this is a ridge: sigma in LOCKS."""
    ridge_share: float = 0.5
    """Share of a ridge's light that stays: wrinkles are shadows, but networks draw a light ridge beside each.
    """
    blown_from: float = 225.0
    """Levels of a pixel's brightest colour from which on it is overexposed."""
    blown_to: float = 252.0
    """Levels at which it is wholly overexposed."""
    beyond_white: float = 16.0
    """Levels of light that then lie beyond white: a shadow takes these first, or faint ones would smear."""
    lighter_share: float = 0.5
    """Share by which what is dark may get lighter at most, so that glasses stay black."""
    lighter_levels: float = 8.0
    """Levels that it may get lighter besides."""
    darker_share: float = 0.15
    """Share by which what is dark may get darker at most, so that brows and lashes do not look made up."""
    darker_levels: float = 4.0
    """Levels that it may get darker besides."""
    unlimited: float = 400.0
    """Levels that plain skin and hair may get darker: no limit."""


@dataclass(frozen=True)
class HairSettings:
    """How a change in the hair is shown."""

    place_sigma: float = 1.2
    """Width over which a place's colour is taken: sigma in PLACES."""
    greying: float = 10.0
    """Levels: hair that gets so much lighter is greying, and gets no colour that it does not have."""
    drawn_colour: float = 0.5
    """Share of the colour that grey hair is given; black hair's is often red."""
    own_strands: float = 0.9
    """Share of what is drawn finer than a place that is replaced by the photo's own locks and strands."""
    strand_light: float = 0.8
    """Share of a place's light that its locks and strands get."""
    black: float = 12.0
    """Levels that black hair reflects."""
    least_gain: float = -0.6
    most_gain: float = 1.5
    """By how much strands get weaker or stronger at most."""
    strong: float = 40.0
    """Levels by which a strand stands out from its place for it to get no stronger: white hair is
    translucent.
    """
    white: float = 230.0
    """Levels beyond which hair gets no lighter; what is brighter between strands is a wall."""
    shoulder: float = 0.5
    """Last share of the way to white on which hair gets lighter ever more slowly."""


@dataclass(frozen=True)
class FocusSettings:
    """How the focus of a photo is measured, and a change blurred to it."""

    in_focus: float = 1.1
    """Blur of a crop in focus: sigma in its pixels."""
    cell: float = 0.5
    """Blur of a network's picture by its own pixels: sigma in those."""
    most_blur: float = 0.006
    """Strongest blur, as a share of the crop: sigma."""
    reblur: float = 2.0
    """Sigma of the second blur that tells how blurred a crop is, in its pixels."""
    edge_quantile: float = 0.97
    """Edges are slopes from this quantile on."""
    faint: float = 32.0
    """Sobel response, 8 a level a pixel, below which nothing is an edge."""
    least_sigma: float = 0.3
    """A blur below this many pixels is left out."""


SKIN = SkinSettings()
HAIR = HairSettings()
FOCUS = FocusSettings()


class Tone:
    """A photo's own skin, hair and focus, prepared for changes of one resolution.

    Args:
        crop: RGB (S, S, 3), aligned, S >= r.
        mask: (256, 256) in 0..1, what may change (see `masks.Masker`).
        hair: (256, 256) in 0..1.
        r: resolution of the changes, a multiple of LOCKS.
        blur: of the photo (see `photo_blur`).
    """

    def __init__(self, crop: Picture, mask: Array, hair: Array, r: int, blur: float = 0.0) -> None:
        photo = _resize(crop, r).astype(np.float32)
        grey = _luma(photo)
        self.skin = Skin(photo, grey, _resize(mask, r), _resize(1 - hair, r), _resize(hair, r))
        self.hair = Hair(crop, photo, grey, hair, r)
        self.blur = change_blur(blur, r)

    def __call__(self, change: Array) -> npt.NDArray[np.float32]:
        """The change (r, r, 3) as it is shown: (s, s, 3), s = max(r, MASK_SIZE)."""
        change = self.skin.relight(change)
        change = self.hair.fade_colour(change)
        change = self.soften(change)
        change = self.skin.limit(change)
        return self.hair.relight_strands(change).astype(np.float32, copy=False)

    def soften(self, change: Array) -> Array:
        """The change no crisper than the photo: a crisp wrinkle in a soft photo looks drawn with a pen."""
        return cv2.GaussianBlur(change, (0, 0), self.blur) if self.blur > FOCUS.least_sigma else change


class Skin:
    """The photo's own skin, lit anew.

    People of another age are not of another colour, but the pictures that the networks learned from are.

    Args:
        photo: float32 (r, r, 3) in 0..255.
        grey: its brightness (r, r).
        mask, not_hair, hair: (r, r) in 0..1.
    """

    def __init__(self, photo: Array, grey: Array, mask: Array, not_hair: Array, hair: Array) -> None:
        light = photo + SKIN.dark_offset
        self.colour = not_hair[:, :, None] * light / _luma(light)[:, :, None]
        self.drawn_share = np.repeat((1 - SKIN.own_colour * not_hair)[:, :, None], 3, 2)
        self.plain = plain_skin(grey, mask, not_hair)
        self.plain_around = _places(self.plain, SKIN.around_sigma) + 0.01
        self.dark_lines = np.maximum(-_finer_than_folds(grey), 0)
        self.ridge_loss = (1 - SKIN.ridge_share) * not_hair
        self.beyond_white = _light_beyond_white(photo) * not_hair
        self.overexposed = bool(self.beyond_white.any())
        self.most_lighter = SKIN.lighter_share * grey + SKIN.lighter_levels + 255 * hair
        free = SKIN.unlimited * (self.plain + hair)
        self.most_darker = -(SKIN.darker_share * grey + SKIN.darker_levels + free)

    def relight(self, change: Array) -> Array:
        """The change as light and dark of the photo's own colour, outside the hair.

        The brightness of the skin around stays nearly as it was.
        """
        return self.spare_highlights(self.take_own_colour(self.weaken_ridges(change)))

    def weaken_ridges(self, change: Array) -> Array:
        """The change less half of its fine light that does not fill a dark line of the photo's."""
        ridges = np.maximum(cv2.subtract(_finer_than_folds(_luma(change)), self.dark_lines), 0)
        return cv2.subtract(change, _three(cv2.multiply(ridges, self.ridge_loss)))

    def take_own_colour(self, change: Array) -> Array:
        """The change in the photo's own colour, the brightness around taken back."""
        grey = _luma(change)
        around = _places(grey * self.plain, SKIN.around_sigma) / self.plain_around
        around = cv2.resize(around, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
        light = cv2.addWeighted(grey, SKIN.own_colour, around, -SKIN.own_brightness, 0)
        return cv2.add(cv2.multiply(self.colour, _three(light)), cv2.multiply(change, self.drawn_share))

    def spare_highlights(self, change: Array) -> Array:
        """The change less of what is faint where the photo is overexposed."""
        if not self.overexposed:
            return change
        strength = np.abs(_luma(change))
        share = cv2.divide(strength, strength + self.beyond_white + np.float32(1e-3))
        return cv2.multiply(change, _three(share))

    def limit(self, change: Array) -> Array:
        """The change, what is dark outside the hair neither much lighter nor much darker."""
        grey = _luma(change)
        excess = cv2.subtract(grey, np.clip(grey, self.most_darker, self.most_lighter))
        return cv2.subtract(change, _three(excess))


class Hair:
    """The photo's own hair, lit anew.

    Args:
        crop: RGB uint8 (S, S, 3).
        photo: the same as float32 (r, r, 3).
        grey: its brightness (r, r).
        hair: (256, 256) in 0..1.
        r: resolution of the changes.
    """

    def __init__(self, crop: Picture, photo: Array, grey: Array, hair: Array, r: int) -> None:
        self.share = _resize(hair, r)
        drawn_share = 1 - SKIN.own_colour * _resize(1 - hair, r)
        self.coloured = (
            self.share / drawn_share
        )  # at the rim most of the drawn colour that is left is the hair's
        self.rim = self.coloured - self.share
        self._set_colour(photo, grey, hair)
        self._set_strands(crop, grey, hair, r)

    def _set_colour(self, photo: Array, grey: Array, hair: Array) -> None:
        colour = photo - grey[:, :, None]
        cells = 2 * PLACES
        self.colour = colour * self.share[:, :, None]
        self.coarse_colour = _resize(colour, cells)
        self.coarse_share = _resize(hair, cells)
        energy = _sum_channels(self.coarse_colour * self.coarse_colour) * self.coarse_share
        self.colour_energy = (
            _places(energy, HAIR.place_sigma) + 20 * _places(self.coarse_share, HAIR.place_sigma) + 1e-3
        )
        self.total_energy = float(energy.sum()) + 1

    def _set_strands(self, crop: Picture, grey: Array, hair: Array, r: int) -> None:
        """Strands are the photo's own, so a small network's pictures get them too, at MASK_SIZE."""
        size = max(r, MASK_SIZE)
        self.fine_share = self.share if size == r else _resize(hair, size)
        light = grey if size == r else _luma(_resize(crop, size).astype(np.float32))
        self.places = _resize(light, PLACES)
        between = cv2.resize(self.places, (size, size), interpolation=cv2.INTER_LINEAR)
        self.strands = (light - between) * self.fine_share
        self.room_to_white = np.maximum(HAIR.white - light, 0)

    def fade_colour(self, change: Array) -> Array:
        """The change, hair that turns grey losing its own colour evenly instead of in spots of other colours.

        Colours of hair change smoothly: what is drawn finer is light and dark, and the rest of it noise.
        """
        drawn, gained, lost = self._colour_of(change)
        size = change.shape[1::-1]
        drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_LINEAR)
        gained = cv2.resize(gained, size, interpolation=cv2.INTER_LINEAR)
        lost = cv2.resize(lost, size, interpolation=cv2.INTER_LINEAR)
        to_grey = cv2.subtract(_three(_luma(change)), change)
        shown = cv2.add(cv2.multiply(to_grey, _three(self.coloured)), change)
        shown = cv2.add(shown, cv2.multiply(self.colour, _three(lost)))
        drawn_share = cv2.add(cv2.multiply(gained, self.share), self.rim)
        return cv2.add(shown, cv2.multiply(drawn, _three(drawn_share)))

    def _colour_of(self, change: Array) -> tuple[Array, Array, Array]:
        """What a change does to the hair's colour, by places.

        Returns:
            The colour drawn (64, 64, 3); the share of it that hair without colour gets, and by which share
            (negative) the hair's own colour changes, (32, 32) each.
        """
        drawn = cv2.resize(change, self.coarse_colour.shape[1::-1], interpolation=cv2.INTER_AREA)
        lighter = _luma(drawn)[:, :, None]
        drawn -= lighter
        after = self.coarse_colour + drawn
        drawn *= np.clip(1 - lighter / HAIR.greying, 0, 1)
        kept = _sum_channels(self.coarse_colour * after) * self.coarse_share
        left_here = np.clip(_places(kept, HAIR.place_sigma) / self.colour_energy, 0, 1)
        left_everywhere = max(0.0, float(kept.sum()) / self.total_energy)
        left = np.minimum(left_here, left_everywhere)  # half blond and half white looked dyed
        energy_after = _places(_sum_channels(after * after) * self.coarse_share, HAIR.place_sigma)
        gained = HAIR.drawn_colour * np.clip(energy_after / self.colour_energy - 1, 0, 1)
        return drawn, gained, (1 - gained) * (left - 1)

    def relight_strands(self, change: Array) -> Array:
        """The change, enlarged to MASK_SIZE if smaller, with the photo's own strands for those drawn."""
        size = self.strands.shape[::-1]
        if change.shape[0] < size[0]:
            change = cv2.resize(change, size, interpolation=cv2.INTER_CUBIC)
        grey = _luma(change)
        low = cv2.resize(grey, (PLACES, PLACES), interpolation=cv2.INTER_AREA)
        gain = strand_gain(low, self.places)
        low = cv2.resize(low, size, interpolation=cv2.INTER_LINEAR)
        gain = cv2.resize(gain, size, interpolation=cv2.INTER_LINEAR)
        drawn_strands = cv2.multiply(cv2.subtract(grey, low), self.fine_share, scale=HAIR.own_strands)
        light = cv2.subtract(relit_strands(self.strands, gain), drawn_strands)
        beyond_white = highlight_rolloff(cv2.add(grey, light), self.room_to_white)
        return cv2.add(change, _three(cv2.subtract(light, cv2.multiply(beyond_white, self.fine_share))))


def _light_beyond_white(photo: Array) -> Array:
    """Levels of light that the photo (r, r, 3) could not record, (r, r)."""
    blown = (photo.max(2) - SKIN.blown_from) / (SKIN.blown_to - SKIN.blown_from)
    return SKIN.beyond_white * cv2.GaussianBlur(np.clip(blown, 0, 1), (0, 0), len(photo) / 256)


def plain_skin(grey: Array, mask: Array, not_hair: Array) -> Array:
    """How much each place is plain skin, (r, r) in 0..1: it tells whether a face as a whole gets lighter.

    Brows and the hair's rim, which grey, are left out.

    Args:
        grey: (r, r), the photo's brightness.
        mask, not_hair: (r, r) in 0..1.
    """
    face = mask * not_hair
    around = _places(grey * face, SKIN.around_sigma) / (_places(face, SKIN.around_sigma) + 1e-3)
    around = cv2.resize(around, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    brightness = grey / (around + 1)
    bright_enough = (brightness - SKIN.plain_from) / (SKIN.plain_to - SKIN.plain_from)
    return face * not_hair**3 * np.clip(bright_enough, 0, 1)


def strand_gain(lighter, place):
    """By how much strands get stronger, -0.6..1.5, where a lock of brightness `lock` gets lighter by
    `lighter` levels.

    Light multiplies. NumPy arrays or tensors of one shape.
    """
    return (HAIR.strand_light * lighter / (place + HAIR.black)).clip(HAIR.least_gain, HAIR.most_gain)


def relit_strands(strands, gain):
    """How much further strands stand out from a place that gets lighter, in levels.

    Light multiplies, but white hair lets light through, so that its shades are filled: a strand that stands
    out by `strong` levels gets no stronger. NumPy arrays or tensors of one shape.

    Args:
        strands: brightness less that of the place.
        gain: see `strand_gain`.
    """
    strong = abs(strands) / HAIR.strong
    return strands * gain * (1 - (gain > 0) * strong) / (1 + gain.clip(0) * strong)


def highlight_rolloff(light, room):
    """What is taken off how much lighter hair gets, so that it nears white only slowly, as highlights do on
    film.

    NumPy arrays or tensors of one shape, in one unit.

    Args:
        light: how much lighter it gets.
        room: how much lighter it may get.
    """
    over = (light - (1 - HAIR.shoulder) * room).clip(0)
    return over * over / (over + HAIR.shoulder * room + 1e-4)


def photo_blur(crop: Picture) -> float:
    """How blurred a photo is: sigma as a share of its aligned crop (S, S, 3); 0 for one in focus.

    A second blur takes much of a sharp edge and little of a soft one (Zhuo and Sim, 2011). Measured at the
    strongest edges between forehead and mouth.
    """
    size = crop.shape[0]
    face = np.ascontiguousarray(crop[size // 4 : size * 4 // 5, size // 4 : size * 3 // 4])
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    before = _slope(grey)
    after = _slope(cv2.GaussianBlur(grey, (0, 0), FOCUS.reblur))
    edges = before >= max(FOCUS.faint, np.quantile(before, FOCUS.edge_quantile))
    if not edges.any():
        return 0.0
    ratio = max(1.01, float(np.median(before[edges] / (after[edges] + 1e-3))))
    variance = FOCUS.reblur**2 / (ratio**2 - 1) - FOCUS.in_focus**2
    return max(0.0, variance) ** 0.5 / size


def change_blur(blur: float, r: int) -> float:
    """The blur that makes a change drawn at r pixels no crisper than its photo: sigma in pixels of r.

    Args:
        blur: see `photo_blur`.
    """
    missing = max(0.0, blur**2 - (FOCUS.cell / r) ** 2) ** 0.5
    return r * min(FOCUS.most_blur, missing)


def _slope(grey: Array) -> Array:
    """Sobel magnitude."""
    return cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))


def _resize(v: npt.NDArray, size: int) -> npt.NDArray:
    """(S, S, ...) to (size, size, ...): by areas where it shrinks."""
    method = cv2.INTER_AREA if size < v.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(v, (size, size), interpolation=method)


def _places(v: npt.NDArray[Any], sigma: float, cells: int = PLACES) -> Array:
    """(r, r) averaged over the neighbourhoods of a grid: (cells, cells). sigma: in cells."""
    return cv2.GaussianBlur(cv2.resize(v, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), sigma)


def _finer_than_folds(v: Array) -> Array:
    """(r, r) less what is coarser than a fold."""
    coarse = cv2.resize(_places(v, SKIN.fold_sigma, LOCKS), v.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.subtract(v, coarse)


def _luma(v: Array) -> Array:
    """(r, r, 3) to its brightness (r, r)."""
    return cv2.transform(v, TO_LUMA)


def _sum_channels(v: npt.NDArray[Any]) -> Array:
    """(r, r, 3) to (r, r)."""
    return cv2.transform(v, SUM_CHANNELS)


def _three(v: Array) -> Array:
    """(r, r) to (r, r, 3): OpenCV moves whole pixels, several times faster than NumPy's broadcasting."""
    return cv2.merge((v, v, v))
