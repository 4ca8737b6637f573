"""Batches for the generator: same-person pairs and labelled photos, brought to one size and augmented."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
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
# Share of the pairs whose target is a real photo, where there are others.
REAL = 0.7
# Share of the old real photos that are the input for once, so that going younger stays what it is.
BACK = 0.2

# Indices of one person's pictures.
Group = npt.NDArray[np.integer[Any]]


class FaceSet(Protocol):
    """Prepared faces: `data.Crops`, or `rendered_pairs.RenderedPairs`."""

    size: int  # pixels of a picture
    age: npt.NDArray[np.float64]  # (N,) years
    gender: npt.NDArray[np.float64]  # (N,), 1 female, 0 male, NaN unknown

    def people(self, held_out: bool = False) -> list[Group]:
        """Index arrays, one for each person with pictures at two ages or more."""
        ...

    def targets(self, held_out: bool = False) -> list[Group]:
        """Index arrays, one for each real photo that inputs were made of: the photo, then the inputs."""
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


@dataclass
class Sources:
    """Groups of pictures that rows are drawn from, and how often each is drawn, (N,) with sum 1."""

    groups: list[tuple[FaceSet, Group]]
    weight: npt.NDArray[np.float64]


def evenly(groups: Sequence[Hashable], kinds: Sequence[Hashable]) -> npt.NDArray[np.float64]:
    """Weights (N,) that give each group as much as any other, and within it kinds the more the rarer they
    are.
    """
    both = list(zip(groups, kinds, strict=True))
    count = Counter(both)
    weight = np.array([count[pair] ** -0.5 for pair in both])
    total: defaultdict[Hashable, float] = defaultdict(float)
    for group, own in zip(groups, weight, strict=True):
        total[group] += float(own)
    return np.array([own / total[group] for group, own in zip(groups, weight, strict=True)])


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
        # By kind: a person's ages, a real photo and what was made of it, a labelled photo.
        self.groups: dict[str, list[tuple[FaceSet, Group]]] = {
            "people": [(source, group) for source in sets for group in source.people()],
            "targets": [(source, group) for source in sets for group in source.targets()],
            "photos": [(source, np.array([i])) for source in sets for i in source.photos()],
        }
        if not self.groups["people"] and not self.groups["targets"]:
            raise AgeEditError(
                "The generator learns from same-person pairs; prepare a folder with --pairs, find --people, "
                "or use back-translate."
            )
        self.photo_rows = photos
        self.known: dict[tuple[str, int], Sources] = {}

    def _sources(self, kind: str, size: int) -> Sources:
        """The groups of a kind with at least so many pixels."""
        if (kind, size) not in self.known:
            groups = [(source, group) for source, group in self.groups[kind] if source.size >= size]
            self.known[kind, size] = Sources(groups, self._weights(kind, groups))
        return self.known[kind, size]

    @staticmethod
    def _weights(kind: str, groups: Sequence[tuple[FaceSet, Group]]) -> npt.NDArray[np.float64]:
        """Even over ages, and of targets over genders.

        Photos are mostly of 25-35, public people mostly men of 60.
        """
        if kind == "people":
            weight = np.ones(len(groups))
        else:
            first = [(source, int(group[0])) for source, group in groups]
            genders = [float(source.gender[i]) if kind == "targets" else 0.0 for source, i in first]
            weight = evenly(genders, [float(source.age[i]) // 10 for source, i in first])
        return weight / weight.sum()

    def _choose(self, kind: str, size: int) -> tuple[FaceSet, Group]:
        sources = self._sources(kind, size)
        return sources.groups[self.rng.choice(len(sources.groups), p=sources.weight)]

    def draw(self, size: int, judge_photos: bool = True) -> Batch:
        """A batch of size x size pictures; raises AgeEditError where they were prepared smaller.

        Args:
            judge_photos: with labelled photos that have no second age.
        """
        if not (self._sources("people", size).groups or self._sources("targets", size).groups):
            raise AgeEditError(
                f"The crops have too few pixels to train {size}; run the prepare stage with --size {size}."
            )
        has_photos = judge_photos and self._sources("photos", size).groups
        photos = self.photo_rows if has_photos else 0
        pairs = self.batch - photos
        rows = Rows([], [], [], [])
        for _ in range(pairs):
            source, a, b = self._pair(size)
            if self.rng.random() < SAME:
                b = a
            years = float(source.age[b] - source.age[a])
            rows.add((source, a), (source, b), years, float(source.age[a]))
        for _ in range(photos):
            self._add_photo(rows, size)
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

    def _pair(self, size: int) -> tuple[FaceSet, int, int]:
        """(set, input, target): two ages of an invented person, or a real photo and what was made of it."""
        people = self._sources("people", size).groups
        targets = self._sources("targets", size).groups
        if targets and (not people or self.rng.random() < REAL):
            return self._real_pair(size)
        source, group = self._choose("people", size)
        # Of two random choices, the one further apart.
        choices = [self.rng.choice(group, 2, replace=False) for _ in range(2)]
        distances = [abs(source.age[a] - source.age[b]) for a, b in choices]
        a, b = choices[int(np.argmax(distances))]
        return source, int(a), int(b)

    def _real_pair(self, size: int) -> tuple[FaceSet, int, int]:
        """What was made of a real photo, and the photo; sometimes the other way round."""
        source, group = self._choose("targets", size)
        made = int(self.rng.choice(group[1:]))
        photo = int(group[0])
        is_younger = source.age[made] < source.age[photo]
        if is_younger and self.rng.random() < BACK:
            return source, photo, made
        return source, made, photo

    def _add_photo(self, rows: Rows, size: int) -> None:
        """A labelled photo, and an age for the judges to look for."""
        source, group = self._choose("photos", size)
        i = int(group[0])
        age = float(source.age[i])
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
