"""Pairs that a GPU draws into its own memory.

The people of the `people` stage at other ages, as a `loader.FaceSet`.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tqdm import tqdm

from agedit.estimators import SAME_EXPRESSION, expression_measures
from agedit.masks import MASK_SIZE, Masker
from agedit.runtime import usable_cores
from agedit.training.common import Device
from agedit.training.data import FLOW, groups_of, is_held_out, moves, smooth_ages, to_bytes
from agedit.training.identities import Identities
from agedit.training.losses import Judges
from agedit.training.mobile_stylegan import Synthesis
from agedit.training.teacher import FIRST_AGED_LAYER, draw_steps, read_directions

# Pixels of the teacher's pictures.
DRAWING = 1024
# Share of the people drawn for a batch that have a neutral face, and how often one of them is listed at most
# for that.
NEUTRAL = 0.5
MOST_OFTEN = 3
# Chunks of people that are being drawn while the processor finds where things moved to.
WAITING = 2


def render_pairs(
    people: str | Path,
    wheel: str | Path,
    direction: str | Path,
    weights: str | Path,
    size: int,
    seconds: float,
) -> "RenderedPairs":
    """Pairs of a folder that the `people` stage wrote, on the GPU if there is one.

    Args:
        weights: folder with the shipped judges. wheel, direction, size, seconds: as for `RenderedPairs`.
    """
    device = Device().torch
    judges = Judges(weights).to(device)
    return RenderedPairs(Identities(people), wheel, direction, judges, device, size, seconds=seconds)


class PairRow(NamedTuple):
    """What is known of a picture."""

    owner: int  # number of the person
    beta: float  # step of the direction of age
    judged: float  # years
    judged_at_zero: float  # years that the person's first picture shows


@dataclass
class Chunk:
    """Some people's pictures that are being finished.

    Attributes:
        people: their numbers. beta: (people, ages). pictures: (people x ages, 3, DRAWING, DRAWING) in -1..1.
        to_drawing: (people x ages, 2, 3), from the unit square to pixels. flows: of each picture, None of a
        person's first.
        masks: of each person.
    """

    people: range
    beta: npt.NDArray[np.float32]
    pictures: torch.Tensor
    to_drawing: torch.Tensor
    flows: list[Future[npt.NDArray[np.float32]] | None]
    masks: list[Future[npt.NDArray[np.uint8]]]


def _person_mask(people: Identities, i: int) -> npt.NDArray[np.uint8]:
    """The blend mask and the hair of person i, uint8 (2, MASK_SIZE, MASK_SIZE)."""
    hair = cv2.resize(people.hair[i], (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_LINEAR)
    mask = Masker.mask(hair.astype(np.float32) / 255, people.face(i), (DRAWING, DRAWING))
    return np.stack([to_bytes(np.asarray(mask, np.float32)), np.asarray(hair, np.uint8)])


class Renderer:
    """Draws people at several ages, brings the pictures into register and judges them.

    Args: as for `RenderedPairs`.
    """

    def __init__(
        self,
        people: Identities,
        wheel: str | Path,
        direction: str | Path,
        judges: Judges,
        device: torch.device,
        size: int,
        ages: int,
        seed: int,
    ) -> None:
        self.people = people
        self.judges = judges
        self.device = device
        self.size = size
        self.ages = ages
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.synthesis = Synthesis(wheel, FIRST_AGED_LAYER).to(device, self.dtype)
        self.aged, self.grey = read_directions(direction)
        self.rng = np.random.default_rng(seed)

    def begin(self, numbers: range, pool: ThreadPoolExecutor) -> Chunk:
        """Draw some people; the processor's part, flows and masks, goes to `pool`."""
        ages = self.ages
        beta = np.zeros((len(numbers), ages), np.float32)
        for row in beta:
            row[1:] = sorted(draw_steps(self.rng, ages), key=abs)
        pictures = self._draw(numbers, beta)
        matrices = [np.linalg.inv(np.vstack([self.people.matrix[i], [0, 0, 1]]))[:2] for i in numbers]
        to_drawing = torch.tensor(
            np.repeat(np.stack(matrices), ages, 0), dtype=torch.float32, device=self.device
        )
        twice = self._cut(pictures, to_drawing, 2 * FLOW)
        small = F.avg_pool2d(twice, 2).permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        flows: list[Future[npt.NDArray[np.float32]] | None] = []
        for k in range(len(small)):
            first = k - k % ages
            flows.append(pool.submit(moves, small[k], small[first]) if k > first else None)
        masks = [pool.submit(_person_mask, self.people, i) for i in numbers]
        return Chunk(numbers, beta, pictures, to_drawing, flows, masks)

    def _draw(self, numbers: range, beta: npt.NDArray[np.float32]) -> torch.Tensor:
        """Pictures (people x ages, 3, DRAWING, DRAWING) in -1..1."""
        steps = beta.reshape(-1, 1)
        w = np.repeat(self.people.w[list(numbers)], self.ages, 0)
        late = w + steps * self.aged + np.maximum(steps, 0) * self.grey
        return self.synthesis(
            torch.tensor(w).to(self.device, self.dtype), torch.tensor(late).to(self.device, self.dtype)
        )

    def _cut(
        self,
        pictures: torch.Tensor,
        to_drawing: torch.Tensor,
        size: int,
        flow: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, 3, size, size) in 0..255, aligned. flow: (B, 2, FLOW, FLOW) as `moves` gives it."""
        line = (torch.arange(size, device=self.device, dtype=torch.float32) + 0.5) / size
        v, u = torch.meshgrid(line, line, indexing="ij")
        at = torch.stack([u, v]).expand(len(pictures), -1, -1, -1)
        if flow is not None:
            at = at + F.interpolate(flow, size=(size, size), mode="bicubic") / FLOW
        # No matrix product: in TF32 it would be a quarter of a pixel off.
        x, y, ones = to_drawing[:, None, None].unbind(-1)
        at = x * at[:, 0, :, :, None] + y * at[:, 1, :, :, None] + ones
        grid = at * (2 / DRAWING) - 1
        cut = F.grid_sample(pictures.float(), grid, "bicubic", "border", align_corners=False)
        return ((cut + 1) * 127.5 + 0.5).clamp(0, 255)

    def finish(self, chunk: Chunk) -> tuple[torch.Tensor, list[PairRow], torch.Tensor]:
        """A chunk's pictures in register, without those of another expression or gender than the first.

        Returns:
            Pictures, uint8 (n, 3, size, size), a row for each, and masks (people, 2, MASK_SIZE, MASK_SIZE).
        """
        still = np.zeros((FLOW, FLOW, 2), np.float32)
        flow = np.stack([f.result() if f else still for f in chunk.flows])
        on_device = torch.tensor(flow.transpose(0, 3, 1, 2)).to(self.device)
        twice = self._cut(chunk.pictures, chunk.to_drawing, 2 * self.size, on_device)
        images = F.avg_pool2d(twice, 2)
        look = self.judges.look(images / 127.5 - 1)
        years = look.years[:, 0].cpu().numpy()
        is_male = look.male.cpu().numpy() > 0
        # Half precision may overflow.
        is_finite = chunk.pictures.isfinite().all(3).all(2).all(1).cpu().numpy()
        keep = []
        rows = []
        for k, i in enumerate(chunk.people):
            first = k * self.ages
            mine = slice(first, first + self.ages)
            calm = self._same_expression(i, flow[mine])
            same = calm & (is_male[mine] == is_male[first]) & is_finite[mine] & is_finite[first]
            for j in np.flatnonzero(same):
                keep.append(first + int(j))
                rows.append(PairRow(i, float(chunk.beta[k, j]), years[first + j], years[first]))
        masks = torch.tensor(np.stack([m.result() for m in chunk.masks])).to(self.device)
        kept = torch.tensor(keep, dtype=torch.long, device=self.device)
        return images[kept].to(torch.uint8), rows, masks

    def _same_expression(self, i: int, flow: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Whether person i's expression is that of the first picture, for each picture: (ages,) bool.

        Args:
            flow: (ages, FLOW, FLOW, 2).
        """
        points = cv2.transform(self.people.points[i][None], self.people.matrix[i])[0] * FLOW
        neutral = expression_measures(points)
        places = np.nan_to_num(points[None]).astype(np.float32)
        unused: Any = None
        result = []
        for moved in flow:
            now = points + cv2.remap(moved, places, unused, cv2.INTER_LINEAR)[0]
            result.append((abs(expression_measures(now) - neutral) <= SAME_EXPRESSION).all())
        return np.array(result)


class RenderedPairs:
    """Pictures, uint8 (N, 3, size, size), of invented people at several ages each, in the device's memory.

    The first picture of a person is the one that the `people` stage looked at; the others lie at random steps
    of the direction, each in another range of `teacher.STEPS`, and are brought into register with it.
    Pictures whose expression or gender changes are left out.

    Args:
        wheel: the random-face wheel. direction: the .npz of the `direction` stage. device: where the pictures
        stay.
        size: pixels, 256 or 512. ages: pictures of a person, 2 to 6. seconds: no more people are drawn after
        so long.
        seed: of the steps. together: people drawn at once.
    """

    def __init__(
        self,
        people: Identities,
        wheel: str | Path,
        direction: str | Path,
        judges: Judges,
        device: torch.device | str,
        size: int = 512,
        ages: int = 4,
        seconds: float = float("inf"),
        seed: int = 0,
        together: int = 8,
    ) -> None:
        self.size = size
        self.device = torch.device(device)
        renderer = Renderer(people, wheel, direction, judges, self.device, size, ages, seed)
        # All of it at once: put together from parts, it would need twice the memory.
        most = len(people) * ages
        self.images = torch.empty((most, 3, size, size), dtype=torch.uint8, device=self.device)
        self.count = 0
        rows, masks = self._render(renderer, together, seconds)
        self.images = self.images[: self.count]
        # uint8 (people, 2, MASK_SIZE, MASK_SIZE): mask and hair.
        self.masks = torch.cat(masks)
        self.owner = np.array([row.owner for row in rows], int)
        self.beta = np.array([row.beta for row in rows], float)
        self.judged = np.array([row.judged for row in rows], float)
        base = np.array([row.judged_at_zero for row in rows], float)
        self.age = smooth_ages(base, self.beta, self.judged)
        self.gender = np.full(len(rows), np.nan)  # nobody asks for it
        self.person = np.array(people.names)[self.owner]
        self.held_out = np.array([is_held_out(name) for name in people.names])[self.owner]
        self.calm = people.mood[:, 0] >= people.mood.max(1)

    @torch.no_grad()
    def _render(
        self, renderer: Renderer, together: int, seconds: float
    ) -> tuple[list[PairRow], list[torch.Tensor]]:
        """Draw until all people or the time are through; returns the pictures' rows and masks by chunks."""
        count = len(renderer.people)
        start = time.time()
        waiting: list[Chunk] = []
        rows: list[PairRow] = []
        masks: list[torch.Tensor] = []

        def finish(chunk: Chunk) -> None:
            images, found, own_masks = renderer.finish(chunk)
            self.images[self.count : self.count + len(images)] = images
            self.count += len(images)
            rows.extend(found)
            masks.append(own_masks)
            bar.update(len(chunk.people))

        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            tqdm(total=count, desc="drawing", unit="person") as bar,
        ):
            for k in range(0, count, together):
                if k and time.time() - start > seconds:
                    break
                waiting.append(renderer.begin(range(k, min(k + together, count)), pool))
                if len(waiting) > WAITING:
                    finish(waiting.pop(0))
            for chunk in waiting:
                finish(chunk)
        return rows, masks

    def load(
        self, indices: Sequence[int], device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1."""
        index = torch.as_tensor(np.asarray(indices), device=self.device)
        owner = torch.as_tensor(self.owner[indices], device=self.device)
        x = self.images[index].to(device).float() / 127.5 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        both = self.masks[owner].to(device).float() / 255
        if self.size != MASK_SIZE:
            both = F.interpolate(both, size=(self.size, self.size), mode="bilinear")
        return x, both[:, :1], both[:, 1:]

    def people(self, held_out: bool = False) -> list[npt.NDArray[Any]]:
        """Index arrays, one a person.

        In training, people with a neutral face several times, so that they are about half.
        """
        groups = groups_of(np.flatnonzero(self.held_out == held_out), self.owner)
        if held_out:
            return groups
        is_calm = [bool(self.calm[self.owner[group[0]]]) for group in groups]
        calm = sum(is_calm)
        others = len(groups) - calm
        often = round(NEUTRAL / (1 - NEUTRAL) * others / max(1, calm))
        often = min(MOST_OFTEN, max(1, often))
        result = []
        for group, neutral in zip(groups, is_calm, strict=True):
            result += [group] * (often if neutral else 1)
        return result

    def targets(self, held_out: bool = False) -> list[npt.NDArray[Any]]:
        """None: all are invented."""
        return []

    def photos(self, held_out: bool = False) -> npt.NDArray[np.intp]:
        """None: all are invented."""
        return np.zeros(0, int)
