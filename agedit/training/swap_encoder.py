"""Stage `adopt`: a trained generator goes on with an E that was trained anew."""

from pathlib import Path

import numpy as np
import torch

from agedit.errors import AgeEditError
from agedit.training.age_vector import features_of, load_encoder
from agedit.training.common import Device, load_checkpoint, save_checkpoint
from agedit.training.data import Crops


def adopt(data, run, old):
    """Copy the generator of the run folder `old` into `run`, its first mapping layer rewritten for the E there.

    The features that it was trained with are a nearly linear function of the new ones: that function, by least squares over the
    training pictures and such that a step along the new n is the same step along the old one, goes into the layer.

    Returns:
        The share of the old features' variance on held-out pictures that the new ones explain.
    """
    device, run, old = Device(), Path(run), Path(old)
    state = load_checkpoint(old / "generator.pt")
    if not state or (run / "generator.pt").exists():
        raise AgeEditError(
            f"{run} has a generator already; choose a run folder without one."
            if state
            else f"There is no generator in {old}."
        )
    (encoder, _), (before, _) = load_encoder(run), load_encoder(old)
    for folder in (run, old):
        if not (folder / "age_vector.npz").exists():
            raise AgeEditError(f"There is no age vector in {folder}; run the age-vector stage first.")
    n, n_before = (torch.from_numpy(np.load(folder / "age_vector.npz")["n"]).float() for folder in (run, old))
    sets = {False: [[], []], True: [[], []]}
    for crops in map(Crops, data):
        for held in (False, True):
            index = np.flatnonzero(crops.held_out == held)[::3]
            for column, e in zip(sets[held], (encoder, before)):
                column.append(torch.from_numpy(features_of(e, crops, index, device.torch)))
    (x, y), (tx, ty) = ([torch.cat(v) for v in sets[held]] for held in (False, True))
    middle, goal = x.mean(0), y.mean(0)
    gram = (x - middle).T @ (x - middle) + 1e-3 * len(x) * torch.eye(x.shape[1])
    w = torch.linalg.solve(gram, (x - middle).T @ (y - goal)).T
    step = torch.linalg.solve(gram, n)
    w += torch.outer(n_before - w @ n, step / (n @ step))  # w n = n_before, at the least cost elsewhere
    bias = goal - w @ middle
    for key in ("generator", "ema"):  # unpacked, both are one object
        first = state[key]["mapping.0.weight"]
        state[key] = state[key] | {
            "mapping.0.bias": state[key]["mapping.0.bias"] + first @ bias,
            "mapping.0.weight": first @ w,
        }
    state.pop("opt_g", None)  # its moments are those of the old layer
    save_checkpoint(run / "generator.pt", **state)
    explained = 1 - ((tx @ w.T + bias - ty).square().mean() / ty.var()).item()
    print(f"the new features explain {explained:.1%} of the old ones on held-out pictures")
    return explained
