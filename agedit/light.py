"""The light of a photo: networks look at a face in ordinary light, and their change is lit as the photo is.

A photo is taken as an ordinary one times its light, channel by channel (von Kries), in the levels of sRGB. In
ordinary light nothing happens at all.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit import outlines
from agedit.align import EYES, IRISES, LIPS, OVAL, Face

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""

LUMA = (0.299, 0.587, 0.114)
"""How much of the brightness of sRGB is red, green and blue (ITU-R BT.601)."""

TO_LUMA = np.array([LUMA], np.float32)


@dataclass(frozen=True)
class LightSettings:
    """How light is measured; the colours are those of studio portraits in white light."""

    bright_quantile: float = 0.9
    """Quantile of the skin's brightness that tells the exposure; dark skin has highlights too."""
    bright: float = 170.0
    """Levels of it in a photo that is exposed well."""
    dark_from: float = 135.0
    """Levels of it below which a photo is underexposed; 19 of 20 photos are above."""
    dark_to: float = 95.0
    """Levels of it at which that is made up for in full."""
    most_gain: float = 4.0
    """What is darker yet shows nothing but noise."""
    highlights: float = 0.97
    """Quantile from which on the darkest channel of a pixel says that it shows something white."""
    clipped: float = 250.0
    """Levels from which on a pixel has lost its colour."""
    white: tuple[float, float] = (0.0, 0.0)
    """Logarithms of red and blue over green of what shows white."""
    sclera: tuple[float, float] = (0.06, -0.02)
    """Those of the whites of the eyes."""
    clear_eyes: float = 200.0
    """Edge of a face's square, in pixels of the photo, below which the whites of its eyes are a blur."""
    skin: tuple[float, float] = (0.26, -0.16)
    """Those of skin."""
    ordinary: float = 0.04
    """Light whose logarithms are so little off is ordinary."""
    coloured: float = 0.08
    """Light that is so much off is of a colour of its own, in full."""
    monochrome: float = 1.0
    """Levels by which colours may differ among pixels of one brightness in a photo of one colour."""
    small: int = 128
    """Pixels across in which that is looked at."""


LIGHT = LightSettings()


@dataclass(frozen=True)
class Light:
    """What a photo has more or less of than an ordinary one.

    gain: (3,) the photo is so many times the ordinary one.
    monochrome: whether it is black-and-white, or of any other single colour.
    """

    gain: npt.NDArray[np.float32]
    monochrome: bool = False

    @property
    def ordinary(self) -> bool:
        return not self.monochrome and bool((self.gain == 1).all())

    def standard(self, picture: Picture) -> Picture:
        """RGB uint8 (H, W, 3) as in ordinary light; the same array where the light is."""
        if self.ordinary:
            return picture
        levels = np.arange(256, dtype=np.float32)[None, :, None] / self.gain
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return cv2.LUT(picture, table).astype(np.uint8, copy=False)

    def shown(self, change: Array) -> npt.NDArray[np.float32]:
        """A change in ordinary light, float32 (h, w, 3) in levels, as this light shows it."""
        if self.ordinary:
            return np.asarray(change, np.float32)
        from_levels = TO_LUMA[[0, 0, 0]] if self.monochrome else np.eye(3, dtype=np.float32)
        lit = cv2.transform(change, self.gain[:, None] * from_levels)
        return np.asarray(lit, np.float32)


ORDINARY = Light(np.ones(3, np.float32))


def light_of(crop: Picture, wide: Picture, face: Face) -> Light:
    """The light on a face.

    Args:
        crop: the aligned face, RGB uint8 (S, S, 3).
        wide: the face with what is around it, RGB uint8 (h, w, 3).
        face: whose reference square `crop` shows.
    """
    skin, sclera = _skin_and_sclera(crop, face)
    if face.frame < LIGHT.clear_eyes:
        sclera = sclera[:0]
    if not len(skin):
        return ORDINARY
    exposure = np.float32(1 / _missing_light(skin))
    one_colour = _single_colour(crop, exposure)
    if one_colour is not None:
        return Light(exposure * one_colour, monochrome=True)
    return Light(exposure * _white(wide, skin, sclera))


def _skin_and_sclera(crop: Picture, face: Face) -> tuple[Array, Array]:
    """Pixels of the skin and of the whites of the eyes, float32 (N, 3) each."""
    size = len(crop)
    points = face.in_square(size)
    skin = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(skin, outlines.pixels(points, OVAL), (1,))
    skin = cv2.erode(skin, np.ones((size // 12, size // 12)))
    eyes = np.zeros((size, size), np.uint8)
    for lids in EYES:
        cv2.fillPoly(eyes, [outlines.pixels(points, lids)], (1,))
    cv2.fillPoly(skin, [outlines.pixels(points, LIPS)], (0,))
    skin[eyes > 0] = 0
    sclera = cv2.erode(eyes, np.ones((size // 100, size // 100)))
    for centre, *rim in IRISES:
        radius = float(np.linalg.norm(points[rim] - points[centre], axis=1).mean())
        x, y = np.round(points[centre]).astype(int).tolist()
        cv2.circle(sclera, (x, y), round(1.15 * radius), (0,), -1)
    return crop[skin > 0].astype(np.float32), crop[sclera > 0].astype(np.float32)


def _missing_light(skin: Array) -> float:
    """How many times as bright an underexposed photo would have to be; 1 for others."""
    bright = max(1.0, float(np.quantile(skin @ TO_LUMA[0], LIGHT.bright_quantile)))
    share = float(np.clip((LIGHT.dark_from - bright) / (LIGHT.dark_from - LIGHT.dark_to), 0, 1))
    return 1 + share * (min(LIGHT.most_gain, LIGHT.bright / bright) - 1)


def _single_colour(crop: Picture, exposure: np.float32) -> npt.NDArray[np.float32] | None:
    """What white is, (3,), in a photo whose colours depend on brightness alone; None for other photos.

    Args:
        exposure: brightness of the photo, 1 for one exposed well.
    """
    small = cv2.resize(crop, (LIGHT.small, LIGHT.small), interpolation=cv2.INTER_AREA)
    pixels = small.reshape(-1, 3).astype(np.float32) / exposure
    brightness = pixels @ TO_LUMA[0]
    levels = np.round(brightness / 8).astype(int)
    count = np.maximum(np.bincount(levels), 1)
    for channel in (0, 2):
        colour = pixels[:, channel] - brightness
        usual = np.bincount(levels, colour) / count
        if np.abs(colour - usual[levels]).mean() > LIGHT.monochrome:
            return None
    return _unit(pixels.mean(0) + 1e-3)


def _white(wide: Picture, skin: Array, sclera: Array) -> npt.NDArray[np.float32]:
    """What white is, (3,): as far as highlights, eyes and skin agree, for each of them can err."""
    pixels = wide.reshape(-1, 3).astype(np.float32)
    pixels = pixels[pixels.max(1) < LIGHT.clipped]
    said = [_off(np.median(skin, 0), LIGHT.skin)]
    if len(sclera):
        light = sclera @ TO_LUMA[0]
        said.append(_off(np.median(sclera[light >= np.median(light)], 0), LIGHT.sclera))
    if len(pixels):
        darkest = pixels.min(1)
        said.append(_off(pixels[darkest >= np.quantile(darkest, LIGHT.highlights)].mean(0), LIGHT.white))
    off = np.maximum(np.min(said, axis=0), 0) + np.minimum(np.max(said, axis=0), 0)
    share = np.clip((np.abs(off) - LIGHT.ordinary) / (LIGHT.coloured - LIGHT.ordinary), 0, 1)
    if not share.any():
        return np.ones(3, np.float32)
    red, blue = off * share
    return _unit(np.exp(np.array([red, 0, blue], np.float32)))


def _off(colour: Array, norm: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Logarithms of red and blue over green of a colour (3,), less those of the same thing in white light."""
    red, green, blue = np.log(np.maximum(colour, 1.0))
    return np.array([red - green - norm[0], blue - green - norm[1]])


def _unit(colour: Array) -> npt.NDArray[np.float32]:
    """A colour (3,) of brightness 1."""
    return (colour / (colour @ TO_LUMA[0])).astype(np.float32)
