"""Batches for the generator: same-person pairs and labelled photos, drawn, brought to one tone and augmented."""

import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from agedit.errors import AgeEditError
from agedit.tone import HAIR, LOCKS, PLACES, SKIN, highlight_rolloff, relit_strands, strand_gain
from agedit.training.common import grey_of

DEGREE = math.pi / 180
ALPHA_PER_YEAR = 0.25  # scale of alpha in training; the calibrate stage corrects what is left
SAME = 0.06  # share of the pairs that ask for nothing
OCCLUDED, JPEG = (
    0.2,
    0.25,
)  # shares of the rows with something before the face, and that went through a JPEG file
SOFT = (
    0.25,
    0.4,
)  # share of the rows whose photo is out of focus: up to 256 px, and above, where small faces are enlarged
MARGIN = 8  # pixels that a patch's borders spoil by their padding


def shrink(x, r):
    """(B, C, R, R) to r pixels by areas."""
    return F.avg_pool2d(x, x.shape[-1] // r) if x.shape[-1] > r else x


def smooth(x, cell):
    """(B, C, s, s) by areas of `cell` pixels, enlarged again."""
    return F.interpolate(F.avg_pool2d(x, cell), scale_factor=cell, mode="bilinear")


def _blur(x, sigma):
    """Gaussian blur of (B, C, s, s) with OpenCV's kernel size and border, so that training and app agree."""
    line = torch.from_numpy(cv2.getGaussianKernel(round(sigma * 8 + 1) | 1, sigma)[:, 0]).to(x)
    c, half = x.shape[1], len(line) // 2
    x = F.conv2d(F.pad(x, (half,) * 4, "reflect"), line.view(1, 1, 1, -1).expand(c, -1, -1, -1), groups=c)
    return F.conv2d(x, line.view(1, 1, -1, 1).expand(c, -1, -1, -1), groups=c)


def shown_of(change, photo, mask, hair, r=None, whole=None):
    """`tone.Tone` in PyTorch: what the app shows of a change, but for `keep_blown`, `keep_locks`, `keep_dark`, `keep_warm`, `keep_soft` and most of `keep_hair`,
    is what the losses see.

    Args:
        change, photo: (B, 3, s, s) in units of -1..1. mask, hair: (B, 1, s, s) in 0..1.
        r, whole: where these are only a part of the face, the pixels of all of it, and its brightness (B, 1, s, s), see `brightness`. Its locks
            are then counted from the part's corner, not from the face's.
    """
    r = r or change.shape[-1]
    return keep_strands(
        keep_hair(keep_tone(keep_shadows(change, photo, hair, r), photo, mask, hair, whole), hair, r),
        photo,
        hair,
        r,
    )


def keep_shadows(change, photo, hair, r):
    """`tone.Tone.keep_shadows` in PyTorch; arguments as above. Below LOCKS pixels it changes nothing."""
    cell = r // LOCKS
    if cell < 1:
        return change
    fine = lambda v: (
        v - F.interpolate(_blur(F.avg_pool2d(v, cell), SKIN.fold_sigma), scale_factor=cell, mode="bilinear")
    )
    ridges = (fine(grey_of(change)) - (-fine(grey_of(photo))).clamp_min(0)).clamp_min(0)
    return change - (1 - SKIN.ridge_share) * (1 - hair) * ridges


def keep_hair(change, hair, r):
    """Of `tone.Tone.keep_hair` what it is for: in hair, colours that are drawn finer than LOCKS are not shown. Arguments as above."""
    cell = r // LOCKS
    if cell < 2:
        return change
    colour = change - grey_of(change)
    return change - hair * (colour - smooth(colour, cell))


def keep_strands(change, photo, hair, r):
    """`tone.Tone.keep_strands` in PyTorch; arguments as above. At PLACES pixels it changes nothing."""
    cell = r // PLACES
    if cell < 2:
        return change
    grown = lambda v: F.interpolate(v, scale_factor=cell, mode="bilinear")
    grey, light = grey_of(change), grey_of((photo + 1) * 127.5)
    low, locks = F.avg_pool2d(grey, cell), F.avg_pool2d(light, cell)
    gain = strand_gain(127.5 * low, locks)
    strands = relit_strands(hair * (light - grown(locks)), grown(gain)) / 127.5 - HAIR.own_strands * hair * (
        grey - grown(low)
    )
    return (
        change + strands - hair * highlight_rolloff(grey + strands, (HAIR.white - light).clamp_min(0) / 127.5)
    )


def keep_tone(change, photo, mask, hair, whole=None):
    """`tone.Tone.keep_tone` in PyTorch; arguments as above."""
    kept, light = 1 - hair, (photo + 1) * 127.5 + SKIN.dark_offset
    whole = brightness(change, photo, mask, hair) if whole is None else whole
    return change * (1 - SKIN.own_colour * kept) + kept * (light / grey_of(light)) * (
        SKIN.own_colour * grey_of(change) - SKIN.own_brightness * whole
    )


def brightness(change, photo, mask, hair):
    """What a change (B, 3, s, s) of a photo, in -1..1, does to the brightness of its skin: (B, 1, s, s). mask, hair: (B, 1, s, s) in 0..1."""
    kept, grey = 1 - hair, grey_of((photo + 1) * 127.5)
    face = mask * kept
    whole = lambda v: _blur(shrink(v, PLACES), SKIN.around_sigma)
    grown = lambda v: F.interpolate(v, size=change.shape[2:], mode="bilinear")
    around = grown(whole(grey * face) / (whole(face) + 1e-3))
    skin = (
        face
        * kept**3
        * ((grey / (around + 1) - SKIN.plain_from) / (SKIN.plain_to - SKIN.plain_from)).clamp(0, 1)
    )  # as `tone.skin`
    return grown(whole(grey_of(change) * skin) / (whole(skin) + 0.01))


def _through_jpeg(picture, quality):
    """RGB uint8 (s, s, 3) as a JPEG file gives it back."""
    return cv2.imdecode(
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
    )


class Batches:
    """Draws batches from prepared sets: dict of x, target, mask, hair, years, age, pair (bool), hidden (bool).

    Args:
        sets: `data.Crops`, and `drawn.Drawn` where a GPU draws pairs itself. photos: rows of a batch that are labelled photos without a second
        age, where there are any of the size. strict: share of pair rows whose photo is hidden (the patent's own form).
    """

    def __init__(self, sets, batch, photos, strict, rng, device):
        self.sets, self.batch, self.strict, self.rng, self.device = sets, batch, strict, rng, device
        self.pool = ThreadPoolExecutor(4)
        self.people = [(s, g) for s in self.sets for g in s.people()]
        self.photos = [(s, i) for s in self.sets for i in s.photos()]
        if not self.people:
            raise AgeEditError(
                "The generator learns from same-person pairs; prepare a folder with --pairs, or find --people."
            )
        self.photo_rows = photos if self.photos else 0
        smallest = lambda sources: min((s.size for s, _ in sources), default=1 << 16)
        self.edge, self.photo_edge = smallest(self.people), smallest(self.photos)
        ages = np.array([s.age[i] for s, i in self.photos])  # even over ages: photos are mostly of 25-35
        if len(ages):
            weight = 1 / np.sqrt(np.bincount((ages // 10).astype(int))[(ages // 10).astype(int)])
            self.photo_weight = weight / weight.sum()

    def draw(self, size):
        """A batch of size x size pictures; raises AgeEditError where they were prepared smaller."""
        if size > self.edge:
            raise AgeEditError(
                f"The crops have {self.edge} pixels, too few to train {size}; run the prepare stage with --size {size}."
            )
        rng, photos = self.rng, self.photo_rows if size <= self.photo_edge else 0
        rows_a, rows_b, years, ages = [], [], [], []
        for _ in range(self.batch - photos):
            crops, group = self.people[rng.integers(len(self.people))]
            a, b = max(
                (rng.choice(group, 2, replace=False) for _ in range(2)),
                key=lambda v: abs(crops.age[v[0]] - crops.age[v[1]]),
            )
            if rng.random() < SAME:
                b = a  # nothing asked, nothing changed
            rows_a.append((crops, a)), rows_b.append((crops, b))
            years.append(crops.age[b] - crops.age[a]), ages.append(crops.age[a])
        for k in rng.choice(len(self.photos), photos, p=self.photo_weight) if photos else []:
            crops, i = self.photos[k]
            goal = rng.uniform(max(8, crops.age[i] - 35), min(85, crops.age[i] + 50))
            rows_a.append((crops, i)), rows_b.append((crops, i))
            years.append(goal - crops.age[i]), ages.append(crops.age[i])
        (x, mask, hair), (target, *_) = self.load(rows_a, size), self.load(rows_b, size)
        pair = torch.arange(len(x), device=self.device) < self.batch - photos
        hidden = pair & (torch.from_numpy(rng.random(len(x))).to(self.device) < self.strict)
        x, target, mask, hair = self._augment(x, target, mask, hair, pair)
        number = lambda v: torch.tensor(v, dtype=torch.float32, device=self.device)
        return {
            "x": x,
            "target": target,
            "mask": mask,
            "hair": hair,
            "years": number(years),
            "age": number(ages),
            "pair": pair,
            "hidden": hidden,
        }

    def load(self, rows, size):
        """Pictures in -1..1, masks and hair in 0..1 of (set, index) rows, (B, C, size, size), from sets of that size or larger."""
        found = [None] * len(rows)
        for source in {id(s): s for s, _ in rows}.values():
            at = [k for k, (s, _) in enumerate(rows) if s is source]
            loaded = source.load([rows[k][1] for k in at], self.device)
            for k, *row in zip(at, *(shrink(v, size) for v in loaded)):
                found[k] = row
        return [torch.stack(v) for v in zip(*found)]

    def _augment(self, x, target, mask, hair, pair):
        """Both pictures of a row alike: mirror, small pose, something in front, light and colour; the tone kept; then blur,
        noise and JPEG of the photo alone, above 256 px blur of the change too."""
        rng, n = self.rng, len(x)
        draw = lambda lo, hi, k=1: torch.tensor(
            rng.uniform(lo, hi, (n, k, 1, 1)), dtype=x.dtype, device=x.device
        )
        angle, zoom = rng.normal(0, 3, n) * DEGREE, np.exp(rng.normal(0, 0.04, n))
        flip = np.where(rng.random(n) < 0.5, -1, 1)
        theta = np.stack(
            [
                np.stack([np.cos(angle) * zoom * flip, -np.sin(angle) * zoom, rng.normal(0, 0.02, n)], 1),
                np.stack([np.sin(angle) * zoom * flip, np.cos(angle) * zoom, rng.normal(0, 0.02, n)], 1),
            ],
            1,
        )
        grid = F.affine_grid(
            torch.tensor(theta, dtype=x.dtype, device=x.device), x.shape, align_corners=False
        )
        stack = F.grid_sample(
            torch.cat([x, target, mask, hair], 1), grid, padding_mode="border", align_corners=False
        )
        x, target, mask, hair = stack[:, :3], stack[:, 3:6], stack[:, 6:7], stack[:, 7:]
        x, target, hair = self._occlude(x, target, hair, draw)
        # light multiplies: in the dark, and on dark skin, a wrinkle is fewer levels deep
        gain, tint, offset = draw(math.log(0.5), math.log(1.2)).exp(), draw(0.93, 1.07, 3), draw(-0.05, 0.1)
        x, target = (((v + 1) * gain * tint - 1 + offset).clamp(-1, 1) for v in (x, target))
        large = x.shape[-1] > 256
        soft = torch.tensor(rng.random((n, 1, 1, 1)) < SOFT[large], device=x.device)
        focus = int(rng.choice([2, 4])) if large else 2
        grain = torch.randn_like(x) * draw(-0.05, 0.05).clamp_min(0)
        degraded = torch.where(soft, smooth(x, focus), self._marked(x, draw)) + grain
        # a crisp wrinkle in a soft photo looks drawn; `Tone.keep_soft` sees to it in the app, and the top block need not draw what that takes away
        change = torch.where(soft & large, smooth(target - x, focus), target - x)
        coded = np.flatnonzero(rng.random(n) < JPEG)
        if len(coded):
            at = torch.as_tensor(coded, device=x.device)
            pictures = (
                ((degraded[at].clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
            )
            pictures = np.stack(
                list(self.pool.map(_through_jpeg, pictures, rng.integers(40, 90, len(coded)).tolist()))
            )
            degraded[at] = torch.from_numpy(pictures).to(x.device).permute(0, 3, 1, 2).to(x) / 127.5 - 1
        # the asked change is added to the photo as it is: a noisy photo stays noisy
        target = (
            degraded + mask * shown_of(change, degraded.clamp(-1, 1), mask, hair) * pair[:, None, None, None]
        )
        lasting = dict(memory_format=torch.channels_last)
        return (
            degraded.clamp(-1, 1).contiguous(**lasting),
            target.clamp(-1, 1).contiguous(**lasting),
            mask.contiguous(**lasting),
            hair.contiguous(**lasting),
        )

    def _marked(self, x, draw):
        """The photo as real skin and real lenses have it, which the teacher's is not: spots, uneven light, sharpened, with more contrast.

        None of it is a sign of age: what was there before must not be drawn stronger.
        """
        n, s = len(x), x.shape[-1]
        light = x + 1
        for cells, most in ((s // 16, 0.04), (s // 6, 0.04), (s // 3, 0.04)):  # patches, freckles, pores
            noise = torch.randn(n, 1, cells, cells, device=x.device) * draw(-most, most).clamp_min(0)
            light = light * F.interpolate(noise, size=(s, s), mode="bicubic").exp()
        v, u = torch.meshgrid(*(torch.linspace(-1, 1, s, device=x.device),) * 2, indexing="ij")
        moles = torch.tensor(
            np.where(self.rng.random(n) < 0.4, self.rng.integers(0, 6, n), 0), device=x.device
        )[:, None, None, None]
        for k in range(5):  # moles and blemishes
            column, row, size, depth = (
                draw(-0.5, 0.5),
                draw(-0.4, 0.7),
                draw(0.006, 0.03),
                draw(-0.4, 0.15) * (k < moles),
            )
            light = light * (1 + depth * torch.exp(-((u - column) ** 2 + (v - row) ** 2) / size**2))
        light = light + (light - smooth(light, 4)) * draw(-0.5, 0.6).clamp_min(
            0
        )  # sharpened, as phones and studios do
        return (light.clamp(0, 2) / 2) ** draw(-0.25, 0.25).exp() * 2 - 1

    def _occlude(self, x, target, hair, draw):
        """In some rows a hand, a scarf, a phone: an ellipse with a magnified piece of another row's picture, the same at both ages."""
        there = torch.tensor(self.rng.random((len(x), 1, 1, 1)) < OCCLUDED, device=x.device)
        v, u = torch.meshgrid(
            *(torch.linspace(-1, 1, s, device=x.device) for s in x.shape[2:]), indexing="ij"
        )
        angle, along, across = draw(0, math.pi), draw(0.2, 0.8), draw(0.1, 0.35)
        du, dv = u - draw(-0.9, 0.9), v - draw(-0.5, 1.1)
        far = ((du * angle.cos() + dv * angle.sin()) / along) ** 2 + (
            (dv * angle.cos() - du * angle.sin()) / across
        ) ** 2
        cover = torch.sigmoid((1 - far) * 12) * there
        zoom = torch.cat([draw(0.1, 0.3), draw(-0.6, 0.6), draw(-0.6, 0.6)], 1)[:, :, 0, 0]
        place = torch.stack(
            [
                torch.stack([zoom[:, 0], 0 * zoom[:, 0], zoom[:, 1]], 1),
                torch.stack([0 * zoom[:, 0], zoom[:, 0], zoom[:, 2]], 1),
            ],
            1,
        )
        piece = F.grid_sample(
            x.roll(1, 0),
            F.affine_grid(place, x.shape, align_corners=False),
            padding_mode="reflection",
            align_corners=False,
        )
        return x + cover * (piece - x), target + cover * (piece - target), hair * (1 - cover)


def seen_of(v, patch):
    """The part of a patch's picture that its borders' padding did not touch."""
    return v if patch is None else v[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]


def see(v, r, patch):
    """(B, C, R, R) as G_r sees it: shrunk to r, cut to the patch."""
    v = shrink(v, r)
    if patch is None:
        return v
    row, column, edge = (2 * p for p in patch)
    return seen_of(v[:, :, row : row + edge, column : column + edge], patch)


class Seen:
    """What the losses at (r, patch) compare with."""

    def __init__(self, b, r, patch):
        self.x, self.target, self.mask = (see(b[k], r, patch) for k in ("x", "target", "mask"))
        self.pair, self.years = b["pair"], b["years"]
        self.goal = (b["age"] + self.years - 45) / 25
        self.hidden, self.trunk = b["hidden"], None  # trunk: once `generator.Trainer` has asked for it
        weight = shrink(self.mask, self.mask.shape[-1] // 16)[:, 0]
        self.weight = weight / weight.mean().clamp_min(1e-3)

    def change(self, picture, rows=slice(None)):
        """What D sees beside `picture`: its change, in rows whose photo is not hidden."""
        return (picture - self.x[rows]) * ~self.hidden[rows][:, None, None, None]

    def shown(self, y, full):
        """y at the resolution of `full`, the photo itself under a small network's change, as the app shows it; G(f') of hidden rows as it is."""
        up = lambda v: (
            v if v.shape == full.x.shape else F.interpolate(v, size=full.x.shape[2:], mode="bicubic")
        )
        return ((full.x - up(self.x)) * ~self.hidden[:, None, None, None] + up(y)).clamp(-1, 1)

    def places(self, losses, rows):
        """Mean over D's places (rows, r / 16, r / 16), weighed by the mask: elsewhere an edit is the photo itself."""
        return (losses * self.weight[rows]).mean()
