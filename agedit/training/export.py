"""Stages `export`, `unpack` and `average`.

Between a run folder and the fp16 file and manifest that the app reads.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file

from agedit import manifest as manifests
from agedit.errors import AgeEditError
from agedit.manifest import NETWORKS, SCHEMA, THIRD_PARTY
from agedit.network.autoencoder import CONVOLUTIONS, INPUT, Autoencoder, Encoder
from agedit.network.generator import Generator
from agedit.submodel import SMALLEST, candidates
from agedit.training.age_vector import load_encoder
from agedit.training.common import (
    AGE_VECTOR_FILE,
    ALPHA_PER_YEAR,
    AUTOENCODER_FILE,
    GENERATOR_FILE,
    load_checkpoint,
    save_checkpoint,
)
from agedit.weights import Weights, sha256

# Resolutions that a manifest may offer, in pixels.
RESOLUTIONS = (SMALLEST, 128, 256, 512, 1024)
# Years of the calibration before `calibrate` has measured one.
YEARS = tuple(range(-40, 51, 10))
# What the names of the generator's arrays begin with.
GENERATOR = "generator."


def folded_encoder(encoder: Encoder) -> dict[str, npt.NDArray[np.float32]]:
    """{conv{i}.weight/bias, fc.weight/bias} with every batch norm folded into the convolution before it."""
    arrays = {}
    for i, (conv, norm) in enumerate(encoder.layers):
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        arrays[f"conv{i}.weight"] = (conv.weight * scale[:, None, None, None]).numpy()
        arrays[f"conv{i}.bias"] = (norm.bias - norm.running_mean * scale).numpy()
    return arrays | {"fc.weight": encoder.fc.weight.numpy(), "fc.bias": encoder.fc.bias.numpy()}


def _unfolded_autoencoder(arrays: Mapping[str, torch.Tensor]) -> Autoencoder:
    """The inverse of `folded_encoder`, with the sketch; Dec is new."""
    model = Autoencoder()
    for i, (conv, norm) in enumerate(model.encoder.layers):
        conv.weight.data = arrays[f"encoder.conv{i}.weight"]
        norm.bias.data = arrays[f"encoder.conv{i}.bias"]
        norm.weight.data.fill_((1 + norm.eps) ** 0.5)  # the norms are folded into the convolutions already
    model.encoder.fc.weight.data = arrays["encoder.fc.weight"]
    model.encoder.fc.bias.data = arrays["encoder.fc.bias"]
    model.sketch.weight.data = arrays["sketch.weight"]
    model.sketch.bias.data = arrays["sketch.bias"]
    return model


def unpack(weights: Weights, run: str | Path) -> None:
    """The inverse of `export`: put released weights into a run folder, so that training goes on from them.

    Args:
        run: folder for autoencoder.pt (without a trained decoder), age_vector and generator.pt.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    provenance = weights.manifest["provenance"]
    largest = weights.resolutions[-1]
    arrays = {name: torch.from_numpy(array).float() for name, array in weights.part("").items()}
    model = _unfolded_autoencoder(arrays)
    generator = Generator(largest)
    save_checkpoint(
        run / AUTOENCODER_FILE,
        model=model.state_dict(),
        step=0,
        mse=provenance["autoencoder_mse"],
        finished=True,
    )
    np.savez(run / AGE_VECTOR_FILE, n=weights.age_vector)
    (run / "age_vector.json").write_text(json.dumps(provenance["age_svm"], indent=1))
    released = {
        name.removeprefix(GENERATOR): array for name, array in arrays.items() if name.startswith(GENERATOR)
    }
    state = generator.state_dict() | released
    save_checkpoint(
        run / GENERATOR_FILE,
        generator=state,
        ema=state,
        steps=0,
        seconds=0.0,
        started_from=weights.hash,
        largest=largest,
        width=0.0,
    )


def block_of(name: str) -> int:
    """The resolution of the block that a weight of the generator belongs to, 0 for the mapping network and
    the start.
    """
    return int(name.split(".")[1]) if name.startswith("blocks.") else 0


def average(
    run: str | Path, other: str | Path, share: float, blocks: Mapping[int, float] | None = None
) -> None:
    """Put `share` of a run's averaged weights and the rest of another's into the first run's generator.pt.

    Two runs from the same start that went their own ways for an hour or two lie in one valley; between them
    pictures are often better than at either end (model soups, Wortsman et al., 2022).

    Args:
        blocks: {resolution: share} of blocks that want another one.
    """
    blocks = blocks or {}
    first = load_checkpoint(Path(run) / GENERATOR_FILE)
    second = load_checkpoint(Path(other) / GENERATOR_FILE)
    if not first or not second or first["ema"].keys() != second["ema"].keys():
        raise AgeEditError(
            f"{run} and {other} need a generator of the same blocks each; train both from one start."
        )
    unknown = set(blocks) - {block_of(name) for name in first["ema"]}
    if unknown:
        raise AgeEditError(f"{run} has no block of {', '.join(map(str, sorted(unknown)))} px.")
    mean = {}
    for name, weight in first["ema"].items():
        own = blocks.get(block_of(name), share)
        mean[name] = weight.lerp(second["ema"][name], 1 - own)
    lasting = {key: first[key] for key in ("steps", "seconds", "started_from", "largest", "width")}
    save_checkpoint(Path(run) / GENERATOR_FILE, generator=mean, ema=mean, **lasting)


def _shipped_arrays(run: Path, state: Mapping[str, Any], largest: int) -> dict[str, npt.NDArray[Any]]:
    """What the app reads, in fp16: E, the sketch, the averaged generator up to a resolution; n in fp32."""
    encoder, sketch = load_encoder(run)
    arrays = {f"encoder.{name}": array for name, array in folded_encoder(encoder).items()}
    arrays |= {f"sketch.{name}": weight.numpy() for name, weight in sketch.state_dict().items()}
    for name, weight in state["ema"].items():
        if block_of(name) <= largest:
            arrays[GENERATOR + name] = weight.numpy()
    half: dict[str, npt.NDArray[Any]] = {
        name: np.ascontiguousarray(array, np.float16) for name, array in arrays.items()
    }
    half["age_vector"] = np.load(run / AGE_VECTOR_FILE)["n"].astype(np.float32)
    return half


def commit_of(folder: Path) -> str:
    """The commit of the repository that a folder lies in, shortened; "" where there is none, or no git."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _uncalibrated(submodels: list[tuple[int, float]]) -> dict[str, Any]:
    """A calibration by training's own scale, for everybody alike."""
    alphas = [round(years * ALPHA_PER_YEAR, 4) for years in YEARS]
    return {
        "years": list(YEARS),
        "ages": [0],
        "blurs": [0],
        "youngest": 0,
        "oldest": 100,
        "children": {"ages": [0], "years": [100]},
        "submodels": [{"r": r, "c": c, "alpha": [[alphas]]} for r, c in submodels],
    }


def _provenance(run: Path, out: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Where the weights come from."""
    autoencoder = load_checkpoint(run / AUTOENCODER_FILE)
    assert autoencoder is not None
    return {
        "commit": commit_of(out),
        "autoencoder_mse": round(autoencoder["mse"], 4),
        "age_svm": json.loads((run / "age_vector.json").read_text()),
        "started_from": state["started_from"],
        "generator_steps": state["steps"],
        "generator_minutes": round(state["seconds"] / 60, 1),
    }


def export(run: str | Path, out: str | Path, largest: int) -> None:
    """Write `agedit.safetensors` and `manifest.json` into `out`, which holds the third-party networks.

    Args:
        largest: the highest resolution that was trained; the manifest offers every block from 64 px to it.
    """
    run = Path(run)
    out = Path(out)
    state = load_checkpoint(run / GENERATOR_FILE)
    if not state:
        raise AgeEditError(f"There is no generator in {run}; run the generator stage first.")
    if largest > state["largest"]:
        raise AgeEditError(
            f"The generator in {run} was trained up to {state['largest']} px; export that, or train on."
        )
    missing = [name for name in THIRD_PARTY if not (out / name).exists()]
    if missing:
        raise AgeEditError(f"{out} lacks {', '.join(missing)}; copy them from the released weights folder.")
    arrays = _shipped_arrays(run, state, largest)
    save_file(arrays, out / NETWORKS)
    resolutions = [r for r in RESOLUTIONS if r <= largest]
    submodels = candidates(resolutions)
    manifest = {
        "schema": SCHEMA,
        "resolutions": resolutions,
        "files": {name: sha256(out / name) for name in (NETWORKS, *THIRD_PARTY)},
        "encoder": {"input": INPUT, "convolutions": [list(layer) for layer in CONVOLUTIONS]},
        "calibration": _uncalibrated(submodels),
        "quality_order": [list(submodel) for submodel in reversed(submodels)],
        "provenance": _provenance(run, out, state),
    }
    write_manifest(out, manifest)
    megabytes = sum(array.nbytes for array in arrays.values()) / 1e6
    print(f"exported {megabytes:.1f} MB to {out / NETWORKS}")


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + " ".join(found[1].split()) + "]"


def write_manifest(out: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, and its hash beside it.

    The innermost lists are on a line each: a table is read by its rows. Raises AgeEditError for a figure that
    is not a number.
    """
    try:
        lines = json.dumps(manifest, indent=1, allow_nan=False)
    except ValueError:
        raise AgeEditError("A figure of the training is not a number; train again at a lower rate.") from None
    text = re.sub(r"\[\s*([^][{}]*?)\s*\]", _on_one_line, lines)
    manifests.write(Path(out), text + "\n")
