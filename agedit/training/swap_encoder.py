"""Stage `adopt`: a trained generator goes on with an E that was trained anew."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from agedit.errors import AgeEditError
from agedit.network.autoencoder import Encoder
from agedit.training.age_vector import features_of, load_age_vector, load_encoder
from agedit.training.common import GENERATOR_FILE, Device, load_checkpoint, save_checkpoint
from agedit.training.data import Crops

# Every so many of the pictures are enough to solve for.
EVERY = 3
# Ridge of the least squares, a picture.
RIDGE = 1e-3


def adopt(data: Sequence[str | Path], run: str | Path, old: str | Path) -> float:
    """Copy the generator of the run folder `old` into `run`, its first mapping layer rewritten for the E
    there.

    The features that it was trained with are a nearly linear function of the new ones. That function, by
    least squares over the training pictures and such that a step along the new n is the same step along the
    old one, goes into the layer.

    Returns:
        The share of the old features' variance on held-out pictures that the new ones explain.
    """
    device = Device().torch
    run = Path(run)
    old = Path(old)
    state = load_checkpoint(old / GENERATOR_FILE)
    if not state:
        raise AgeEditError(f"There is no generator in {old}.")
    if (run / GENERATOR_FILE).exists():
        raise AgeEditError(f"{run} has a generator already; choose a run folder without one.")
    encoder, _ = load_encoder(run)
    before, _ = load_encoder(old)
    n = load_age_vector(run)
    n_before = load_age_vector(old)
    sets = [Crops(folder) for folder in data]
    x = _features(encoder, sets, False, device)
    y = _features(before, sets, False, device)
    weight, bias = _solve(x, y, n, n_before)
    for key in ("generator", "ema"):  # unpacked, both are one object
        first = state[key]["mapping.0.weight"]
        state[key] = state[key] | {
            "mapping.0.bias": state[key]["mapping.0.bias"] + first @ bias,
            "mapping.0.weight": first @ weight,
        }
    state.pop("opt_g", None)  # its moments are those of the old layer
    save_checkpoint(run / GENERATOR_FILE, **state)
    x_test = _features(encoder, sets, True, device)
    y_test = _features(before, sets, True, device)
    explained = 1 - ((x_test @ weight.T + bias - y_test).square().mean() / y_test.var()).item()
    print(f"the new features explain {explained:.1%} of the old ones on held-out pictures")
    return explained


def _features(encoder: Encoder, sets: Sequence[Crops], held_out: bool, device: torch.device) -> torch.Tensor:
    """E's features (N, 512) of some of the pictures, held out or not."""
    parts = []
    for crops in sets:
        index = np.flatnonzero(crops.held_out == held_out)[::EVERY]
        parts.append(torch.from_numpy(features_of(encoder, crops, index, device)))
    return torch.cat(parts)


def _solve(
    x: torch.Tensor, y: torch.Tensor, n: torch.Tensor, n_before: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (512, 512) and bias (512,) with y = x W' + b nearly and W n = n_before exactly.

    Args:
        x, y: (N, 512), new and old features. n, n_before: (512,).
    """
    middle = x.mean(0)
    goal = y.mean(0)
    gram = (x - middle).T @ (x - middle) + RIDGE * len(x) * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, (x - middle).T @ (y - goal)).T
    step = torch.linalg.solve(gram, n)
    weight = weight + torch.outer(n_before - weight @ n, step / (n @ step))  # at the least cost elsewhere
    return weight, goal - weight @ middle
