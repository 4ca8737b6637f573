"""How a generator in training is doing: figures and a sheet of people held out, by its averaged weights."""

from pathlib import Path

import torch
import torch.nn.functional as F

from agedit.network.autoencoder import INPUT
from agedit.submodel import RATIOS, SMALLEST
from agedit.training.common import ALPHA_PER_YEAR
from agedit.training.images import save_sheet, shrink
from agedit.training.loader import FaceSet, Photos, Row
from agedit.training.shown import shown_change
from agedit.training.trainer import Trainer

# Pictures that are judged at once.
TOGETHER = 16
# Pixels of a sheet's pictures, at least; people and photos on it at most; every so many of the photos.
SHEET_PIXELS = 256
SHEET_PEOPLE = 5
SHEET_PHOTOS = 5
SHEET_EVERY = 131
# Years on a sheet, of the smallest sub-model and of the strict form.
SMALL_YEARS = (-20, 40)
STRICT_YEARS = (0, 40)


def shown_people(crops: FaceSet) -> list[tuple[int, int]]:
    """(input, target) of the people held out.

    A person's first picture and the age furthest from it; or what was made of a real photo, and the photo.
    """
    people = [(int(group[0]), int(group[-1])) for group in crops.people(True)]
    return people + [(int(group[-1]), int(group[0])) for group in crops.targets(True)]


@torch.no_grad()
def validate(trainer: Trainer, r: int, width: float, rows: int = 48) -> dict[str, float] | None:
    """Held-out people's pictures against their targets, by the averaged weights, without augmentation.

    Returns:
        {"lpips", "pixel", "enlarged"}, means over people; None where nobody is held out. "enlarged" is the
        LPIPS of what the blocks below the top one draw, enlarged to r: a top block that does not beat it had
        better be left out.
    """
    crops = trainer.loader.sets[0]
    people = shown_people(crops)[:rows]
    if not people:
        return None
    figures = []
    for k in range(0, len(people), TOGETHER):
        figures.append(_figures(trainer, crops, people[k : k + TOGETHER], r, width))
    total = torch.stack(figures).sum(0) / len(people)
    lpips, pixel, enlarged = total.tolist()
    return {"lpips": lpips, "pixel": pixel, "enlarged": enlarged}


def _figures(
    trainer: Trainer, crops: FaceSet, people: list[tuple[int, int]], r: int, width: float
) -> torch.Tensor:
    """Sums over people of the three figures of `validate`, float64 (3,)."""
    perceptual = trainer.losses.perceptual
    network = trainer.averaged
    planes = crops.load([a for a, _ in people], trainer.device.torch)
    x, mask, hair = (shrink(plane, max(r, INPUT)) for plane in planes)
    other = shrink(crops.load([b for _, b in people], trainer.device.torch)[0], max(r, INPUT))
    years = torch.tensor([crops.age[b] - crops.age[a] for a, b in people]).to(x)
    photos = Photos(x, mask, hair, torch.zeros(len(x), dtype=torch.bool, device=x.device))
    f = trainer.encoder(shrink(x, INPUT))
    shifted = f + (years * ALPHA_PER_YEAR)[:, None] * trainer.n
    y = trainer.edit(network, photos, f, shifted, r, width).y
    below = trainer.edit(network, photos, f, shifted, r // 2, width).y
    target = shrink(x + mask * shown_change(other - x, x, mask, hair), r)
    return torch.tensor(
        [
            perceptual(y, target).sum().item(),
            (y - target).abs().mean((1, 2, 3)).sum().item(),
            perceptual(_enlarged(below, x, r), target).sum().item(),
        ],
        dtype=torch.float64,
    )


def _enlarged(y: torch.Tensor, x: torch.Tensor, r: int) -> torch.Tensor:
    """An edit y of the photo x at fewer pixels than r, its change enlarged to r."""
    size = y.shape[-1]
    if size == r:
        return y
    return shrink(x, r) + F.interpolate(y - shrink(x, size), size=(r, r), mode="bicubic")


def _sheet_rows(sets: list[FaceSet], size: int) -> list[Row]:
    """Held-out people of the first set, and held-out photos of all sets that have the pixels."""
    people: list[Row] = [(sets[0], a) for a, _ in shown_people(sets[0])[:SHEET_PEOPLE]]
    photos: list[Row] = []
    for source in sets:
        if source.size >= size:
            photos += [(source, int(i)) for i in source.photos(True)[::SHEET_EVERY]]
    return people + photos[:SHEET_PHOTOS]


@torch.no_grad()
def sheet(
    trainer: Trainer,
    path: str | Path,
    r: int,
    width: float = 1.0,
    years: tuple[int, ...] = (-20, 0, 20, 40),
) -> None:
    """Write held-out people by years: the full network, then the smallest sub-model, then the strict form."""
    size = max(SHEET_PIXELS, r)
    rows = _sheet_rows(list(trainer.loader.sets), size)
    if not rows:
        return
    x, mask, hair = trainer.loader.load(rows, size)
    f = trainer.encoder(shrink(x, INPUT))
    seen = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def column(t: int, q: int, c: float, hidden: torch.Tensor) -> torch.Tensor:
        shifted = f + t * ALPHA_PER_YEAR * trainer.n
        edit = trainer.edit(trainer.averaged, Photos(x, mask, hair, hidden), f, shifted, q, c)
        return _enlarged(edit.y, x, r)

    columns = [shrink(x, r)]
    columns += [column(t, r, width, seen) for t in years]
    columns += [column(t, SMALLEST, RATIOS[0], seen) for t in SMALL_YEARS]
    columns += [column(t, r, width, ~seen) for t in STRICT_YEARS]
    save_sheet(path, columns)
