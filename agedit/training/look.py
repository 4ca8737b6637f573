"""How a generator in training is doing: figures and a sheet of people held out, by its averaged weights."""

import torch
import torch.nn.functional as F

from agedit.network.autoencoder import INPUT
from agedit.network.generator import Generator
from agedit.submodel import RATIOS, SMALLEST
from agedit.training.batches import ALPHA_PER_YEAR, shown_of, shrink
from agedit.training.common import save_sheet


def shown_people(crops):
    """[(input, target), ...] of the people held out: a person's first picture and the age furthest from it, or what was made of a real photo, and that."""
    return [g[[0, -1]] for g in crops.people(True)] + [g[[-1, 0]] for g in crops.targets(True)]


@torch.no_grad()
def validate(trainer, r, width, rows=48):
    """{"lpips", "pixel", "enlarged"} of held-out people's pictures against their targets, by the EMA weights, without augmentation.

    "enlarged" is the LPIPS of what the blocks below the top one draw, enlarged to r: a top block that does not beat it had better be left out.
    """
    network, crops = _averaged(trainer), trainer.batches.sets[0]
    people = shown_people(crops)[:rows]
    total = {"lpips": 0.0, "pixel": 0.0, "enlarged": 0.0}
    for part in [people[i : i + 16] for i in range(0, len(people), 16)]:
        (x, mask, hair), (other, *_) = (
            crops.load([g[k] for g in part], trainer.device.torch) for k in (0, 1)
        )
        years = torch.tensor([crops.age[b] - crops.age[a] for a, b in part]).to(x)
        x, mask, hair, other = (shrink(v, max(r, INPUT)) for v in (x, mask, hair, other))
        b = {"x": x, "mask": mask, "hair": hair, "hidden": torch.zeros_like(years) > 0}
        f = trainer.encoder(shrink(x, INPUT))
        shifted = f + (years * ALPHA_PER_YEAR)[:, None] * trainer.n
        y, below = (trainer.edit(network, b, f, shifted, q, width)[0] for q in (r, r // 2))
        target = shrink(x + mask * shown_of(other - x, x, mask, hair), r)
        total["lpips"] += trainer.perceptual(y, target).sum().item() / len(people)
        total["pixel"] += (y - target).abs().mean((1, 2, 3)).sum().item() / len(people)
        total["enlarged"] += trainer.perceptual(_enlarged(below, x, r), target).sum().item() / len(people)
    return total


def _enlarged(y, x, r):
    """An edit y of the photo x at fewer pixels than r, its change enlarged to r."""
    q = y.shape[-1]
    return y if q == r else shrink(x, r) + F.interpolate(y - shrink(x, q), size=(r, r), mode="bicubic")


def _averaged(trainer):
    network = Generator(trainer.top).to(trainer.device.torch, memory_format=torch.channels_last)
    network.load_state_dict(trainer.ema.state)
    return network


@torch.no_grad()
def sheet(trainer, path, r, width=1.0, years=(-20, 0, 20, 40)):
    """Held-out people by years: the full network, then the smallest sub-model, then the strict form."""
    network, columns, sets, size = _averaged(trainer), [], trainer.batches.sets, max(256, r)
    rows = [
        *((sets[0], g[0]) for g in shown_people(sets[0])[:5]),
        *[(s, i) for s in sets if s.size >= size for i in s.photos(True)[::131]][:5],
    ]
    if not rows:
        return
    x, mask, hair = trainer.batches.load(rows, size)
    f = trainer.encoder(shrink(x, INPUT))
    for form, (q, c) in (("full", (r, width)), ("small", (SMALLEST, RATIOS[0])), ("strict", (r, width))):
        b = {
            "x": x,
            "mask": mask,
            "hair": hair,
            "hidden": torch.full((len(x),), form == "strict", device=x.device),
        }
        if form == "full":
            columns.append(shrink(x, r))
        for t in years if form == "full" else (-20, 40) if form == "small" else (0, 40):
            shifted = f + t * ALPHA_PER_YEAR * trainer.n
            y, _, _ = trainer.edit(network, b, f, shifted, q, c)
            columns.append(_enlarged(y, x, r))
    save_sheet(path, [[picture for picture in column] for column in columns])
