"""Stage `targets`: how near a network's edits come to real photos of people that no stage was trained on."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from agedit.errors import AgeEditError
from agedit.network.autoencoder import INPUT, Encoder
from agedit.network.generator import Generator
from agedit.training.age_vector import load_encoder
from agedit.training.common import AGE_VECTOR_FILE, ALPHA_PER_YEAR, GENERATOR_FILE, Device, load_checkpoint
from agedit.training.data import Crops
from agedit.training.images import grey_of, shrink
from agedit.training.losses import Perceptual, style_distance
from agedit.training.shown import shown_change

OCTAVES = 3


def octaves(change: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """How strong a change (B, 3, s, s) is in each of its finest octaves, (OCTAVES, B).

    where: (B, 1, s, s) in 0..1.
    """
    grey = grey_of(change) * where
    result = []
    for _ in range(OCTAVES):
        low = F.avg_pool2d(grey, 2)
        band = grey - F.interpolate(low, scale_factor=2, mode="bilinear")
        result.append(band.square().mean((1, 2, 3)).sqrt())
        grey = low
    return torch.stack(result)


def against_targets(
    data: Sequence[str], run: str, wheel: str, r: int, other: str | None = None, share: float = 1.0
) -> dict[str, dict[str, float]]:
    """What a run's averaged weights draw from every held-out photo's first input, against the photo itself.

    Args:
        data: folders that `back-translate` wrote. run: folder with E, n and generator.pt.
        wheel: the perceptual trunk's. r: pixels.
        other, share: a run folder from the same start; what is measured is other + share * (run - other),
        so 0 is the other, and more than 1 tells whether the run should have gone further the same way.

    Returns:
        {"older": figures, "younger": figures}, without a direction in which there is no photo. The figures:
        "photos": how many. "lpips", "style", "pixel": means of the edit's distances to the photo.
        "unedited_lpips", "unedited_style": the same of the input itself, unedited.
        "octave_1" to "octave_3", finest first: the change's strength over the target's, the median, outside
        the hair.

    Raises:
        AgeEditError: no photo is held out, or a folder has no generator.
    """
    device = Device()
    encoder = load_encoder(run)[0].to(device.torch)
    n = torch.from_numpy(np.load(Path(run) / AGE_VECTOR_FILE)["n"]).to(device.torch)
    network = Generator(r).to(device.torch)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: torch's stubs lack it
    network.load_state_dict(mixed(run, other, share, network.state_dict().keys()))
    trunk = Perceptual(wheel).to(device.torch)
    trunk.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    result = {}
    pairs = [(crops, g[1], g[0]) for crops in map(Crops, data) for g in crops.targets(True)]
    for name in ("older", "younger"):
        chosen = [row for row in pairs if (row[0].age[row[2]] > row[0].age[row[1]]) == (name == "older")]
        if chosen:
            rows = [measured(network, encoder, n, trunk, *row, r, device) for row in chosen]
            mean = {k: float(np.mean([row[k] for row in rows])) for k in rows[0] if k != "octaves"}
            medians = np.median([row["octaves"] for row in rows], 0)
            strength = {f"octave_{k + 1}": float(v) for k, v in enumerate(medians)}
            result[name] = {"photos": len(rows)} | {k: round(v, 4) for k, v in (mean | strength).items()}
    if not result:
        raise AgeEditError("None of the photos is held out; make pairs of more people with back-translate.")
    return result


def mixed(run: str, other: str | None, share: float, wanted: Iterable[str]) -> dict[str, torch.Tensor]:
    """The averaged weights named in `wanted` of other + share * (run - other)."""
    states = []
    for folder in (run, other):
        if folder:
            state = load_checkpoint(Path(folder) / GENERATOR_FILE)
            if not state:
                raise AgeEditError(f"{folder} has no generator; train one there, or unpack one.")
            states.append(state)
    return {k: states[-1]["ema"][k].lerp(states[0]["ema"][k], share) for k in wanted}


@torch.no_grad()
def measured(
    network: Generator,
    encoder: Encoder,
    n: torch.Tensor,
    trunk: Perceptual,
    crops: Crops,
    made: int,
    photo: int,
    r: int,
    device: Device,
) -> dict[str, Any]:
    """The figures of one pair of rows of `crops`; see `against_targets`."""
    x, mask, hair = (shrink(v, max(r, INPUT)) for v in crops.load([made], device.torch))
    f = encoder(shrink(x, INPUT))
    x, mask, hair, target = (shrink(v, r) for v in (x, mask, hair, crops.load([photo], device.torch)[0]))
    alpha = float(crops.age[photo] - crops.age[made]) * ALPHA_PER_YEAR
    new, base = network(torch.cat([f + alpha * n, f]), torch.cat([x, x]), r).chunk(2)
    y = x + mask * shown_change(new - base, x, mask, hair)
    target = x + mask * shown_change(target - x, x, mask, hair)
    before, drawn, meant = (trunk.features(v) for v in (x, y, target))
    return {
        "lpips": trunk.distance(drawn, meant).item(),
        "style": style_distance(drawn, meant).item(),
        "pixel": (y - target).abs().mean().item(),
        "unedited_lpips": trunk.distance(before, meant).item(),
        "unedited_style": style_distance(before, meant).item(),
        "octaves": (octaves(y - x, 1 - hair) / octaves(target - x, 1 - hair).clamp_min(1e-6))[:, 0].tolist(),
    }
