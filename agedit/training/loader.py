"""Batches for the generator: same-person pairs and labelled photos, brought to one size and augmented."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from agedit.errors import AgeEditError
from agedit.training.augmentation import Augmentation, Pictures
from agedit.training.images import shrink

# Share of the pairs that ask for nothing: nothing may change then.
SAME = 0.06
# Years younger and older that are asked of a labelled photo at most, and the ages that are asked for.
PHOTO_YEARS = (-35, 50)
PHOTO_AGES = (8, 85)
# Pixels of a set that has no pictures of a kind: more than any.
NO_LIMIT = 1 << 16

# Indices of one person's pictures.
Group = npt.NDArray[np.integer[Any]]


class FaceSet(Protocol):
    """Prepared faces: `data.Crops`, or `rendered_pairs.RenderedPairs`."""

    size: int  # pixels of a picture
    age: npt.NDArray[np.float64]  # (N,) years

    def people(self, held_out: bool = False) -> list[Group]:
        """Index arrays, one for each person with pictures at two ages or more."""
        ...

    def photos(self, held_out: bool = False) -> npt.NDArray[np.integer[Any]]:
        """Indices of the labelled photos without a second age."""
        ...

    def load(
        self, indices: Sequence[int], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1."""
        ...


# A picture of a set.
Row = tuple[FaceSet, int]


@dataclass
class Photos:
    """Photos as the generator gets them.

    Attributes:
        x: (B, 3, S, S) in -1..1. mask, hair: (B, 1, S, S) in 0..1. hidden: (B,) bool, whose photo G does not
        see.
    """

    x: torch.Tensor
    mask: torch.Tensor
    hair: torch.Tensor
    hidden: torch.Tensor


@dataclass
class Batch(Photos):
    """What a step learns from.

    Attributes:
        target: (B, 3, S, S), the person at the other age; of a labelled photo, the photo.
        years: (B,), those asked for. age: (B,), of x. pair: (B,) bool, rows whose target is another picture.
    """

    target: torch.Tensor
    years: torch.Tensor
    age: torch.Tensor
    pair: torch.Tensor


@dataclass
class Rows:
    """Which pictures a batch is made of.

    What G gets, its target, the years between them and the age of the first.
    """

    x: list[Row]
    target: list[Row]
    years: list[float]
    age: list[float]

    def add(self, x: Row, target: Row, years: float, age: float) -> None:
        self.x.append(x)
        self.target.append(target)
        self.years.append(years)
        self.age.append(age)


def even_over_ages(ages: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How often each photo is drawn, (N,) with sum 1.

    The rarer its ten years are the more; most photos are of 25-35.
    """
    decade = (ages // 10).astype(int)
    weight = 1 / np.sqrt(np.bincount(decade)[decade])
    return weight / weight.sum()


def _fewest_pixels(rows: Iterable[tuple[FaceSet, Any]]) -> int:
    return min((source.size for source, _ in rows), default=NO_LIMIT)


class BatchLoader:
    """Draws batches from prepared sets.

    Args:
        sets: where the pictures come from. batch: rows of a batch.
        photos: rows that are labelled photos without a second age, where there are any of the size.
        strict: share of pair rows whose photo is hidden (the patent's own form).
    """

    def __init__(
        self,
        sets: Sequence[FaceSet],
        batch: int,
        photos: int,
        strict: float,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        self.sets = sets
        self.batch = batch
        self.strict = strict
        self.rng = rng
        self.device = device
        self.augment = Augmentation(rng)
        self.people = [(source, group) for source in sets for group in source.people()]
        self.photos = [(source, int(i)) for source in sets for i in source.photos()]
        if not self.people:
            raise AgeEditError(
                "The generator learns from same-person pairs; prepare a folder with --pairs, "
                "or find --people."
            )
        self.photo_rows = photos if self.photos else 0
        self.edge = _fewest_pixels(self.people)
        self.photo_edge = _fewest_pixels(self.photos)
        if self.photos:
            self.photo_weight = even_over_ages(np.array([source.age[i] for source, i in self.photos]))

    def draw(self, size: int) -> Batch:
        """A batch of size x size pictures; raises AgeEditError where they were prepared smaller."""
        if size > self.edge:
            raise AgeEditError(
                f"The crops have {self.edge} pixels, too few to train {size}; "
                f"run the prepare stage with --size {size}."
            )
        photos = self.photo_rows if size <= self.photo_edge else 0
        pairs = self.batch - photos
        rows = Rows([], [], [], [])
        for _ in range(pairs):
            self._add_pair(rows)
        if photos:
            for k in self.rng.choice(len(self.photos), photos, p=self.photo_weight):
                self._add_photo(rows, *self.photos[k])
        x, mask, hair = self.load(rows.x, size)
        target = self.load(rows.target, size)[0]
        pair = torch.arange(len(x), device=self.device) < pairs
        hidden = pair & (torch.from_numpy(self.rng.random(len(x))).to(self.device) < self.strict)
        pictures = self.augment(Pictures(x, target, mask, hair), pair)
        return Batch(
            x=pictures.x,
            mask=pictures.mask,
            hair=pictures.hair,
            hidden=hidden,
            target=pictures.target,
            years=torch.tensor(rows.years, dtype=torch.float32, device=self.device),
            age=torch.tensor(rows.age, dtype=torch.float32, device=self.device),
            pair=pair,
        )

    def _add_pair(self, rows: Rows) -> None:
        """Two ages of a person: of two random choices, the one further apart."""
        source, group = self.people[self.rng.integers(len(self.people))]
        choices = [self.rng.choice(group, 2, replace=False) for _ in range(2)]
        distances = [abs(source.age[a] - source.age[b]) for a, b in choices]
        a, b = choices[int(np.argmax(distances))]
        if self.rng.random() < SAME:
            b = a
        rows.add((source, a), (source, b), source.age[b] - source.age[a], source.age[a])

    def _add_photo(self, rows: Rows, source: FaceSet, i: int) -> None:
        """A labelled photo, and an age for the judges to look for."""
        age = source.age[i]
        youngest = max(PHOTO_AGES[0], age + PHOTO_YEARS[0])
        oldest = min(PHOTO_AGES[1], age + PHOTO_YEARS[1])
        goal = self.rng.uniform(youngest, oldest)
        rows.add((source, i), (source, i), goal - age, age)

    def load(self, rows: Sequence[Row], size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, size, size) in -1..1, masks and hair (B, 1, size, size) in 0..1, from sets of that
        size or larger.
        """
        found: list[tuple[torch.Tensor, ...]] = [()] * len(rows)
        sources = {id(source): source for source, _ in rows}
        for source in sources.values():
            places = [k for k, (owner, _) in enumerate(rows) if owner is source]
            loaded = source.load([rows[k][1] for k in places], self.device)
            planes = [shrink(plane, size) for plane in loaded]
            for k, *row in zip(places, *planes, strict=True):
                found[k] = tuple(row)
        x, mask, hair = (torch.stack(planes) for planes in zip(*found, strict=True))
        return x, mask, hair
