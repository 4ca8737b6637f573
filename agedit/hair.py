"""Hair that hangs out of the reference square: it gets the tone that an edit gives to the hair within.

The generator sees and draws the square alone. What it does to the light of hair there is a linear function of
the hair's own brightness, and what it leaves of its colour is a share; both go on along the same head of
hair, to its tips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import Face, Neighbour, align, region
from agedit.light import ORDINARY, TO_LUMA, Light
from agedit.masks import MASK_SIZE, WIDE, centred, own_share, ramp, warp_inside
from agedit.tone import HAIR, LOCKS, highlight_rolloff, relit_strands, strand_gain

Picture = npt.NDArray[np.uint8]
Array = MatLike
"""float32; OpenCV's stubs know no narrower type."""


@dataclass(frozen=True)
class OuterHairSettings:
    """How hair beyond the square is found and lit."""

    least_weight: float = 0.02
    """A weight below this is none."""
    sure: float = 0.8
    """Share of hair from which on a lock within the square tells about its tone."""
    least_locks: int = 12
    """Locks within the square that are hair: fewer say nothing about its tone."""
    wall: float = 40
    """Levels: what is so much brighter than bright locks within is half likely a wall, and darkens half."""
    bright_percentile: float = 95
    """Percentile of the locks' brightness that counts as bright."""
    least_slope: float = -0.9
    """Slope of the change of light over light, at least, for hair that gets darker."""
    most_slope: float = 1.2
    """The same at most."""
    most_pixels: int = 1_500_000
    """Pixels in which the change is worked out; a larger photo gets it enlarged."""
    tile: int = 64
    """Edge, in those pixels, of the tiles by which it is enlarged."""
    views: int = 2
    """Sizes of a photo that stay ready: the one on the page, and the aligned face."""


OUTER = OuterHairSettings()


class HairTone(NamedTuple):
    """What an edit does to hair: its light Y, in 0..255, becomes Y + offset + slope Y.

    colour_left: share of its colour that stays, 0..1.
    """

    offset: float
    slope: float
    colour_left: float


class _Tile(NamedTuple):
    """A part of a photo, from (x0, y0) to (x1, y1), that shows some of a layer.

    to_layer: (2, 3) from the part's pixel centres to the layer's.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    to_layer: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _View:
    """A photo's outer hair, pixel by pixel, at one size; N pixels.

    places: (N,) flat indices into the photo, or into `layer`.
    weight, darker: (N,) how much each is changed, and how much it may darken.
    lock, strand: (N,) brightness of the lock, and what the pixel stands out from it.
    colour: (N, 1, 3) weighted, without brightness.
    layer: (h, w, 3) where the change is worked out smaller than the photo, else None.
    tiles: parts of the photo that show some of `layer`.
    """

    places: npt.NDArray[np.intp]
    weight: Array
    darker: Array
    lock: Array
    strand: Array
    colour: Array
    layer: npt.NDArray[np.float32] | None
    tiles: list[_Tile]


@dataclass(frozen=True)
class _Frame:
    """The part of a photo that the wide square covers, shrunk.

    left, top, width, height: in photo pixels. w, h: in pixels of the shrunk part.
    """

    left: int
    top: int
    width: int
    height: int
    w: int
    h: int

    @property
    def shrunk(self) -> bool:
        return self.w * self.h < self.width * self.height

    def place(self, v: Array, face: Face) -> Array:
        """(s, s) of the wide square of `face` as the part shows it: (h, w), zeros around."""
        to_crop = face.to_crop(v.shape[0])
        x = self.left + 0.5 * self.width / self.w - 0.5
        y = self.top + 0.5 * self.height / self.h - 0.5
        to_crop[:, 2] += to_crop[:, :2] @ (x, y)
        to_crop[:, :2] *= self.width / self.w, self.height / self.h
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(v, to_crop, (self.w, self.h), flags=flags, borderMode=cv2.BORDER_CONSTANT)


class OuterHair:
    """One face's hair beyond its square.

    Args:
        rgb: uint8 (H, W, 3).
        face: of this photo.
        mask: float32 (256, 256) in 0..1, what may change within the square.
        hair: alike, its hair.
        wide: alike, its hair in the wide square (see `masks.Masker.own_hair`).
        others: the photo's other heads; what is nearer to one of them, by the size of each, is not this
            face's.
        light: the photo's.
    """

    def __init__(
        self,
        rgb: Picture,
        face: Face,
        mask: Array,
        hair: Array,
        wide: Array,
        others: Sequence[Face | Neighbour] = (),
        light: Light = ORDINARY,
    ) -> None:
        self.face = face.widened(WIDE)
        self._lit = light
        self._views: dict[tuple[tuple[int, ...], bytes], _View] = {}
        self.weight = self._weight(rgb, face, mask, wide, others)
        self.locks = _locks(light.standard(align(rgb, self.face, MASK_SIZE)), wide)
        self.inner = cv2.resize(hair, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA) > OUTER.sure
        within = light.standard(align(rgb, face, LOCKS))[self.inner].astype(np.float32)
        self.light = within @ TO_LUMA[0]
        self.colour = within - self.light[:, None]
        self.bright = 255.0
        if len(self.light):
            self.bright = np.percentile(self.light, OUTER.bright_percentile) + OUTER.wall
        self.exists = bool(self.weight.any()) and int(self.inner.sum()) >= OUTER.least_locks
        self.weight *= self.exists

    def _weight(
        self, rgb: Picture, face: Face, mask: Array, wide: Array, others: Sequence[Face | Neighbour]
    ) -> npt.NDArray[np.float32]:
        """How much each place of the wide square is changed, (256, 256) in 0..1.

        Within the reference square it is for hair that the network's own change does not reach at all: lips,
        irises and nose are reached a little.
        """
        border = np.outer(ramp(MASK_SIZE), ramp(MASK_SIZE))
        reached = np.clip(20 * centred(mask, 1), 0, 1) * centred(border, 1)
        # dilated: the photo's own edge cuts exactly
        inside = cv2.dilate(warp_inside(self.face, rgb.shape, MASK_SIZE), np.ones((5, 5)))
        weight = np.asarray(wide * (1 - reached) * border * inside, np.float32)
        weight *= own_share(self.face, face, others, MASK_SIZE)
        weight[weight < OUTER.least_weight] = 0
        return weight

    def tone(self, change: Array) -> HairTone:
        """What an edit does, in ordinary light, to the hair within the square: least squares over its locks.

        Args:
            change: float32 (r, r, 3) in levels of 255, as it is shown.
        """
        drawn = cv2.resize(change, (LOCKS, LOCKS), interpolation=cv2.INTER_AREA)[self.inner] / self._lit.gain
        lighter = drawn @ TO_LUMA[0]
        apart = self.light - self.light.mean()
        count = len(self.light)
        # hair that greys keeps its lit and shaded locks
        least = 0.0 if lighter.mean() > 0 else OUTER.least_slope
        slope = float(np.clip((apart @ lighter) / (apart @ apart + 25 * count), least, OUTER.most_slope))
        gained = (self.colour * (drawn - lighter[:, None])).sum() / ((self.colour**2).sum() + 4 * count)
        offset = float(lighter.mean() - slope * self.light.mean())
        return HairTone(offset, slope, float(np.clip(1 + gained, 0, 1)))

    def in_crop(self, size: int) -> Face:
        """The wide face as the aligned crop of `size` pixels shows it, as `add` wants it."""
        scale = 1 / (WIDE * size)
        start = 0.5 - 0.5 / WIDE
        return Face(self.face.points, self.face.yaw, np.array([[scale, 0, start], [0, scale, start]]))

    def add(self, picture: Picture, photo: Picture, tone: HairTone, face: Face) -> None:
        """Add the change of the hair beyond to `picture` in place.

        Args:
            picture: RGB uint8 (H, W, 3), contiguous, the edit of `photo`, of the same shape.
            tone: see `tone`.
            face: `self.face` as this photo has it (`Face.scaled`, `in_crop`).
        """
        view = self._view(photo, face)
        if not len(view.places):
            return
        change = self._lit.shown(_change(view, tone))
        if view.layer is None:
            # whole pixels at a time are several times as quick
            pixels = picture.reshape(-1, 3).view("V3")[:, 0]
            before = pixels[view.places].view(np.uint8).reshape(-1, 1, 3)
            after = cv2.add(before, change, dtype=cv2.CV_8U)
            pixels[view.places] = after.reshape(-1, 3).view("V3")[:, 0]
            return
        view.layer.reshape(-1, 3).view("V12")[view.places, 0] = change.reshape(-1, 3).view("V12")[:, 0]
        for tile in view.tiles:
            _add_tile(picture, view.layer, tile)

    def _view(self, photo: Picture, face: Face) -> _View:
        """The hair of this photo; the last few sizes stay ready."""
        key = photo.shape, face.matrix.tobytes()
        if key not in self._views:
            view = self._make_view(photo, face)
            if len(self._views) == OUTER.views:
                oldest = next(iter(self._views))
                del self._views[oldest]
            self._views[key] = view
        return self._views[key]

    def _make_view(self, photo: Picture, face: Face) -> _View:
        frame = _frame(photo, face)
        part: MatLike = photo[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
        if frame.shrunk:
            part = cv2.resize(part, (frame.w, frame.h), interpolation=cv2.INTER_AREA)
        placed = frame.place(self.weight, face)
        rows, columns = np.nonzero(placed > 0.01)
        weight = placed[rows, columns]
        pixels = self._lit.standard(np.asarray(part, np.uint8)[rows, columns][:, None])[:, 0].astype(
            np.float32
        )
        grey = pixels @ TO_LUMA[0]
        lock = frame.place(self.locks, face)[rows, columns]
        likely_hair = np.clip(1.5 - (grey - self.bright) / OUTER.wall, 0, 1)
        layer = None
        tiles: list[_Tile] = []
        places = (rows + frame.top) * photo.shape[1] + columns + frame.left
        if frame.shrunk:
            places = rows * frame.w + columns
            layer = np.zeros((frame.h, frame.w, 3), np.float32)
            layer.reshape(-1, 3)[places] = 1
            tiles = _tiles(layer[:, :, 0], frame)
        return _View(
            places=places,
            weight=weight,
            darker=weight * likely_hair,
            lock=lock,
            strand=grey - lock,
            colour=((pixels - grey[:, None]) * weight[:, None])[:, None],
            layer=layer,
            tiles=tiles,
        )


def _locks(crop: Picture, wide: Array) -> Array:
    """Brightness of the hair's locks over the wide square, in levels."""
    grey = cv2.transform(crop.astype(np.float32), TO_LUMA)
    weight = wide + 0.01
    return _by_locks(grey * weight) / _by_locks(weight)


def _by_locks(v: Array) -> Array:
    """(256, 256) averaged over locks."""
    cells = round(WIDE * LOCKS)
    return cv2.GaussianBlur(cv2.resize(v, (cells, cells), interpolation=cv2.INTER_AREA), (0, 0), 1.0)


def _change(view: _View, tone: HairTone) -> Array:
    """The change of each pixel, float32 (N, 1, 3) in levels."""
    light = tone.offset + tone.slope * view.lock
    light += relit_strands(view.strand, strand_gain(light, view.lock))
    light -= highlight_rolloff(light, np.maximum(HAIR.white - view.lock - view.strand, 0))
    light *= np.where(light < 0, view.darker, view.weight)
    return cv2.scaleAdd(view.colour, tone.colour_left - 1, cv2.merge((light, light, light)))


def _frame(photo: Picture, face: Face) -> _Frame:
    """The part of a photo that the wide square of `face` covers."""
    x0, y0, x1, y1 = (int(v) for v in region(face.to_crop(MASK_SIZE), MASK_SIZE, photo.shape))
    width = x1 - x0
    height = y1 - y0
    scale = min(1.0, (OUTER.most_pixels / (width * height)) ** 0.5)
    return _Frame(x0, y0, width, height, max(1, round(width * scale)), max(1, round(height * scale)))


def _tiles(used: Array, frame: _Frame) -> list[_Tile]:
    """The parts of a photo that show some of what is `used`, (h, w), enlarged to the frame."""
    h, w = used.shape
    used = cv2.dilate(used, np.ones((3, 3)))
    found = []
    for y in range(0, h, OUTER.tile):
        for x in range(0, w, OUTER.tile):
            if not used[y : y + OUTER.tile, x : x + OUTER.tile].any():
                continue
            x0 = round(x * frame.width / w)
            x1 = round(min(x + OUTER.tile, w) * frame.width / w)
            y0 = round(y * frame.height / h)
            y1 = round(min(y + OUTER.tile, h) * frame.height / h)
            to_layer = np.array(
                [
                    [w / frame.width, 0, (x0 + 0.5) * w / frame.width - 0.5],
                    [0, h / frame.height, (y0 + 0.5) * h / frame.height - 0.5],
                ]
            )
            found.append(_Tile(frame.left + x0, frame.top + y0, frame.left + x1, frame.top + y1, to_layer))
    return found


def _add_tile(picture: Picture, layer: Array, tile: _Tile) -> None:
    """Add a layer's change to one tile of `picture` in place."""
    enlarged = cv2.warpAffine(
        layer,
        tile.to_layer,
        (tile.x1 - tile.x0, tile.y1 - tile.y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    part = picture[tile.y0 : tile.y1, tile.x0 : tile.x1]
    part[:] = cv2.add(part, enlarged, dtype=cv2.CV_8U)
