"""What the weights hold, for people and programs."""

from agedit.submodel import RATIOS, WIDTHS, cost


def describe(engine):
    """A dict for JSON: resolutions, ratios, MACs and parameters by sub-model, layer counts, hashes, provenance, and what it runs in here."""
    weights = engine.weights
    precision = engine.chosen_precision
    quality = {(q["r"], q["c"]): q for q in weights.manifest.get("quality", [])}
    rows = [
        {"r": r, "c": c, **cost(r, c), **{k: v for k, v in quality.get((r, c), {}).items() if k not in "rc"}}
        for r, c in weights.candidates
    ]
    return {
        "resolutions": weights.resolutions,
        "ratios": list(RATIOS),
        "submodels": rows,
        "full_network": {
            "r": max(WIDTHS),
            "c": 1.0,
            **cost(max(WIDTHS)),
            "trained": max(WIDTHS) in weights.resolutions,
        },
        "layers": {
            "encoder": {"convolutions": 10, "max_pools": 1, "global_average_pools": 1, "fully_connected": 1},
            "decoder": {"convolutions": 3, "upsamplings": 3},
            "generator": {"convolutions": 24, "upsamplings": 8, "fully_connected": 8},
            "discriminator": {"convolutions": 4, "fully_connected": 2},
        },
        "years": list(weights.years_range),
        "runtime": engine.runtime,
        "precision": {"name": precision.name, "reason": precision.reason},
        "files": weights.manifest["files"],
        "provenance": weights.manifest["provenance"],
    }


def table(data):
    """The same as text."""
    lines = ["    r     c   G MACs  M parameters  LPIPS to full  age difference"]
    for s in data["submodels"]:
        extra = f"{s['lpips']:13.4f}  {s['age_difference']:14.2f}" if "lpips" in s else ""
        lines.append(
            f"{s['r']:5d}  {s['c']:4g}  {s['macs'] / 1e9:7.2f}  {s['parameters'] / 1e6:12.2f}  {extra}"
        )
    full = data["full_network"]
    lines.append(
        f"The full network, {full['r']} px: {full['macs'] / 1e9:.1f} G MACs, {full['parameters'] / 1e6:.1f} M parameters"
        f"{'' if full['trained'] else ' (not trained yet)'}."
    )
    for name, counts in data["layers"].items():
        lines.append(f"{name}: " + ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in counts.items()))
    lines.append(f"Years on the slider: {data['years'][0]} to {data['years'][1]}")
    lines.append(f"Runs on {data['runtime']}. {data['precision']['reason']}")
    return "\n".join(lines + [f"{h[:16]}  {name}" for name, h in data["files"].items()])
