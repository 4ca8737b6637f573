"""Stage `generator` (S25-S210): the elastic generator, trained through the difference that the app shows.

Each step runs the full network at the stage's resolution and one random sub-model, G_{r,c}. Rows of a batch are
same-person pairs (supervised) and labelled photos (judged only); in a few rows the photo is hidden (strict form).
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.network.autoencoder import INPUT
from agedit.network.discriminator import marks_of
from agedit.network.generator import Generator
from agedit.submodel import RATIOS, SMALLEST, START, WIDTHS, kept
from agedit.training.adversary import Adversary
from agedit.training.age_vector import load_encoder
from agedit.training.batches import ALPHA_PER_YEAR, Batches, Seen, brightness, see, seen_of, shown_of, shrink
from agedit.training.common import Device, Ema, load_checkpoint, save_checkpoint, stop_on_signal
from agedit.training.look import sheet, validate
from agedit.training.losses import Bounded, Judges, Perceptual, style, texture
from agedit.training.optimizer import Optimizer

PATCHED = {
    256: 72,
    512: 128,
    1024: 128,
}  # edges of patches at half the resolution, where only the top block is trained on them
SAVE_EVERY = 300  # seconds


@dataclass
class Settings:
    """Weights of the losses and the shape of a step."""

    batch: int = 16
    photos: int = 6  # rows of the batch that are labelled photos without a second age
    whole: int = 128  # the highest resolution whose pictures are seen whole, and train all blocks; a GPU has time for 256 (see PATCHED)
    strict: float = 0.15  # share of pair rows whose photo is hidden
    # of these, one each for up to 128 px, for over 128 px, and for patches of the top block, which only sharpens what is drawn below it (`level`)
    rate: tuple = (3e-3, 3e-3, 3e-4)  # of the optimiser, at first
    texture: tuple = (
        10.0,
        7.0,
        2.0,
    )  # strength of the change, by octaves and places; with more, over 128 px, ridges got oily
    perceptual: tuple = (5.0, 5.0, 10.0)
    adversarial: tuple = (0.3, 0.15, 0.1)  # at 0.3 its gradient is three times that of LPIPS at 256 px
    style: float = 1.0  # marks like the target's, wherever they lie
    pixel: float = 2.5  # L1 at three scales
    fine: float = (
        0.3  # share of the finest: a guess at where a wrinkle lies costs twice, so L1 there erases wrinkles
    )
    raw: float = 0.2  # G(f') itself against the target, so that the strict form is a face
    look: float = 0.3  # the age network's features of an edit against those of its target, and its years
    features: float = 0.6  # D's features of an edit against those of its target
    consistency: float = 20.0  # S29
    same_age: float = 1.0  # a sub-model's edit is judged as old as the full network's
    age: float = 0.15
    gender: float = 0.4  # the age network still sees a man as a man, a woman as a woman
    expression: float = 0.5  # the expression network still sees what it saw in the photo
    bound: float = 0.8  # longest gradient of each in a picture, and of a photo's age and identity, times the batch: four times LPIPS's, but
    # little of a judge's reaches the weights; with 0.4 men and women drifted together
    identity: float = 1.0
    likeness: float = 0.3  # identity distance of G(f) and G(f') to the photo that was hidden
    warm: int = 40  # steps in which a stage's rate grows to what it is to be
    alone: int = 60  # batches that a new D has to itself before the generator hears of it: weights that draw well fool it for long

    def hears_d(self, level):
        """Whether D counts for anything; a run of some hundred small batches is too short to teach a new one."""
        return self.features > 0 or self.adversarial[level] > 0


def widen(state, old):
    """Zero what the kernels beyond the ratio `old` give to those within, in a generator's state: a network that was
    trained at c = `old` then gives the same pictures at a larger c, and grows from there."""
    channels = kept(START, old)
    for size, width in WIDTHS.items():
        p, half = f"blocks.{size}.", kept(width, old)
        if p + "conv1.weight" not in state:
            break
        state[p + "conv1.weight"][:half, 3 + channels :] = 0
        state[p + "conv2.weight"][:half, half:] = 0
        state[p + "to_rgb.weight"][:, half:] = 0
        channels = half


class Trainer:
    """State of one run: networks, optimisers, EMA; `step` does one batch."""

    def __init__(self, sets, run, wheel, weights, settings=Settings(), seed=0, second=None, largest=256):
        self.device, self.run, self.settings = Device(), Path(run), settings
        to = dict(device=self.device.torch, memory_format=torch.channels_last)
        torch.manual_seed(seed)
        self.encoder, self.sketcher = (m.to(self.device.torch) for m in load_encoder(run))
        vector = self.run / "age_vector.npz"
        if not vector.exists():
            raise AgeEditError(f"There is no age vector in {run}; run the age-vector stage first.")
        self.n = torch.from_numpy(np.load(vector)["n"]).to(self.device.torch)
        state = load_checkpoint(self.run / "generator.pt") or {}
        self.top = max(
            [largest, *(int(k.split(".")[1]) for k in state.get("generator", ()) if k.startswith("blocks."))]
        )
        self.generator, self.adversary = Generator(self.top).to(**to), Adversary(self.device)
        self.perceptual, self.judges = Perceptual(wheel).to(**to), Judges(weights, second).to(**to)
        self.opt_g = Optimizer(self.generator)
        self.ema, self.steps, self.seconds, self.norm, self.skipped = Ema(self.generator), 0, 0.0, None, 0
        self.largest, self.width = 0, 0.0  # what was trained so far: resolution and channel ratio
        self.started_from = ""  # hash of the weights that were unpacked, if any
        if state:
            # a new block on top starts as it is, and so do all momenta, which are kept by number
            grown = self.generator.state_dict().keys() - state["generator"].keys()
            self.generator.load_state_dict(self.generator.state_dict() | state["generator"])
            for name, part in self._parts().items():
                if name in state and not (
                    grown and name == "opt_g"
                ):  # unpacked weights bring no optimiser and no D
                    part.load_state_dict(state[name])
            self.ema.state |= {k: v.to(self.device.torch) for k, v in state["ema"].items()}
            self.ema.steps = 0 if grown else state["steps"]
            self.steps, self.seconds, self.started_from = (
                state["steps"],
                state["seconds"],
                state["started_from"],
            )
            self.largest, self.width = state["largest"], state["width"]
        new = state and "discriminator" not in state and any(map(settings.hears_d, range(3)))
        self.alone = settings.alone if new else 0
        self.rng = np.random.default_rng([seed, self.device.rank, self.steps])
        self.batches = Batches(
            sets, settings.batch, settings.photos, settings.strict, self.rng, self.device.torch
        )

    def save(self):
        if self.device.main:
            save_checkpoint(
                self.run / "generator.pt",
                largest=self.largest,
                width=self.width,
                steps=self.steps,
                seconds=self.seconds,
                started_from=self.started_from,
                ema=self.ema.state,
                generator=self.generator.state_dict(),
                **{k: v.state_dict() for k, v in self._parts().items()},
            )

    def _parts(self):
        return {
            "discriminator": self.adversary.network,
            "opt_d": self.adversary.optimizer,
            "opt_g": self.opt_g,
        }

    def edit(self, network, b, f, shifted, r, c, patch=None):
        """The shown picture y = x + m (G(f') - G(f)), the tone kept, and both raw outputs; a hidden row shows G(f'),
        and sees the sketch that f gives of the photo instead of the photo.

        Both runs carry a gradient: what they share then cancels, and only their difference learns.

        Args:
            b: a dict of the photos x, their mask and hair, and which are hidden (see `Batches`).
        """
        hidden = b["hidden"][:, None, None, None]
        sketch = F.interpolate(self.sketcher(f), size=(r, r), mode="bicubic").clamp(-1, 1)
        photo = torch.where(hidden, sketch, shrink(b["x"], r))
        with self.device.autocast():
            out = network(torch.cat([shifted, f]), torch.cat([photo, photo]), r, c, patch)
        x, mask, hair = (see(b[k], r, patch) for k in ("x", "mask", "hair"))
        if patch is None:
            (new, base), whole = out.chunk(2), None
        else:  # a patch does not know the whole face: the picture below the top block does
            (new, base), below = seen_of(out[0], patch).chunk(2), torch.sub(*out[1].chunk(2))
            whole = brightness(below, *(shrink(b[k], r // 2) for k in ("x", "mask", "hair")))
            whole = see(F.interpolate(whole, scale_factor=2, mode="bilinear"), r, patch)
        y = x + mask * shown_of(new - base, x, mask, hair, r, whole)
        return torch.where(hidden, new, y), new, base

    def step(self, r, width=1.0):
        """One batch through the full network of the stage, G_{r,width}, and one sub-model of it; returns the losses, still on the device."""
        if 0 < self.width < width:
            widen(self.generator.state_dict(), self.width)
            widen(self.ema.state, self.width)
        self.width = max(self.width, width)
        s, (b, f, shifted, patch) = self.settings, self._draw(r)
        y, new, base = self.edit(self.generator, b, f, shifted, r, width, patch)
        full = Seen(b, r, patch)
        trunk = self._trunk(full, y)
        hears = s.hears_d(self.level(r, patch is not None))
        loss_d = self.adversary.train(full, y, trunk[1], self.steps) if hears else torch.zeros(())
        self.adversary.network.requires_grad_(False)
        whole = None if patch else full
        if whole:
            with torch.no_grad(), self.device.autocast():
                whole.look = self.judges.look(whole.target)  # a photo is its own target
                whole.mood = self.judges.mood(whole.x)
        loss, log, age = self._losses(full, y, new, base, whole, trunk, judged=patch is None and r >= 128)
        self.opt_g.zero_grad()
        loss.backward()
        # one sub-model: the smallest every other step (the sandwich rule), else any; LPIPS and D hear of the narrowest and of lower resolutions
        q, c = self._draw_submodel(r, width)
        if (q, c) != (r, width):
            y2, new2, base2 = self.edit(self.generator, b, f, shifted, q, c, patch)
            part = full if q == r else Seen(b, q, patch)
            loss, _, age2 = self._losses(
                part, y2, new2, base2, whole, self._trunk(part, y2) if c == RATIOS[0] or q < r else None
            )
            same = (
                F.mse_loss(new2, shrink(new, new2.shape[-1]).detach())
                + F.mse_loss(base2, shrink(base, new2.shape[-1]).detach())
                + 4 * F.mse_loss(y2, shrink(y, y2.shape[-1]).detach())
            )
            log["same"] = same.detach()
            same = s.consistency * same
            if whole and r >= 128:
                apart = F.smooth_l1_loss(*(v[~b["hidden"]] / 20 for v in (age2, age.detach())), beta=0.3)
                log["years"], same = apart.detach(), same + s.same_age * apart
            (loss + same).backward()
        self.adversary.network.requires_grad_(True)
        self.device.average_gradients(self.generator)
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0).item()
        self.norm = norm if self.norm is None else self.norm + 0.05 * (min(norm, 4 * self.norm) - self.norm)
        if norm > 10 * self.norm or not math.isfinite(norm):
            self.skipped += 1  # one bad batch must not undo an hour
            log["skipped"] = self.skipped
        else:
            self.opt_g.step()
        self.ema.update(self.generator)
        self.steps += 1
        log["d"], self.largest = loss_d, max(self.largest, r)
        return log

    def teach_discriminator(self, r, width=1.0):
        """One batch for D alone; returns its loss."""
        b, f, shifted, patch = self._draw(r)
        with torch.no_grad():
            y, _, _ = self.edit(self.generator, b, f, shifted, r, width, patch)
        seen = Seen(b, r, patch)
        return self.adversary.train(seen, y, self._trunk(seen, y)[1], self.alone)

    def _trunk(self, seen, y):
        """The perceptual trunk's features of the pairs' targets and of their drawn pictures, and what D sees of both."""
        edited = ~seen.hidden[seen.pair]
        with self.device.autocast():
            if seen.trunk is None:  # a sub-model of the same resolution has the same photos and targets
                with torch.no_grad():
                    photo, meant = (self.perceptual.features(v[seen.pair]) for v in (seen.x, seen.target))
                    seen.trunk = photo, meant, marks_of(meant, photo, edited)
            photo, meant, marks = seen.trunk
            drawn = self.perceptual.features(y[seen.pair])
            return (meant, drawn), (marks, marks_of(drawn, photo, edited))

    def _draw(self, r):
        """A batch, its f and f', and the patch of it that is trained, None for the whole."""
        patched = r > self.settings.whole
        b = self.batches.draw(max(r, INPUT), judged=not patched)
        with torch.no_grad():  # not in bf16: a shift of f is small beside its steps
            f = self.encoder(shrink(b["x"], INPUT))
        edge = PATCHED[r] if patched else None
        patch = (*(int(v) for v in self.rng.integers(0, r // 2 - edge + 1, 2)), edge) if edge else None
        return b, f, f + (b["years"] * ALPHA_PER_YEAR)[:, None] * self.n, patch

    def _draw_submodel(self, r, width):
        narrower = [c for c in RATIOS if c <= width]
        if r > self.settings.whole:  # the blocks below are done
            return r, RATIOS[0] if self.steps % 2 else float(self.rng.choice(narrower))
        if self.steps % 2:
            return SMALLEST, RATIOS[0]
        # half of them at full width, which is what the plan's earlier stages trained at the lower resolutions, and would drift
        return int(
            self.rng.choice([q for q in WIDTHS if SMALLEST <= q <= r])
        ), width if self.rng.random() < 0.5 else float(self.rng.choice(narrower))

    @staticmethod
    def level(r, patched):
        """0, 1 or 2: which value of a setting that has three (see `Settings`) holds at r pixels, whole or on patches."""
        return 2 if patched else int(r > 128)

    def _losses(self, seen, y, new, base, full, trunk, judged=False):
        """Sum and log of the losses of one network, and the ages (B, judges) that its pictures show, None on a patch.

        full: the stage's own `Seen`, None on a patch. trunk: what `_trunk` gives, for D's and the perceptual terms, or None.
        judged: age and identity of photos too.
        """
        s, log, pair, mask = self.settings, {}, seen.pair, seen.mask
        target, x, r, years, level = (
            seen.target,
            seen.x,
            y.shape[-1],
            None,
            self.level(y.shape[-1], full is None),
        )
        terms = {
            "pixel": s.pixel
            * sum(
                k * (shrink(y, q) - shrink(target, q))[pair].abs().mean()
                for k, q in ((s.fine, r), (1, r // 4), (1, 8))
            ),
            "texture": s.texture[level]
            * sum(
                (a - b)[pair].abs().mean()
                for a, b in zip(texture(seen.change(y)), texture(seen.change(target)))
            ),
            "raw": s.raw
            * ((new - target)[pair].abs().mean() + ((base - x) * mask.clamp_min(0.1)).abs().mean()),
        }
        with self.device.autocast():
            if trunk:
                meant, drawn = trunk[0]
                if s.hears_d(level):
                    fooled, marks = self.adversary.hear(seen, y, trunk[1])
                    terms["adv"], terms["features"] = s.adversarial[level] * fooled, s.features * marks
                terms["lpips"] = s.perceptual[level] * self.perceptual.distance(drawn, meant).mean()
                terms["style"] = s.style * style(drawn, meant).mean()
            if full:
                (wanted_age, wanted_male, wanted_look), picture = full.look, seen.shown(y, full)
                years, _, look = self.judges.look(picture)
                if trunk:
                    terms["look"] = s.look * (
                        sum((a - b)[pair].square().sum(1).mean() for a, b in zip(look, wanted_look))
                        + 0.2 * F.smooth_l1_loss(years[pair] / 20, wanted_age[pair] / 20, beta=0.3)
                    )
                sure = wanted_male.clamp(-2, 2)  # as sure as of the target, but not more than it need be
                bounded = lambda: Bounded.apply(picture, s.bound / len(y))  # each of the two for itself
                male = self.judges.sex(bounded())
                terms["gender"] = s.gender * F.relu(sure.abs() - sure.sign() * male)[~seen.hidden].mean()
                apart = (full.mood.exp() * (full.mood - self.judges.mood(bounded()))).sum(
                    1
                )  # Kullback-Leibler
                terms["mood"] = s.expression * apart[~seen.hidden].log1p().mean()
            if judged and (~pair).any():
                shown = lambda: Bounded.apply(y[~pair].clamp(-1, 1), s.bound / len(y))
                with torch.no_grad():
                    before_id = self.judges.embed(x[~pair])
                asked = wanted_age[~pair] + seen.years[~pair][:, None]
                terms["age"] = s.age * F.smooth_l1_loss(
                    self.judges.look(shown())[0] / 20, asked / 20, beta=0.3
                )
                # the same person, with some room: a face many years away may look less alike
                distance = (self.judges.embed(shown()).float() - before_id.float()).norm(dim=1)
                terms["id"] = s.identity * F.relu(distance - 0.25 - 0.005 * seen.years[~pair].abs()).mean()
            if judged and seen.hidden.any():
                with torch.no_grad():
                    wanted_id = self.judges.embed(x[seen.hidden]).float()
                drawn = self.judges.embed(
                    torch.cat([base[seen.hidden], new[seen.hidden]]).clamp(-1, 1)
                ).float()
                terms["likeness"] = s.likeness * (drawn - wanted_id.repeat(2, 1)).norm(dim=1).mean()
        log.update({k: v.detach().float() for k, v in terms.items()})
        return sum(terms.values()), log, years


def spent(plan, bounds, stage, progress, whole):
    """How far the blocks that learn in a stage of the plan are on their way to being frozen, 0..1: those of all stages without patches (up to
    `whole` pixels) together, and the one block of each stage with them."""
    if plan[stage][0] > whole:
        first, last = (bounds[stage - 1] if stage else 0.0), bounds[stage]
    else:
        first, last = 0.0, max(b for b, (r, *_) in zip(bounds, plan) if r <= whole)
    return min(1.0, float((progress - first) / (last - first)))


def train_generator(
    sets,
    run,
    wheel,
    weights,
    plan=((64, 0.5, 0.25), (128, 0.5, 0.6), (128, 1.0, 0.15)),
    steps=100000,
    minutes=None,
    sheet_every=200,
    settings=Settings(),
    second=None,
):
    """Train or resume `generator.pt` in `run`; stops after `steps` or `minutes` of training in all (S210).

    Args:
        sets: `data.Crops` and `drawn.Drawn`; sheets and validation show the people held out of the first.
        plan: (resolution, channel ratio, share of the run) in order. The low blocks and the first kernels come first:
        they serve every sub-model, and a step at half the width costs a quarter.
        wheel: the perceptual trunk's wheel. weights: folder with the shipped judges. second: another age judge's wheel.
    """
    trainer = Trainer(sets, run, wheel, weights, settings, second=second, largest=max(r for r, *_ in plan))
    bounds = np.cumsum([share for *_, share in plan]) / sum(share for *_, share in plan)
    log_mean, last, told, entered, (r, width, _) = {}, time.time(), 0.0, {}, plan[-1]
    saved = last
    with (
        stop_on_signal() as stopped,
        tqdm(total=steps, initial=trainer.steps, desc="generator", disable=not trainer.device.main) as bar,
    ):
        while trainer.steps < steps and not trainer.device.agree(stopped()):
            progress = trainer.steps / steps
            if minutes:
                progress = max(progress, trainer.seconds / (60 * minutes))
            if trainer.device.agree(progress >= 1):
                break
            stage = min(int(np.searchsorted(bounds, progress, "right")), len(plan) - 1)
            r, width, _ = plan[stage]
            since = trainer.steps - entered.setdefault(
                (r, width), trainer.steps
            )  # a stage's new block starts gently
            rate = settings.rate[trainer.level(r, r > settings.whole)] * min(1, (since + 1) / settings.warm)
            trainer.opt_g.rate(
                rate * max(0.03, (1 - spent(plan, bounds, stage, progress, settings.whole)) ** 0.8)
            )
            while trainer.alone and not trainer.device.agree(stopped()):
                bar.set_postfix_str(
                    f"D alone, {trainer.alone} batches: {float(trainer.teach_discriminator(r, width)):.3f}"
                )
                trainer.alone -= 1
            log = trainer.step(r, width)
            trainer.seconds, last = trainer.seconds + time.time() - last, time.time()
            for k, v in log.items():
                log_mean[k] = v if k not in log_mean or k == "skipped" else 0.97 * log_mean[k] + 0.03 * v
            bar.update()
            if last - told > 1:  # a GPU waits while numbers are fetched
                told = last
                bar.set_postfix_str(
                    f"{r}:{width:g} " + " ".join(f"{k} {float(v):.3f}" for k, v in log_mean.items())
                )
            if last - saved > SAVE_EVERY:
                saved = last
                trainer.save()
            if trainer.steps % sheet_every == 0 and trainer.device.main:
                trainer.save()
                sheet(trainer, Path(run) / f"sheet_{trainer.steps:06d}.png", r, width)
                held_out = " ".join(f"{k} {v:.4f}" for k, v in validate(trainer, r, width).items())
                bar.write(f"step {trainer.steps}, {r}:{width:g}, held-out people: {held_out}")
        trainer.save()
        if stopped():
            raise SystemExit("stopped; the same command goes on from here")
    if trainer.device.main:
        sheet(trainer, Path(run) / "sheet.png", r, width)
    return trainer.steps
