"""Pairs that a GPU draws into its own memory: the people of the `people` stage at other ages, with the interface of `data.Crops`."""

import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from agedit.estimators import SAME_EXPRESSION, expression
from agedit.masks import MASK_SIZE, Masker
from agedit.runtime import usable_cores
from agedit.training.common import Device
from agedit.training.data import FLOW, groups_of, is_held_out, moves, smooth_ages, to_bytes
from agedit.training.identities import People
from agedit.training.losses import Judges
from agedit.training.mobile_stylegan import Synthesis
from agedit.training.teacher import FIRST_AGED_LAYER, draw_steps, read_directions

DRAWING = 1024
NEUTRAL, MOST_OFTEN = (
    0.5,
    3,
)  # share of the rows wanted with a neutral face, by taking such people up to so often


def draw(people, wheel, direction, weights, size, seconds):
    """`Drawn` of a folder that the `people` stage wrote, on the GPU if there is one.

    Args:
        wheel, direction, size, seconds: as for `Drawn`. weights: folder with the shipped judges.
    """
    device = Device().torch
    return Drawn(People(people), wheel, direction, Judges(weights).to(device), device, size, seconds=seconds)


class Drawn:
    """Pictures, uint8 (N, 3, size, size), of invented people at up to `ages` ages each, in the device's memory.

    The first picture of a person is the one that the `people` stage looked at; the others lie at random steps of the direction, each in
    another range of `teacher.STEPS`, and are brought into register with it. Pictures whose expression or gender changes are left out.

    Args:
        people: a `people.People`. wheel: the random-face wheel. direction: the .npz of the `direction` stage. judges: a `losses.Judges`.
        device: where the pictures stay. size: pixels, 256 or 512. ages: pictures of a person, 2 to 6. seconds: no more people are drawn after so
        long. seed: of the steps. together: people drawn at once.
    """

    def __init__(
        self,
        people,
        wheel,
        direction,
        judges,
        device,
        size=512,
        ages=4,
        seconds=float("inf"),
        seed=0,
        together=8,
    ):
        self.size, self.device = size, torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.synthesis = Synthesis(wheel, FIRST_AGED_LAYER).to(self.device, self.dtype)
        self.directions = read_directions(direction)
        self.judges, self.rng = judges, np.random.default_rng(seed)
        # all of it at once: put together from parts, it would need twice the memory
        self.images, self.count = (
            torch.empty((len(people) * ages, 3, size, size), dtype=torch.uint8, device=self.device),
            0,
        )
        start, waiting, done = time.time(), [], []
        with (
            ThreadPoolExecutor(usable_cores()) as pool,
            torch.no_grad(),
            tqdm(total=len(people), desc="drawing", unit="person") as bar,
        ):
            for k in range(0, len(people), together):
                if k and time.time() - start > seconds:
                    break
                waiting.append(self._begin(people, range(k, min(k + together, len(people))), ages, pool))
                if (
                    len(waiting) > 2
                ):  # the GPU draws two chunks on while the processor finds where things moved to
                    self._finish(people, *waiting.pop(0), done, bar)
            for chunk in waiting:
                self._finish(people, *chunk, done, bar)
        masks, rows = zip(*done)
        del self.synthesis
        self.images, self.masks = (
            self.images[: self.count],
            torch.cat(masks),
        )  # uint8; masks and hair (people, 2, 256, 256)
        self.owner, self.beta, self.judged, base = np.concatenate(rows).T
        self.owner = self.owner.astype(int)
        self.person = np.array(people.names)[self.owner]
        self.age = smooth_ages(base, self.beta, self.judged)
        self.held_out = np.array([is_held_out(name) for name in people.names])[self.owner]
        self.calm = people.mood[:, 0] >= people.mood.max(1)

    def _begin(self, people, chunk, ages, pool):
        """Draw a chunk of people; the processor's part, flows and masks, goes to `pool`."""
        aged, grey = self.directions
        n, device = len(chunk), self.device
        beta = np.zeros((n, ages), np.float32)
        for row in beta:
            row[1:] = sorted(draw_steps(self.rng, ages), key=abs)
        w = np.repeat(people.w[list(chunk)], ages, 0)
        late = w + beta.reshape(-1, 1) * aged + np.maximum(beta.reshape(-1, 1), 0) * grey
        to = lambda v: torch.tensor(v).to(device, self.dtype)
        pictures = self.synthesis(to(w), to(late))
        to_drawing = np.stack(
            [np.linalg.inv(np.vstack([people.matrix[i], [0, 0, 1]]))[:2] for i in chunk]
        )  # unit square -> pixels
        to_drawing = torch.tensor(np.repeat(to_drawing, ages, 0), dtype=torch.float32, device=device)
        small = self._cut(pictures, to_drawing, 2 * FLOW)
        small = F.avg_pool2d(small, 2).permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        flows = [
            pool.submit(moves, small[k], small[k - k % ages]) if k % ages else None for k in range(n * ages)
        ]
        masks = [pool.submit(self._mask, people, i) for i in chunk]
        return chunk, beta, pictures, to_drawing, flows, masks

    @staticmethod
    def _mask(people, i):
        hair = cv2.resize(people.hair[i], (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_LINEAR)
        return np.stack(
            [to_bytes(Masker.mask(np.float32(hair) / 255, people.face(i), (DRAWING, DRAWING))), hair]
        )

    def _cut(self, pictures, to_drawing, size, flow=None):
        """(B, 3, size, size) in 0..255, aligned. flow: (B, 2, FLOW, FLOW) as `moves` gives it."""
        line = (torch.arange(size, device=self.device, dtype=torch.float32) + 0.5) / size
        v, u = torch.meshgrid(line, line, indexing="ij")
        at = torch.stack([u, v]).expand(len(pictures), -1, -1, -1)
        if flow is not None:
            at = at + F.interpolate(flow, size=(size, size), mode="bicubic") / FLOW
        x, y, ones = to_drawing[:, None, None].unbind(
            -1
        )  # no matrix product: in TF32 it would be a quarter of a pixel off
        at = x * at[:, 0, :, :, None] + y * at[:, 1, :, :, None] + ones
        cut = F.grid_sample(
            pictures.float(), at * (2 / DRAWING) - 1, "bicubic", "border", align_corners=False
        )
        return ((cut + 1) * 127.5 + 0.5).clamp(0, 255)

    def _finish(self, people, chunk, beta, pictures, to_drawing, flows, masks, done, bar):
        """A chunk's pictures in register into `images`; its masks and rows (owner, beta, judged, judged at beta 0) onto `done`."""
        flow = np.stack([f.result() if f else np.zeros((FLOW, FLOW, 2), np.float32) for f in flows])
        cut = self._cut(
            pictures, to_drawing, 2 * self.size, torch.tensor(flow.transpose(0, 3, 1, 2)).to(self.device)
        )
        images = F.avg_pool2d(cut, 2)
        years, male, _ = self.judges.look(images / 127.5 - 1)
        years, male, whole = (
            years[:, 0].cpu().numpy(),
            male.cpu().numpy(),
            pictures.isfinite().all(3).all(2).all(1).cpu().numpy(),
        )  # half precision may overflow
        keep, rows, ages = [], [], beta.shape[1]
        for k, i in enumerate(chunk):
            points = cv2.transform(people.points[i][None], people.matrix[i])[0] * FLOW
            neutral, first = expression(points), k * ages
            for j in range(ages):
                row = first + j
                moved = points + cv2.remap(flow[row], np.nan_to_num(points[None]), None, cv2.INTER_LINEAR)[0]
                same = (
                    whole[[first, row]].all()
                    and (abs(expression(moved) - neutral) <= SAME_EXPRESSION).all()
                    and (male[row] > 0) == (male[first] > 0)
                )
                if same:
                    keep.append(row)
                    rows.append((i, beta[k, j], years[row], years[first]))
        masks = torch.tensor(np.stack([m.result() for m in masks])).to(self.device)
        self.images[self.count : self.count + len(keep)] = images[
            torch.tensor(keep, dtype=torch.long, device=self.device)
        ].to(torch.uint8)
        self.count += len(keep)
        done.append((masks, np.array(rows, np.float64).reshape(-1, 4)))
        bar.update(len(chunk))

    def load(self, indices, device):
        """Pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1."""
        index = torch.as_tensor(np.asarray(indices), device=self.device)
        owner = torch.as_tensor(self.owner[indices], device=self.device)
        lasting = dict(memory_format=torch.channels_last)
        x = (self.images[index].to(device).float() / 127.5 - 1).contiguous(**lasting)
        both = self.masks[owner].to(device).float() / 255
        if self.size != MASK_SIZE:
            both = F.interpolate(both, size=x.shape[2:], mode="bilinear")
        return x, both[:, :1], both[:, 1:]

    def people(self, held_out=False):
        """Index arrays, one a person; people with a neutral face several times, so that they are about half."""
        groups = groups_of(np.flatnonzero(self.held_out == held_out), self.owner)
        calm = [self.calm[self.owner[g[0]]] for g in groups]
        often = min(
            MOST_OFTEN, max(1, round(NEUTRAL / (1 - NEUTRAL) * (len(calm) - sum(calm)) / max(1, sum(calm))))
        )
        return (
            groups
            if held_out
            else [g for g, neutral in zip(groups, calm) for _ in range(often if neutral else 1)]
        )

    def photos(self, held_out=False):
        """None: all are invented."""
        return np.zeros(0, int)
