"""The generator's optimiser: Muon for the 3x3 convolutions, Adam with equalised rates for everything else."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from agedit.training.common import quicker_in_bf16

# Adam's.
BETAS = (0.9, 0.99)
EPSILON = 1e-8
# Layers that start smaller than 1 / root of fan-in, by a part of their name, and by how much.
SMALLER = {
    "mapping.": 0.6,
    "to_rgb.weight": 0.2,
    "style_weight": 0.3,
}
# Rate of biases and of the learned constant, over that of the run.
OTHERS = 0.2
# Muon's rate over Adam's: its updates then have the size of Adam's.
MUON_SHARE = 0.1
# Size of an orthogonal update, over the root of the kernel's larger edge.
MUON_SIZE = 0.2
# Coefficients of a quintic Newton-Schulz step (Jordan et al., 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def equalised(parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Equalised learning rates (Karras et al., 2018) as Adam groups.

    Each layer's rate over the root of its fan-in.

    Without it a coherent step of a wide layer moves its output by more than the output itself, and training
    explodes.

    Args:
        parameters: (name, parameter) pairs.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, p in parameters:
        is_weight = p.ndim > 1 and name != "start"
        share = 1 / math.sqrt(p[0].numel()) if is_weight else OTHERS
        share *= next((factor for part, factor in SMALLER.items() if part in name), 1.0)
        groups.setdefault(share, []).append(p)
    return [{"params": params, "share": share} for share, params in groups.items()]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz (Jordan et al., 2024), on kernels seen as matrices (out, in *
    k * k).

    PyTorch's own takes matrices only. Rows of kernels that a sub-model did not use have no gradient and stay
    as they are.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] (no closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group["lr"], group["momentum"])

    def _update(self, p: nn.Parameter, rate: float, momentum: float) -> None:
        assert p.grad is not None
        gradient = p.grad.reshape(len(p), -1)
        mean = self.state[p].setdefault("mean", torch.zeros_like(gradient))
        mean.lerp_(gradient, 1 - momentum)
        update = orthogonal(gradient.lerp(mean, momentum))
        p.add_(update.reshape(p.shape), alpha=-rate * MUON_SIZE * max(gradient.shape) ** 0.5)


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrix, roughly.

    Five quintic Newton-Schulz steps, in bf16 where it is quicker.
    """
    first, third, fifth = NEWTON_SCHULZ
    is_half = x.is_cuda or quicker_in_bf16()
    y = x.to(torch.bfloat16 if is_half else torch.float32) / (x.norm() + 1e-7)
    is_tall = y.shape[0] > y.shape[1]
    if is_tall:
        y = y.T
    for _ in range(5):
        a = y @ y.T
        y = first * y + (third * a + fifth * a @ a) @ y
    if is_tall:
        y = y.T
    return y.float()


class Optimizer:
    """Both as one."""

    def __init__(self, generator: nn.Module) -> None:
        kernels = [p for p in generator.parameters() if p.ndim == 4 and p.shape[-1] == 3]
        known = {id(p) for p in kernels}
        rest = [(name, p) for name, p in generator.named_parameters() if id(p) not in known]
        self.muon = Muon([{"params": kernels, "share": MUON_SHARE}], 0.0)
        self.adam = torch.optim.Adam(equalised(rest), 0.0, BETAS, eps=EPSILON)

    def set_rate(self, rate: float) -> None:
        """Set the rates of all groups, each by its share."""
        for group in self.muon.param_groups + self.adam.param_groups:
            group["lr"] = rate * group["share"]

    def zero_grad(self) -> None:
        self.muon.zero_grad()
        self.adam.zero_grad()

    def step(self) -> None:
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
