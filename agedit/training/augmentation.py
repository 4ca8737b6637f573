"""What makes people's own photos differ from the training pictures."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from agedit.training.images import smooth
from agedit.training.shown import shown_change

# Radians in a degree.
DEGREE = math.pi / 180
# Share of the rows with something before the face.
OCCLUDED = 0.2
# Share of the rows that went through a JPEG file, and its lowest and highest quality.
JPEG = 0.25
JPEG_QUALITY = (40, 90)
# Share of the rows whose photo is out of focus, up to LARGE pixels and above, where small faces are enlarged.
SOFT = 0.25
SOFT_LARGE = 0.4
LARGE = 256
# Standard deviations of a row's pose: degrees of turn, log of zoom, shift in units of half the picture.
TURN = 3
ZOOM = 0.04
SHIFT = 0.02
# Patches, freckles, pores: pixels of a cell, of each as strong as MARKED (log of light) at most.
SKIN_CELLS = (16, 6, 3)
MARKED = 0.04
# Most moles and blemishes in a picture, and the share of pictures with any.
MOLES = 5
MOLED = 0.4


@dataclass
class Pictures:
    """Rows of two pictures of a person: x, target (B, 3, s, s) in -1..1; mask, hair (B, 1, s, s) in 0..1."""

    x: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    hair: torch.Tensor

    def contiguous(self) -> "Pictures":
        """In channels-last memory, which convolutions are quickest in."""
        return Pictures(
            self.x.contiguous(memory_format=torch.channels_last),
            self.target.contiguous(memory_format=torch.channels_last),
            self.mask.contiguous(memory_format=torch.channels_last),
            self.hair.contiguous(memory_format=torch.channels_last),
        )


class Uniform:
    """Uniform random numbers for the rows of pictures like `like`: (B, channels, 1, 1)."""

    def __init__(self, rng: np.random.Generator, like: torch.Tensor) -> None:
        self.rng = rng
        self.like = like

    def __call__(self, low: float, high: float, channels: int = 1) -> torch.Tensor:
        values = self.rng.uniform(low, high, (len(self.like), channels, 1, 1))
        return torch.tensor(values, dtype=self.like.dtype, device=self.like.device)

    def chance(self, share: float) -> torch.Tensor:
        """(B, 1, 1, 1) bool, true in a share of the rows."""
        return torch.tensor(self.rng.random((len(self.like), 1, 1, 1)) < share, device=self.like.device)


class Augmentation:
    """Changes both pictures of a row alike.

    Mirror, small pose, something before the face, light and colour.

    Then blur, skin, noise and JPEG of the photo alone; the target is what the app shows of the change on that
    photo.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.pool = ThreadPoolExecutor(4)

    def __call__(self, pictures: Pictures, pair: torch.Tensor) -> Pictures:
        """Augmented pictures. pair: (B,) bool; other rows are their own target."""
        pictures = self._pose(pictures)
        uniform = Uniform(self.rng, pictures.x)
        pictures = occlude(pictures, uniform)
        # Light multiplies: in the dark, and on dark skin, a wrinkle is fewer levels deep.
        gain = uniform(math.log(0.5), math.log(1.2)).exp()
        tint = uniform(0.93, 1.07, 3)
        offset = uniform(-0.05, 0.1)
        x = ((pictures.x + 1) * gain * tint - 1 + offset).clamp(-1, 1)
        target = ((pictures.target + 1) * gain * tint - 1 + offset).clamp(-1, 1)
        degraded, change = self._degrade(x, target, uniform)
        degraded = self._some_through_jpeg(degraded)
        # The asked change is added to the photo as it is: a noisy photo stays noisy.
        shown = shown_change(change, degraded.clamp(-1, 1), pictures.mask, pictures.hair)
        target = degraded + pictures.mask * shown * pair[:, None, None, None]
        return Pictures(degraded.clamp(-1, 1), target.clamp(-1, 1), pictures.mask, pictures.hair).contiguous()

    def _pose(self, pictures: Pictures) -> Pictures:
        """Mirrored, turned, zoomed and shifted a little."""
        n = len(pictures.x)
        angle = self.rng.normal(0, TURN, n) * DEGREE
        zoom = np.exp(self.rng.normal(0, ZOOM, n))
        mirror = np.where(self.rng.random(n) < 0.5, -1, 1)
        cosine = np.cos(angle) * zoom
        sine = np.asarray(np.sin(angle) * zoom, np.float64)
        first = np.stack([cosine * mirror, -sine, self.rng.normal(0, SHIFT, n)], 1)
        second = np.stack([sine * mirror, cosine, self.rng.normal(0, SHIFT, n)], 1)
        theta = torch.tensor(np.stack([first, second], 1), dtype=pictures.x.dtype, device=pictures.x.device)
        grid = F.affine_grid(theta, list(pictures.x.shape), align_corners=False)
        planes = torch.cat([pictures.x, pictures.target, pictures.mask, pictures.hair], 1)
        planes = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
        return Pictures(planes[:, :3], planes[:, 3:6], planes[:, 6:7], planes[:, 7:])

    def _degrade(
        self, x: torch.Tensor, target: torch.Tensor, uniform: Uniform
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The photo, out of focus or with marks of skin and lens, and noisy.

        And the change that is asked of it.
        """
        is_large = x.shape[-1] > LARGE
        soft = uniform.chance(SOFT_LARGE if is_large else SOFT)
        focus = int(self.rng.choice([2, 4])) if is_large else 2
        grain = torch.randn_like(x) * uniform(-0.05, 0.05).clamp_min(0)
        degraded = torch.where(soft, smooth(x, focus), self._mark(x, uniform)) + grain
        change = target - x
        if is_large:
            # A crisp wrinkle in a soft photo looks drawn; `Tone.soften` takes it away in the app, and the
            # top block need not draw what is taken away.
            change = torch.where(soft, smooth(change, focus), change)
        return degraded, change

    def _mark(self, x: torch.Tensor, uniform: Uniform) -> torch.Tensor:
        """The photo as real skin and lenses have it and the teacher's pictures do not.

        Spots, uneven light, sharpening and more contrast are no signs of age: what was there before must not
        be drawn stronger.
        """
        size = x.shape[-1]
        light = x + 1
        for pixels in SKIN_CELLS:
            cells = size // pixels
            noise = torch.randn(len(x), 1, cells, cells, device=x.device)
            noise = noise * uniform(-MARKED, MARKED).clamp_min(0)
            light = light * F.interpolate(noise, size=(size, size), mode="bicubic").exp()
        light = self._with_moles(light, uniform)
        # Sharpened, as phones and studios do.
        light = light + (light - smooth(light, 4)) * uniform(-0.5, 0.6).clamp_min(0)
        contrast = uniform(-0.25, 0.25).exp()
        return (light.clamp(0, 2) / 2) ** contrast * 2 - 1

    def _with_moles(self, light: torch.Tensor, uniform: Uniform) -> torch.Tensor:
        """Some rows darkened or lightened at a few small spots."""
        n = len(light)
        v, u = _places(light)
        has_moles = self.rng.random(n) < MOLED
        count = np.where(has_moles, self.rng.integers(0, MOLES + 1, n), 0)
        moles = torch.tensor(count, device=light.device)[:, None, None, None]
        for k in range(MOLES):
            column = uniform(-0.5, 0.5)
            row = uniform(-0.4, 0.7)
            size = uniform(0.006, 0.03)
            depth = uniform(-0.4, 0.15) * (k < moles)
            light = light * (1 + depth * torch.exp(-((u - column) ** 2 + (v - row) ** 2) / size**2))
        return light

    def _some_through_jpeg(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, 3, s, s), some rows as a JPEG file gives them back."""
        coded = np.flatnonzero(self.rng.random(len(x)) < JPEG)
        if not len(coded):
            return x
        rows = torch.as_tensor(coded, device=x.device)
        pictures = ((x[rows].clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
        qualities = self.rng.integers(*JPEG_QUALITY, len(coded)).tolist()
        decoded = np.stack(list(self.pool.map(through_jpeg, pictures, qualities)))
        x[rows] = torch.from_numpy(decoded).to(x.device).permute(0, 3, 1, 2).to(x) / 127.5 - 1
        return x


def through_jpeg(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """uint8 (s, s, 3) as a JPEG file of this quality gives it back."""
    _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)


def _places(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of each pixel of (B, C, s, s), (s, s) each, in -1..1."""
    line = torch.linspace(-1, 1, x.shape[-1], device=x.device)
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return rows, columns


def occlude(pictures: Pictures, uniform: Uniform) -> Pictures:
    """In some rows a hand, a scarf, a phone.

    An ellipse with a magnified piece of another row's picture, the same at both ages.
    """
    x = pictures.x
    there = uniform.chance(OCCLUDED)
    v, u = _places(x)
    angle = uniform(0, math.pi)
    along = uniform(0.2, 0.8)
    across = uniform(0.1, 0.35)
    du = u - uniform(-0.9, 0.9)
    dv = v - uniform(-0.5, 1.1)
    far = ((du * angle.cos() + dv * angle.sin()) / along) ** 2 + (
        (dv * angle.cos() - du * angle.sin()) / across
    ) ** 2
    cover = torch.sigmoid((1 - far) * 12) * there
    zoom = uniform(0.1, 0.3)[:, 0, 0, 0]
    left = uniform(-0.6, 0.6)[:, 0, 0, 0]
    top = uniform(-0.6, 0.6)[:, 0, 0, 0]
    first = torch.stack([zoom, 0 * zoom, left], 1)
    second = torch.stack([0 * zoom, zoom, top], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    piece = F.grid_sample(x.roll(1, 0), grid, padding_mode="reflection", align_corners=False)
    return Pictures(
        x + cover * (piece - x),
        pictures.target + cover * (piece - pictures.target),
        pictures.mask,
        pictures.hair * (1 - cover),
    )
