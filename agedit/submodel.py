"""(r, c): which sub-models exist, what each costs, and how one is sliced out of the full weights (S25-S28).

NumPy only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt

from agedit.errors import AgeEditError

Submodel: TypeAlias = tuple[int, float]
"""(r, c): resolution in pixels, and the share of each layer's channels that is kept."""

WIDTHS = {8: 256, 16: 256, 32: 256, 64: 128, 128: 64, 256: 64, 512: 32, 1024: 16}
"""Output channels of each block of the full network by the block's resolution in pixels (S25)."""

START = 256
"""Channels of the learned 4 x 4 constant that the first block reads."""

FEATURES = 512
"""Length of f, the encoder's features."""

STYLE = 512
"""Length of w, the style."""

RATIOS = (0.25, 0.5, 0.75, 1.0)
"""Channel ratios c on offer (S28)."""

SMALLEST = 64
"""Lowest resolution on offer, in pixels."""

MAPPING_LAYERS = 8
"""Fully connected layers of the mapping network f -> w."""

PHOTO_CHANNELS = 3
"""Channels of the photo that each block's first convolution reads too."""

LEAKY_SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""

DEMODULATION_EPSILON = 1e-4
"""Added to a kernel's energy, so that demodulation never divides by zero."""

KERNEL_VALUES = 3 * 3
"""Weights of a convolution for one pair of an input and an output channel."""

MACS_PER_VALUE = 500
"""Multiply-adds that take as long as moving one value: large narrow networks are bound by moving values.

Measured on two processors and two runtimes, in fp32 and bf16.
"""


class Block(NamedTuple):
    """A block of G_{r,c}: its resolution in pixels, and its channels, the photo's three not counted."""

    size: int
    inputs: int
    outputs: int


class SubmodelCost(NamedTuple):
    """One run of G_{r,c}: multiply-adds that are really done, and the network's parameters."""

    macs: int
    parameters: int


def kept_channels(channels: int, ratio: float) -> int:
    """How many of `channels` kernels a ratio keeps: the first c * N (S28)."""
    return math.ceil(channels * ratio)


def blocks(resolution: int, ratio: float = 1.0) -> list[Block]:
    """The blocks of G_{r,c}, lowest resolution first."""
    result = []
    inputs = kept_channels(START, ratio)
    for size, width in WIDTHS.items():
        if size > resolution:
            break
        outputs = kept_channels(width, ratio)
        result.append(Block(size, inputs, outputs))
        inputs = outputs
    return result


def layers(resolution: int, ratio: float = 1.0) -> dict[str, int]:
    """{name of a 3 x 3 convolution in the arrays of G_{r,c}: channels of its input without the photo's}."""
    result = {}
    for block in blocks(resolution, ratio):
        result[f"blocks.{block.size}.conv1."] = block.inputs
        result[f"blocks.{block.size}.conv2."] = block.outputs
    return result


def cost(resolution: int, ratio: float = 1.0) -> SubmodelCost:
    """What one run of G_{r,c} computes, and how many parameters it has."""
    mapping = MAPPING_LAYERS * FEATURES * STYLE
    macs = mapping
    parameters = mapping + MAPPING_LAYERS * STYLE + kept_channels(START, ratio) * 4 * 4
    for block in blocks(resolution, ratio):
        pixels = block.size**2
        for inputs, photo in ((block.inputs, PHOTO_CHANNELS), (block.outputs, 0)):
            weights = KERNEL_VALUES * (inputs + photo) * block.outputs
            macs += pixels * weights
            macs += STYLE * inputs + inputs * block.outputs  # modulation and demodulation
            parameters += weights + block.outputs + (STYLE + 1) * inputs
        macs += pixels * block.outputs * 3  # to RGB
        parameters += block.outputs * 3 + 3
    return SubmodelCost(macs, parameters)


def work(submodel: Submodel) -> int:
    """What a run of (r, c) costs in time, in multiply-adds: those really done, and MACS_PER_VALUE for each
    value that a layer moves.
    """
    moved = sum(block.size**2 * (block.inputs + 2 * block.outputs) for block in blocks(*submodel))
    return cost(*submodel).macs + MACS_PER_VALUE * moved


def _macs(submodel: Submodel) -> int:
    return cost(*submodel).macs


def candidates(resolutions: Iterable[int]) -> list[Submodel]:
    """Every (r, c) on offer, cheapest first."""
    return sorted(((r, c) for r in resolutions for c in RATIOS), key=_macs)


def label(submodel: Submodel) -> str:
    """(128, 0.5) as "128:0.5", the name by which people and the command line call it."""
    r, c = submodel
    return f"{r}:{c:g}"


def parse(text: str, resolutions: Sequence[int]) -> Submodel:
    """'128:0.5' -> (128, 0.5). Raises AgeEditError, which names what exists."""
    try:
        r, c = text.split(":")
        found = (int(r), float(c))
    except ValueError:
        found = None
    if found is None or found not in candidates(resolutions):
        raise AgeEditError(
            f"There is no sub-model {text}; use R:C with R in {', '.join(map(str, resolutions))} "
            f"and C in {', '.join(map(str, RATIOS))}, as in {resolutions[-1]}:1."
        )
    return found


def slice_weights(
    weights: Mapping[str, npt.NDArray[Any]], resolution: int, ratio: float
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of G_{r,c} out of the full generator's.

    Args:
        weights: {name: array}, names as in `network.generator.Generator.state_dict()`.

    Returns:
        {name: array} with every layer cut to its first c * N kernels and matching inputs (views, no copies).
    """
    result = {name: array for name, array in weights.items() if name.startswith("mapping.")}
    result["start"] = weights["start"][:, : kept_channels(START, ratio)]
    for block in blocks(resolution, ratio):
        name = f"blocks.{block.size}."
        # the photo's channels come first
        result |= _slice_convolution(
            weights, name + "conv1.", block.inputs, PHOTO_CHANNELS + block.inputs, block.outputs
        )
        result |= _slice_convolution(weights, name + "conv2.", block.outputs, block.outputs, block.outputs)
        result[name + "to_rgb.weight"] = weights[name + "to_rgb.weight"][:, : block.outputs]
        result[name + "to_rgb.bias"] = weights[name + "to_rgb.bias"]
    return result


def _slice_convolution(
    weights: Mapping[str, npt.NDArray[Any]], name: str, styled: int, inputs: int, outputs: int
) -> dict[str, npt.NDArray[Any]]:
    """One 3 x 3 convolution with its style. styled: how many of the `inputs` channels are modulated."""
    return {
        name + "weight": weights[name + "weight"][:outputs, :inputs],
        name + "bias": weights[name + "bias"][:outputs],
        name + "style_weight": weights[name + "style_weight"][:styled],
        name + "style_bias": weights[name + "style_bias"][:styled],
    }
