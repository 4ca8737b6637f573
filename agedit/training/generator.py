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
from agedit.network.discriminator import Discriminator
from agedit.network.generator import Generator
from agedit.submodel import RATIOS, SMALLEST, START, WIDTHS, kept
from agedit.training.age_vector import load_encoder
from agedit.training.common import (Device, Ema, batch_of, load_checkpoint, save_checkpoint, save_sheet, stop_on_signal)
from agedit.training.data import Crops
from agedit.training.losses import Judges, Perceptual

ALPHA_PER_YEAR = 0.25       # scale of alpha in training; the calibrate stage corrects what is left
DEGREE = math.pi / 180
BETAS = (0.9, 0.99)         # Adam's, of the generator


@dataclass
class Settings:
    """Weights of the losses and the shape of a step."""
    batch: int = 16
    photos: int = 4            # rows of the batch that are labelled photos without a second age
    strict: float = 0.03       # share of pair rows whose photo is hidden
    rate: float = 3e-3
    pixel: float = 2.5
    raw: float = 0.2           # G(f') itself against the target, so that the strict form is a face
    perceptual: float = 4.0
    adversarial: float = 0.15
    consistency: float = 20.0  # S29
    age: float = 0.1
    tint: float = 12.0
    identity: float = 1.0
    smooth: float = 8.0        # approximate R1 on D


class Batches:
    """Draws batches from prepared folders: dict of x, target, mask, years, age, pair (bool), hidden (bool)."""

    def __init__(self, folders, settings, rng, device):
        self.sets, self.settings, self.rng, self.device = [Crops(f) for f in folders], settings, rng, device
        self.people = [(s, g) for s in self.sets for g in s.people()]
        self.photos = [(s, i) for s in self.sets for i in s.photos()]
        if not self.people:
            raise AgeEditError("The generator learns from same-person pairs; prepare a folder with --pairs.")
        young = np.array([s.age[i] for s, i in self.photos])      # even over ages: photos are mostly of 25-35
        if len(young):
            counts = np.bincount((young // 10).astype(int))
            weight = 1 / np.sqrt(counts[(young // 10).astype(int)])
            self.photo_weight = weight / weight.sum()

    def draw(self, size):
        """A batch of size x size pictures."""
        s, rng = self.settings, self.rng
        photos = s.photos if len(self.photos) else 0
        rows_a, rows_b, years, ages = [], [], [], []
        for _ in range(s.batch - photos):
            crops, group = self.people[rng.integers(len(self.people))]
            a, b = rng.choice(group, 2, replace=False)
            if rng.random() < 0.06:
                b = a                                     # nothing asked, nothing changed
            rows_a.append((crops, a)), rows_b.append((crops, b))
            years.append(crops.age[b] - crops.age[a]), ages.append(crops.age[a])
        for k in rng.choice(len(self.photos), photos, p=self.photo_weight) if photos else []:
            crops, i = self.photos[k]
            goal = rng.uniform(max(8, crops.age[i] - 35), min(85, crops.age[i] + 50))
            rows_a.append((crops, i)), rows_b.append((crops, i))
            years.append(goal - crops.age[i]), ages.append(crops.age[i])
        load = lambda rows: [shrink(torch.cat(t), size) for t in zip(*(batch_of(c.images, [i], self.device) for c, i in rows))]
        (x, mask), (target, _) = load(rows_a), load(rows_b)
        pair = torch.arange(len(x), device=self.device) < s.batch - photos
        hidden = pair & (torch.from_numpy(rng.random(len(x))).to(self.device) < s.strict)
        x, target, mask = self._augment(x, keep_tone(x, target), mask, pair)
        number = lambda v: torch.tensor(v, dtype=torch.float32, device=self.device)
        return {"x": x, "target": target, "mask": mask, "years": number(years), "age": number(ages), "pair": pair,
                "hidden": hidden}

    def _augment(self, x, target, mask, pair):
        """Both pictures of a row alike: mirror, small pose, colour; then blur and noise of the photo alone."""
        rng, n = self.rng, len(x)
        draw = lambda lo, hi, k=1: torch.tensor(rng.uniform(lo, hi, (n, k, 1, 1)), dtype=x.dtype, device=x.device)
        angle, zoom = rng.normal(0, 3, n) * DEGREE, np.exp(rng.normal(0, 0.04, n))
        flip = np.where(rng.random(n) < 0.5, -1, 1)
        theta = np.stack([np.stack([np.cos(angle) * zoom * flip, -np.sin(angle) * zoom, rng.normal(0, 0.02, n)], 1),
                          np.stack([np.sin(angle) * zoom * flip, np.cos(angle) * zoom, rng.normal(0, 0.02, n)], 1)], 1)
        grid = F.affine_grid(torch.tensor(theta, dtype=x.dtype, device=x.device), x.shape, align_corners=False)
        stack = F.grid_sample(torch.cat([x, target, mask], 1), grid, padding_mode="border", align_corners=False)
        x, target, mask = stack[:, :3], stack[:, 3:6], stack[:, 6:]
        gain, tint, offset = draw(0.75, 1.2), draw(0.94, 1.06, 3), draw(-0.15, 0.15)
        x, target = ((v * gain * tint + offset).clamp(-1, 1) for v in (x, target))
        soft = torch.tensor(rng.random((n, 1, 1, 1)) < 0.25, device=x.device)
        blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
        grain = torch.randn_like(x) * draw(-0.05, 0.05).clamp_min(0)
        degraded = torch.where(soft, blurred, x) + grain
        # the asked change is added to the photo as it is: a noisy photo stays noisy
        target = degraded + mask * (target - x) * pair[:, None, None, None]
        lasting = dict(memory_format=torch.channels_last)
        return (degraded.clamp(-1, 1).contiguous(**lasting), target.clamp(-1, 1).contiguous(**lasting),
                mask.contiguous(**lasting))


def shrink(x, r):
    """(B, C, R, R) to r pixels by areas."""
    return F.avg_pool2d(x, x.shape[-1] // r) if x.shape[-1] > r else x


def keep_tone(x, target, strength=0.8):
    """`target` with the skin's mean colour of `x`: the teacher's young are paler and its old darker, people are not.

    Both (B, 3, s, s) in -1..1 in the reference position. Measured on the pairs: +10% at -30 years, -10% at +50.
    """
    line = (torch.arange(x.shape[-1], device=x.device) + 0.5) / x.shape[-1]
    ellipse = lambda a, b: torch.exp(-(((line - 0.5) / a) ** 4)[None] - (((line - 0.58) / b) ** 4)[:, None])
    skin = ellipse(0.17, 0.2)
    x01, target01 = (x + 1) / 2, (target + 1) / 2
    mean = lambda v: (v * skin).sum((2, 3), keepdim=True) / skin.sum() + 0.02
    gain = (mean(x01) / mean(target01)).clamp(0.7, 1.4) ** strength
    return target01 * (1 + ellipse(0.27, 0.31) * (gain - 1)) * 2 - 1


def widen(state, old):
    """Zero what the kernels beyond the ratio `old` give to those within, in a generator's state: a network that was
    trained at c = `old` then gives the same pictures at a larger c, and grows from there."""
    channels = kept(START, old)
    for size, width in WIDTHS.items():
        p, half = f"blocks.{size}.", kept(width, old)
        if p + "conv1.weight" not in state:
            break
        state[p + "conv1.weight"][:half, 3 + channels:] = 0
        state[p + "conv2.weight"][:half, half:] = 0
        state[p + "to_rgb.weight"][:, half:] = 0
        channels = half


def parameter_groups(generator):
    """Equalised learning rates (Karras et al., 2018) as Adam groups: each layer's rate over the root of its fan-in.

    Without it a coherent step of a wide layer moves its output by more than the output itself, and training explodes.
    """
    groups = {}
    for name, p in generator.named_parameters():
        share = 1 / math.sqrt(p[0].numel()) if p.ndim > 1 and name != "start" else 0.2
        share *= 0.6 if name.startswith("mapping.") else 1.0
        groups.setdefault(share, []).append(p)
    return [{"params": params, "share": share} for share, params in groups.items()]


class Trainer:
    """State of one run: networks, optimisers, EMA; `step` does one batch."""

    def __init__(self, data, run, wheel, weights, settings=Settings(), seed=0):
        self.device, self.run, self.settings = Device(), Path(run), settings
        to = dict(device=self.device.torch, memory_format=torch.channels_last)
        torch.manual_seed(seed)
        self.encoder = load_encoder(run).to(self.device.torch)
        vector = self.run / "age_vector.npz"
        if not vector.exists():
            raise AgeEditError(f"There is no age vector in {run}; run the age-vector stage first.")
        self.n = torch.from_numpy(np.load(vector)["n"]).to(self.device.torch)
        self.generator, self.discriminator = Generator(256).to(**to), Discriminator().to(**to)
        self.perceptual, self.judges = Perceptual(wheel).to(**to), Judges(weights).to(**to)
        self.opt_g = torch.optim.Adam(parameter_groups(self.generator), settings.rate, BETAS, eps=1e-8)
        self.opt_d = torch.optim.Adam(self.discriminator.parameters(), 5e-4, (0.0, 0.99), eps=1e-7)
        self.ema, self.steps, self.seconds, self.norm, self.skipped = Ema(self.generator), 0, 0.0, None, 0
        self.largest, self.width = 0, 0.0           # what was trained so far: resolution and channel ratio
        state = load_checkpoint(self.run / "generator.pt")
        if state:
            for name in ("generator", "discriminator", "opt_g", "opt_d"):
                getattr(self, name).load_state_dict(state[name])
            for group in self.opt_g.param_groups:
                group["betas"] = BETAS
            self.ema.state, self.ema.steps = state["ema"], state["steps"]
            self.steps, self.seconds = state["steps"], state["seconds"]
            self.largest, self.width = state["largest"], state["width"]
        self.rng = np.random.default_rng([seed, self.device.rank, self.steps])
        self.batches = Batches(data, settings, self.rng, self.device.torch)

    def save(self):
        if self.device.main:
            save_checkpoint(self.run / "generator.pt", largest=self.largest, width=self.width, steps=self.steps,
                            seconds=self.seconds, ema=self.ema.state,
                            **{k: getattr(self, k).state_dict() for k in ("generator", "discriminator", "opt_g", "opt_d")})

    def edit(self, network, x, f, shifted, mask, hidden, r, c):
        """The shown picture y = x + m (G(f') - G(f)) and both raw outputs; a hidden row shows G(f') itself.

        Both runs carry a gradient: what they share then cancels, and only their difference learns.
        """
        photo = shrink(x, r) * ~hidden[:, None, None, None]
        with self.device.autocast():
            new, base = network(torch.cat([shifted, f]), torch.cat([photo, photo]), r, c).chunk(2)
        y = shrink(x, r) + shrink(mask, r) * (new - base)
        return torch.where(hidden[:, None, None, None], new, y), new, base

    def step(self, r, width=1.0):
        """One batch through the full network of the stage, G_{r,width}, and one sub-model of it; returns the losses."""
        if 0 < self.width < width:
            widen(self.generator.state_dict(), self.width)
            widen(self.ema.state, self.width)
        self.width = max(self.width, width)
        s, b = self.settings, self.batches.draw(max(r, INPUT))
        x, mask, hidden, pair = b["x"], b["mask"], b["hidden"], b["pair"]
        with torch.no_grad(), self.device.autocast():
            f = self.encoder(shrink(x, INPUT)).float()
        shifted = f + (b["years"] * ALPHA_PER_YEAR)[:, None] * self.n
        goal = (b["age"] + b["years"] - 45) / 25
        # D: real pictures at their age against edits at theirs, with the approximate R1 of finite differences
        y, new, base = self.edit(self.generator, x, f, shifted, mask, hidden, r, width)
        real = shrink(torch.where(pair[:, None, None, None], b["target"], x), r)
        real_age = torch.where(pair, goal, (b["age"] - 45) / 25)
        with self.device.autocast():
            logits = self.discriminator(torch.cat([real, real + 0.03 * torch.randn_like(real), y.detach().clamp(-1, 1)]),
                                        torch.cat([real_age, real_age, goal]))
        d_real, d_near, d_fake = logits.chunk(3)
        loss_d = F.softplus(-d_real).mean() + F.softplus(d_fake).mean() + s.smooth * (d_real - d_near).square().mean()
        self.opt_d.zero_grad(set_to_none=True)
        loss_d.backward()
        self.device.average_gradients(self.discriminator)
        self.opt_d.step()
        self.discriminator.requires_grad_(False)
        loss, log = self._losses(b, y, new, base, goal, r, full=True)
        self.opt_g.zero_grad(set_to_none=True)
        loss.backward()
        # one sub-model: the smallest every other step (the sandwich rule), else any
        lower = [q for q in (SMALLEST, 128, 256) if q <= r]
        q, c = (SMALLEST, RATIOS[0]) if self.steps % 2 else \
            (int(self.rng.choice(lower)), float(self.rng.choice([v for v in RATIOS if v <= width])))
        if (q, c) != (r, width):
            y2, new2, base2 = self.edit(self.generator, x, f, shifted, mask, hidden, q, c)
            loss, _ = self._losses(b, y2, new2, base2, goal, q, full=False)
            same = F.mse_loss(new2, shrink(new, q).detach()) + F.mse_loss(base2, shrink(base, q).detach()) + \
                4 * F.mse_loss(y2, shrink(y, q).detach())
            (loss + s.consistency * same).backward()
            log["same"] = same.item()
        self.discriminator.requires_grad_(True)
        self.device.average_gradients(self.generator)
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0).item()
        self.norm = norm if self.norm is None else self.norm + 0.05 * (min(norm, 4 * self.norm) - self.norm)
        if norm > 10 * self.norm or not math.isfinite(norm):
            self.skipped += 1                 # one bad batch must not undo an hour
            log["skipped"] = self.skipped
        else:
            self.opt_g.step()
        self.ema.update(self.generator)
        self.steps += 1
        log["d"], self.largest = loss_d.item(), max(self.largest, r)
        return log

    def _losses(self, b, y, new, base, goal, r, full):
        s, log = self.settings, {}
        pair, mask = b["pair"], shrink(b["mask"], r)
        target, x = shrink(b["target"], r), shrink(b["x"], r)
        terms = {"pixel": s.pixel * sum((shrink(y, q) - shrink(target, q))[pair].abs().mean() for q in (r, r // 4, 8)),
                 "raw": s.raw * ((new - target)[pair].abs().mean() + ((base - x) * mask.clamp_min(0.1)).abs().mean())}
        if (~pair).any():       # a photo without a target keeps its tint: large patches may not change colour
            change = (shrink(y, 8) - shrink(x, 8))[~pair]
            terms["tint"] = s.tint * (change - change.mean(1, keepdim=True)).abs().mean()
        with self.device.autocast():
            terms["adv"] = s.adversarial * F.softplus(-self.discriminator(y.clamp(-1, 1), goal)).mean()
            if full or r == SMALLEST:
                terms["lpips"] = s.perceptual * self.perceptual(y[pair], target[pair]).mean()
            if full and r >= 128 and (~pair).any():
                shown = y[~pair].clamp(-1, 1)
                with torch.no_grad():
                    before_age, before_id = self.judges.age(x[~pair]), self.judges.embed(x[~pair])
                asked = before_age + b["years"][~pair]
                terms["age"] = s.age * F.smooth_l1_loss(self.judges.age(shown).float() / 20, asked.float() / 20, beta=0.3)
                # the same person, with some room: a face many years away may look less alike
                distance = (self.judges.embed(shown).float() - before_id.float()).norm(dim=1)
                terms["id"] = s.identity * F.relu(distance - 0.2 - 0.004 * b["years"][~pair].abs()).mean()
        log.update({k: v.item() for k, v in terms.items()})
        return sum(terms.values()), log

    @torch.no_grad()
    def sheet(self, path, r, width=1.0, years=(-20, 0, 20, 40)):
        """Held-out people by years: the full network, then the smallest sub-model, then the strict form."""
        network = Generator(256).to(self.device.torch, memory_format=torch.channels_last)
        network.load_state_dict(self.ema.state)
        columns, crops = [], self.batches.sets[0]
        rows = [*(g[0] for g in crops.people(True)[:5]), *crops.photos(True)[::131][:5]]
        if not rows:
            return
        x, mask = batch_of(crops.images, rows, self.device.torch)
        f = self.encoder(shrink(x, INPUT))
        for form, (q, c) in (("full", (r, width)), ("small", (SMALLEST, RATIOS[0])), ("strict", (r, width))):
            hidden = torch.full((len(x),), form == "strict", device=x.device)
            if form == "full":
                columns.append(shrink(x, r))
            for t in (years if form == "full" else (-20, 40) if form == "small" else (0, 40)):
                shifted = f + t * ALPHA_PER_YEAR * self.n
                y, _, _ = self.edit(network, x, f, shifted, mask, hidden, q, c)
                if q < r:
                    y = shrink(x, r) + F.interpolate(y - shrink(x, q), size=(r, r), mode="bicubic")
                columns.append(y)
        save_sheet(path, [[picture for picture in column] for column in columns])


def train_generator(data, run, wheel, weights, plan=((64, 0.5, 0.25), (128, 0.5, 0.6), (128, 1.0, 0.15)), steps=100000, minutes=None,
                    sheet_every=200, settings=Settings()):
    """Train or resume `generator.pt` in `run`; stops after `steps` or `minutes` of training in all (S210).

    Args:
        plan: (resolution, channel ratio, share of the run) in order. The low blocks and the first kernels come first:
        they serve every sub-model, and a step at half the width costs a quarter.
        wheel: the perceptual trunk's wheel. weights: folder with the shipped judges.
    """
    trainer = Trainer(data, run, wheel, weights, settings)
    bounds = np.cumsum([share for *_, share in plan]) / sum(share for *_, share in plan)
    log_mean, last, entered, (r, width, _) = {}, time.time(), {}, plan[-1]
    with stop_on_signal() as stopped, tqdm(total=steps, initial=trainer.steps, desc="generator",
                                           disable=not trainer.device.main) as bar:
        while trainer.steps < steps and not trainer.device.agree(stopped()):
            progress = trainer.steps / steps
            if minutes:
                progress = max(progress, trainer.seconds / (60 * minutes))
            if trainer.device.agree(progress >= 1):
                break
            r, width, _ = plan[min(int(np.searchsorted(bounds, progress, "right")), len(plan) - 1)]
            since = trainer.steps - entered.setdefault((r, width), trainer.steps)      # a stage's new block starts gently
            rate = settings.rate * min(1, (since + 1) / 40) * max(0.03, (1 - progress) ** 0.8)
            for group in trainer.opt_g.param_groups:
                group["lr"] = rate * group["share"]
            log = trainer.step(r, width)
            trainer.seconds, last = trainer.seconds + time.time() - last, time.time()
            for k, v in log.items():
                log_mean[k] = v if k not in log_mean or k == "skipped" else 0.97 * log_mean[k] + 0.03 * v
            bar.update()
            bar.set_postfix_str(f"{r}:{width:g} " + " ".join(f"{k} {v:.3f}" for k, v in log_mean.items()))
            if trainer.steps % sheet_every == 0 and trainer.device.main:
                trainer.save()
                trainer.sheet(Path(run) / f"sheet_{trainer.steps:06d}.png", r, width)
        trainer.save()
        if stopped():
            raise SystemExit("stopped; the same command goes on from here")
    if trainer.device.main:
        trainer.sheet(Path(run) / "sheet.png", r, width)
    return trainer.steps
