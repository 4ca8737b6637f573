"""Stage `export`: E, the generator's EMA weights and n into one fp16 file, and the manifest with hashes."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from agedit import manifest as manifests
from agedit.errors import AgeEditError
from agedit.manifest import NETWORKS, SCHEMA, THIRD_PARTY
from agedit.network.autoencoder import CONVOLUTIONS, INPUT, Autoencoder
from agedit.network.generator import Generator
from agedit.submodel import SMALLEST, candidates
from agedit.training.age_vector import load_encoder
from agedit.training.batches import ALPHA_PER_YEAR
from agedit.training.common import load_checkpoint, save_checkpoint
from agedit.weights import sha256


def folded_encoder(encoder):
    """{conv{i}.weight/bias, fc.weight/bias} with every batch norm folded into the convolution before it."""
    arrays = {}
    for i, (conv, norm) in enumerate(encoder.layers):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        arrays[f"conv{i}.weight"] = (conv.weight * scale[:, None, None, None]).numpy()
        arrays[f"conv{i}.bias"] = (norm.bias - norm.running_mean * scale).numpy()
    return arrays | {"fc.weight": encoder.fc.weight.numpy(), "fc.bias": encoder.fc.bias.numpy()}


def unpack(weights, run):
    """The inverse of `export`: put released weights into a run folder, so that training goes on from them.

    Args:
        weights: a `weights.Weights`. run: folder for autoencoder.pt (without a trained decoder), age_vector
        and generator.pt.
    """
    run, manifest = Path(run), weights.manifest
    run.mkdir(parents=True, exist_ok=True)
    arrays = {k: torch.from_numpy(v).float() for k, v in weights.part("").items()}
    model, generator = Autoencoder(), Generator(weights.resolutions[-1])
    for i, (conv, norm) in enumerate(model.encoder.layers):
        conv.weight.data, norm.bias.data = arrays[f"encoder.conv{i}.weight"], arrays[f"encoder.conv{i}.bias"]
        norm.weight.data.fill_((1 + norm.eps) ** 0.5)  # the norms are folded into the convolutions already
    model.encoder.fc.weight.data, model.encoder.fc.bias.data = (
        arrays["encoder.fc.weight"],
        arrays["encoder.fc.bias"],
    )
    model.sketch.weight.data, model.sketch.bias.data = arrays["sketch.weight"], arrays["sketch.bias"]
    save_checkpoint(
        run / "autoencoder.pt",
        model=model.state_dict(),
        step=0,
        mse=manifest["provenance"]["autoencoder_mse"],
        finished=True,
    )
    np.savez(run / "age_vector.npz", n=weights.age_vector)
    (run / "age_vector.json").write_text(json.dumps(manifest["provenance"]["age_svm"], indent=1))
    state = generator.state_dict() | {k[10:]: v for k, v in arrays.items() if k.startswith("generator.")}
    save_checkpoint(
        run / "generator.pt",
        generator=state,
        ema=state,
        steps=0,
        seconds=0.0,
        started_from=weights.hash,
        largest=weights.resolutions[-1],
        width=0.0,
    )


def block_of(name):
    """The resolution of the block that a weight of the generator belongs to, 0 for the mapping network and
    the start.
    """
    return int(name.split(".")[1]) if name.startswith("blocks.") else 0


def average(run, other, share, blocks=None):
    """Put `share` of a run's EMA weights and the rest of another's, trained from the same start, into the
    first run's generator.pt.

    blocks: {resolution: share} of blocks that want another one.

    Two runs that went their own ways for an hour or two lie in one valley; between them pictures are often
    better than at either end
    (model soups, Wortsman et al., 2022).
    """
    states = [load_checkpoint(Path(folder) / "generator.pt") for folder in (run, other)]
    if not all(states) or states[0]["ema"].keys() != states[1]["ema"].keys():
        raise AgeEditError(
            f"{run} and {other} need a generator of the same blocks each; train both from one start."
        )
    unknown = set(blocks or {}) - {block_of(k) for k in states[0]["ema"]}
    if unknown:
        raise AgeEditError(f"{run} has no block of {', '.join(map(str, sorted(unknown)))} px.")
    mean = {
        k: v.lerp(states[1]["ema"][k], 1 - (blocks or {}).get(block_of(k), share))
        for k, v in states[0]["ema"].items()
    }
    kept = {k: states[0][k] for k in ("steps", "seconds", "started_from", "largest", "width")}
    save_checkpoint(Path(run) / "generator.pt", generator=mean, ema=mean, **kept)


def export(run, out, largest):
    """Write `agedit.safetensors` and `manifest.json` into `out`, which holds the third-party networks.

    Args:
        largest: the highest resolution that was trained; the manifest offers every block from 64 px to it.
    """
    run, out = Path(run), Path(out)
    state = load_checkpoint(run / "generator.pt")
    if not state:
        raise AgeEditError(f"There is no generator in {run}; run the generator stage first.")
    if largest > state["largest"]:
        raise AgeEditError(
            f"The generator in {run} was trained up to {state['largest']} px; export that, or train on."
        )
    missing = [name for name in THIRD_PARTY if not (out / name).exists()]
    if missing:
        raise AgeEditError(f"{out} lacks {', '.join(missing)}; copy them from the released weights folder.")
    encoder, sketch = load_encoder(run)
    arrays = {f"encoder.{k}": v for k, v in folded_encoder(encoder).items()}
    arrays |= {f"sketch.{k}": v.numpy() for k, v in sketch.state_dict().items()}
    for k, v in state["ema"].items():
        if block_of(k) <= largest:
            arrays[f"generator.{k}"] = v.numpy()
    arrays["age_vector"] = np.load(run / "age_vector.npz")["n"]
    half = {k: np.ascontiguousarray(v, np.float16) for k, v in arrays.items()}
    half["age_vector"] = arrays["age_vector"].astype(np.float32)
    save_file(half, out / NETWORKS)
    resolutions = [r for r in (SMALLEST, 128, 256, 512, 1024) if r <= largest]
    years = list(range(-40, 51, 10))
    manifest = {
        "schema": SCHEMA,
        "resolutions": resolutions,
        "files": {name: sha256(out / name) for name in (NETWORKS, *THIRD_PARTY)},
        "encoder": {"input": INPUT, "convolutions": [list(c) for c in CONVOLUTIONS]},
        "calibration": {
            "years": years,
            "ages": [0],
            "blurs": [0],
            "youngest": 0,
            "oldest": 100,
            "children": {"ages": [0], "years": [100]},
            "submodels": [
                {"r": r, "c": c, "alpha": [[[round(y * ALPHA_PER_YEAR, 4) for y in years]]]}
                for r, c in candidates(resolutions)
            ],
        },
        "quality_order": [list(rc) for rc in reversed(candidates(resolutions))],
        "provenance": {
            "commit": commit_of(out),
            "autoencoder_mse": round(load_checkpoint(run / "autoencoder.pt")["mse"], 4),
            "age_svm": json.loads((run / "age_vector.json").read_text()),
            "started_from": state["started_from"],
            "generator_steps": state["steps"],
            "generator_minutes": round(state["seconds"] / 60, 1),
        },
    }
    write_manifest(out, manifest)
    print(f"exported {sum(v.nbytes for v in half.values()) / 1e6:.1f} MB to {out / NETWORKS}")


def commit_of(folder):
    """The commit of the repository that a folder lies in, shortened; "" where there is none, or no git."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=folder, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def write_manifest(out, manifest):
    """Write the manifest, and its hash beside it. The innermost lists are on a line each: a table is read by
    its rows.
    """
    try:
        lines = json.dumps(manifest, indent=1, allow_nan=False)
    except ValueError:
        raise AgeEditError("A figure of the training is not a number; train again at a lower rate.") from None
    text = re.sub(r"\[\s*([^][{}]*?)\s*\]", lambda row: "[" + " ".join(row[1].split()) + "]", lines)
    manifests.write(Path(out), text + "\n")
