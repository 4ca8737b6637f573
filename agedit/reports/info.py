"""What the weights hold, for people and programs."""

from typing import Any, NotRequired, TypedDict

from agedit.runtime import Engine
from agedit.submodel import RATIOS, WIDTHS, Submodel, cost

LAYERS = {
    "encoder": {"convolutions": 10, "max_pools": 1, "global_average_pools": 1, "fully_connected": 1},
    "decoder": {"convolutions": 3, "upsamplings": 3},
    "generator": {"convolutions": 24, "upsamplings": 8, "fully_connected": 8},
    "discriminator": {"convolutions": 4, "fully_connected": 2},
}
"""{network: {kind of layer: how many}} as the patent counts them (S21-S27)."""

HASH_DIGITS = 16
"""Of a file's hash, as text shows it."""


class SubmodelInfo(TypedDict):
    """A sub-model: multiply-adds of a run, parameters, and how its pictures differ from the full network's.

    lpips, mse: of pictures in -1..1. age_difference: of the judged age, in years.
    """

    r: int
    c: float
    macs: int
    parameters: int
    lpips: NotRequired[float]
    mse: NotRequired[float]
    age_difference: NotRequired[float]


class FullNetwork(TypedDict):
    """The largest network of the method, and whether the weights hold it."""

    r: int
    c: float
    macs: int
    parameters: int
    trained: bool


class PrecisionInfo(TypedDict):
    """See `precision.Precision`."""

    name: str
    reason: str


class WeightsInfo(TypedDict):
    """What `agedit info` prints.

    years: lowest and highest change on the slider. runtime: what sub-models run on here. files: {name:
    SHA-256}.
    """

    resolutions: list[int]
    ratios: list[float]
    submodels: list[SubmodelInfo]
    full_network: FullNetwork
    layers: dict[str, dict[str, int]]
    years: list[float]
    runtime: str
    precision: PrecisionInfo
    files: dict[str, str]
    provenance: dict[str, Any]


def describe(engine: Engine) -> WeightsInfo:
    """The weights, and what they run in on this device."""
    weights = engine.weights
    precision = engine.chosen_precision
    quality = {(row["r"], row["c"]): row for row in weights.manifest.get("quality", [])}
    return {
        "resolutions": weights.resolutions,
        "ratios": list(RATIOS),
        "submodels": [_describe_submodel(rc, quality.get(rc)) for rc in weights.candidates],
        "full_network": _describe_full_network(weights.resolutions),
        "layers": LAYERS,
        "years": list(weights.years_range),
        "runtime": engine.runtime,
        "precision": {"name": precision.name, "reason": precision.reason},
        "files": weights.manifest["files"],
        "provenance": weights.manifest["provenance"],
    }


def _describe_submodel(submodel: Submodel, quality: dict[str, Any] | None) -> SubmodelInfo:
    """quality: the sub-model's row in the manifest, if it was measured."""
    r, c = submodel
    macs, parameters = cost(r, c)
    info: SubmodelInfo = {"r": r, "c": c, "macs": macs, "parameters": parameters}
    if quality:
        info["lpips"] = quality["lpips"]
        info["mse"] = quality["mse"]
        info["age_difference"] = quality["age_difference"]
    return info


def _describe_full_network(trained: list[int]) -> FullNetwork:
    """trained: resolutions in the weights."""
    r = max(WIDTHS)
    macs, parameters = cost(r)
    return {"r": r, "c": 1.0, "macs": macs, "parameters": parameters, "trained": r in trained}


def table(data: WeightsInfo) -> str:
    """The same as text."""
    lines = ["    r     c   G MACs  M parameters  LPIPS to full  age difference"]
    lines += [_submodel_line(row) for row in data["submodels"]]
    full = data["full_network"]
    state = "" if full["trained"] else " (not trained yet)"
    lines.append(
        f"The full network, {full['r']} px: {full['macs'] / 1e9:.1f} G MACs, "
        f"{full['parameters'] / 1e6:.1f} M parameters{state}."
    )
    for name, counts in data["layers"].items():
        lines.append(f"{name}: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in counts.items()))
    low, high = data["years"]
    lines.append(f"Years on the slider: {low} to {high}")
    lines.append(f"Runs on {data['runtime']}. {data['precision']['reason']}")
    lines += [f"{digest[:HASH_DIGITS]}  {name}" for name, digest in data["files"].items()]
    return "\n".join(lines)


def _submodel_line(row: SubmodelInfo) -> str:
    gmacs = row["macs"] / 1e9
    millions = row["parameters"] / 1e6
    quality = ""
    if "lpips" in row and "age_difference" in row:
        quality = f"{row['lpips']:13.4f}  {row['age_difference']:14.2f}"
    return f"{row['r']:5d}  {row['c']:4g}  {gmacs:7.2f}  {millions:12.2f}  {quality}"
