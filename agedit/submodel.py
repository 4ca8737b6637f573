"""(r, c): which sub-models exist, what each costs, and how one is sliced out of the full weights. NumPy only."""

import math

from agedit.errors import AgeEditError

# Output channels of each block of the full network (S25): 8 blocks, 8..1024 px.
WIDTHS = {8: 256, 16: 256, 32: 256, 64: 128, 128: 64, 256: 64, 512: 32, 1024: 16}
START = 256  # channels of the learned 4x4 constant
FEATURES = STYLE = 512  # length of f and of w
RATIOS = (0.25, 0.5, 0.75, 1.0)  # c (S28)
SMALLEST = 64  # lowest resolution offered


def kept(channels, ratio):
    """How many of `channels` kernels a ratio keeps: the first c*N (S28)."""
    return math.ceil(channels * ratio)


def blocks(resolution, ratio=1.0):
    """[(block resolution, input channels, output channels)] of G_{r,c}, the photo's three channels not counted."""
    result, channels = [], kept(START, ratio)
    for size, width in WIDTHS.items():
        if size > resolution:
            break
        result.append((size, channels, kept(width, ratio)))
        channels = kept(width, ratio)
    return result


def layers(resolution, ratio=1.0):
    """{name of a 3x3 convolution of G_{r,c}, as in its arrays: channels of its input, the photo's not counted}."""
    return {
        f"blocks.{size}.conv{k}.": n
        for size, *both in blocks(resolution, ratio)
        for k, n in zip((1, 2), both)
    }


def cost(resolution, ratio=1.0):
    """Multiply-adds really done and parameters of one run of G_{r,c}: {"macs", "parameters"}."""
    macs = parameters = 8 * FEATURES * STYLE
    parameters += 8 * STYLE + kept(START, ratio) * 16
    for size, cin, cout in blocks(resolution, ratio):
        for n, photo in ((cin, 3), (cout, 0)):
            weights = 9 * (n + photo) * cout
            macs += size * size * weights + STYLE * n + n * cout
            parameters += weights + cout + (STYLE + 1) * n
        macs += size * size * cout * 3
        parameters += 3 * cout + 3
    return {"macs": macs, "parameters": parameters}


def work(submodel):
    """What a run of (r, c) costs in time, in multiply-adds: those really done, and 500 for each value that a layer moves.

    Large narrow networks are bound by moving values (measured on two processors and two runtimes, fp32 and bf16).
    """
    r, c = submodel
    moved = sum(size * size * (cin + 2 * cout) for size, cin, cout in blocks(r, c))
    return cost(r, c)["macs"] + 500 * moved


def candidates(resolutions):
    """Every (r, c) on offer, cheapest first."""
    return sorted(((r, c) for r in resolutions for c in RATIOS), key=lambda rc: cost(*rc)["macs"])


def parse(text, resolutions):
    """'128:0.5' -> (128, 0.5); raises AgeEditError naming what exists."""
    try:
        r, c = text.split(":")
        pair = int(r), float(c)
    except ValueError:
        pair = None
    if pair not in candidates(resolutions):
        raise AgeEditError(
            f"There is no sub-model {text}; use R:C with R in {', '.join(map(str, resolutions))} "
            f"and C in {', '.join(map(str, RATIOS))}, as in {resolutions[-1]}:1."
        )
    return pair


def slice_weights(weights, resolution, ratio):
    """The arrays of G_{r,c} out of the full generator's.

    Args:
        weights: {name: array}, names as in `network.generator.Generator.state_dict()`.

    Returns:
        {name: array} with every layer cut to its first c*N kernels and matching inputs (views, no copies).
    """
    result = {k: v for k, v in weights.items() if k.startswith("mapping.")}
    result["start"] = weights["start"][:, : kept(START, ratio)]
    for size, cin, cout in blocks(resolution, ratio):
        for layer, n, extra in (("conv1", cin, 3), ("conv2", cout, 0)):
            p = f"blocks.{size}.{layer}."
            result[p + "weight"] = weights[p + "weight"][
                :cout, : n + extra
            ]  # the photo's channels come first
            result[p + "bias"] = weights[p + "bias"][:cout]
            result[p + "style_weight"] = weights[p + "style_weight"][:n]
            result[p + "style_bias"] = weights[p + "style_bias"][:n]
        result[f"blocks.{size}.to_rgb.weight"] = weights[f"blocks.{size}.to_rgb.weight"][:, :cout]
        result[f"blocks.{size}.to_rgb.bias"] = weights[f"blocks.{size}.to_rgb.bias"]
    return result
