"""S25: D in training. It says which of two pictures of one person at one age is real."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from agedit.network.discriminator import Discriminator
from agedit.training.common import Device, add_up, place
from agedit.training.guard import GradientGuard
from agedit.training.loss_views import LossView

# Adam's settings for D.
RATE = 5e-4
BETAS = (0.0, 0.99)
EPSILON = 1e-7
# Weight of the approximate R1 and R2, which count every SMOOTH_EVERY steps (lazily: Karras et al., 2020).
SMOOTH = 0.5
SMOOTH_EVERY = 4
# Standard deviations of the noise of the finite differences: on pictures in -1..1, and on the trunk's
# features.
PICTURE_NOISE = 0.03
TRUNK_NOISE = 0.06


@dataclass
class TrunkInputs:
    """What D sees of the trunk's features (`discriminator.trunk_inputs`), of the pairs' targets and of their
    edits.
    """

    target: Sequence[torch.Tensor]
    edit: Sequence[torch.Tensor]


class Adversary:
    """D and its optimiser.

    Args of methods:
        view: the batch. y: (B, 3, r, r), the edits. trunk: of the same pictures.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.network = place(Discriminator(), device.torch)
        self.optimizer = torch.optim.Adam(self.network.parameters(), RATE, BETAS, eps=EPSILON)
        self.guard = GradientGuard()

    def train_step(self, view: LossView, y: torch.Tensor, trunk: TrunkInputs, step: int) -> torch.Tensor:
        """One step of D; returns its loss, 0.69 where it knows nothing.

        Pairs are compared with each other (relativistic: Jolicoeur-Martineau, 2019; Huang et al., 2024), with
        the approximate R1 and R2 of finite differences. Photos have no second age to compare with.
        """
        target = view.target[view.pair]
        edit = y.detach()[view.pair].clamp(-1, 1)
        pictures = torch.cat([target, edit])
        is_smooth_step = step % SMOOTH_EVERY == 0
        with self.device.autocast():
            features = [torch.cat([a, b]).detach() for a, b in zip(trunk.target, trunk.edit, strict=True)]
            if is_smooth_step:
                pictures = torch.cat([pictures, pictures + PICTURE_NOISE * torch.randn_like(pictures)])
                features = [torch.cat([v, v + TRUNK_NOISE * torch.randn_like(v)]) for v in features]
            logits = self._logits(view, pictures, features, len(target))
        real, fake, *near = logits.split(len(target))
        loss = view.mean_of_places(F.softplus(fake - real), view.pair)
        total = loss
        if is_smooth_step:
            near_real, near_fake = near
            penalty = (real - near_real).square().mean() + (fake - near_fake).square().mean()
            total = loss + SMOOTH_EVERY * SMOOTH * penalty
        self._update(total)
        return loss.detach()

    def _logits(
        self, view: LossView, pictures: torch.Tensor, features: Sequence[torch.Tensor], rows: int
    ) -> torch.Tensor:
        """D's logits of pictures that are several times the pairs' `rows`."""
        changes = torch.cat([view.change(part, view.pair) for part in pictures.split(rows)])
        goals = view.goal[view.pair].repeat(len(pictures) // rows)
        return self.network(pictures, goals, changes, features)[0]

    def _update(self, total: torch.Tensor) -> None:
        """Follow the gradient, unless it is not finite.

        D would be nan for good, and the generator after it.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.device.average_gradients(self.network)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        if self.guard.accepts(torch.nn.utils.get_total_norm(gradients).item()):
            self.optimizer.step()

    def generator_losses(
        self, view: LossView, y: torch.Tensor, trunk: TrunkInputs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the generator is told; call in autocast.

        Returns:
            D's loss turned round, and how far D's features of y are from those of the targets (pix2pixHD,
            Wang et al., 2018).
        """
        pair = view.pair
        edit = y[pair].clamp(-1, 1)
        target = view.target[pair]
        fake, features = self.network(edit, view.goal[pair], view.change(edit, pair), trunk.edit)
        with torch.no_grad():
            real, wanted = self.network(target, view.goal[pair], view.change(target, pair), trunk.target)
        fooled = view.mean_of_places(F.softplus(real - fake), pair)
        apart = [(a - b).float().abs().mean() for a, b in zip(features, wanted, strict=True)]
        return fooled, add_up(apart)
