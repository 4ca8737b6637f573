"""The generator's optimiser: Muon for the 3x3 convolutions, Adam with equalised rates for everything else."""

import math

import torch

from agedit.training.common import quicker_in_bf16

BETAS = (0.9, 0.99)  # Adam's
SMALLER = {
    "mapping.": 0.6,
    "to_rgb.weight": 0.2,
    "style_weight": 0.3,
}  # layers that start smaller than 1 / root of fan-in
SHARE = 0.1  # Muon's rate over Adam's: its updates then have the size of Adam's


def equalised(parameters):
    """Equalised learning rates (Karras et al., 2018) as Adam groups: each layer's rate over the root of its fan-in.

    Without it a coherent step of a wide layer moves its output by more than the output itself, and training explodes.

    Args:
        parameters: (name, parameter) pairs.
    """
    groups = {}
    for name, p in parameters:
        share = 1 / math.sqrt(p[0].numel()) if p.ndim > 1 and name != "start" else 0.2
        share *= next((v for k, v in SMALLER.items() if k in name), 1.0)
        groups.setdefault(share, []).append(p)
    return [{"params": params, "share": share} for share, params in groups.items()]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz (Jordan et al., 2024), on kernels seen as matrices (out, in * k * k).

    PyTorch's own takes matrices only. Rows of kernels that a sub-model did not use have no gradient and stay as they are.
    """

    def __init__(self, params, lr, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                gradient, state = p.grad.reshape(len(p), -1), self.state[p]
                mean = state.setdefault("mean", torch.zeros_like(gradient))
                mean.lerp_(gradient, 1 - group["momentum"])
                update = orthogonal(gradient.lerp(mean, group["momentum"]))
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(gradient.shape) ** 0.5)


def orthogonal(x):
    """The nearest (semi-)orthogonal matrix, roughly: five quintic Newton-Schulz steps, in bf16 where that is quicker."""
    bf16 = x.is_cuda or quicker_in_bf16()
    y = x.to(torch.bfloat16 if bf16 else torch.float32) / (x.norm() + 1e-7)
    tall = y.shape[0] > y.shape[1]
    y = y.T if tall else y
    for _ in range(5):
        a = y @ y.T
        y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
    return (y.T if tall else y).float()


class Optimizer:
    """Both as one; `rate` sets the rates of all groups."""

    def __init__(self, generator):
        kernels = [p for p in generator.parameters() if p.ndim == 4 and p.shape[-1] == 3]
        known = {id(p) for p in kernels}
        rest = [(n, p) for n, p in generator.named_parameters() if id(p) not in known]
        self.muon = Muon([{"params": kernels, "share": SHARE}], 0.0)
        self.adam = torch.optim.Adam(equalised(rest), 0.0, BETAS, eps=1e-8)

    def rate(self, rate):
        for group in self.muon.param_groups + self.adam.param_groups:
            group["lr"] = rate * group["share"]

    def zero_grad(self):
        self.muon.zero_grad(), self.adam.zero_grad()

    def step(self):
        self.muon.step(), self.adam.step()

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"]), self.adam.load_state_dict(state["adam"])
