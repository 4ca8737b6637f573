"""int8 convolutions: ranges of the inputs, evened channels, and integer kernels. NumPy only.

Where a processor has instructions for it (VNNI) but no matrix units, int8 is three times as fast as fp32.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CLIPPED = 0.01
"""Share of the pixels that may lie beyond a channel's range, at either end and in any one run."""

SAMPLED_PIXELS = 4096
"""Pixels of a layer's input whose values are looked at, about."""

INT8_MAX = 127


def widest(
    run: Callable[[Any], Mapping[str, Array]], channels: Mapping[str, int], feeds: Iterable[Any]
) -> dict[str, Array]:
    """{layer: (2, C)}: the least and most that each channel of a layer's input comes to, but for CLIPPED of
    the pixels.

    Args:
        run: a feed to {layer: (1, C, s, s)}, or (1, 4 C, s / 2, s / 2) of a packed layer.
        channels: {layer: C} (see `submodel.layers`).
        feeds: inputs of the network; the ranges cover all of them.
    """
    found: dict[str, tuple[Array, Array]] = {}
    for feed in feeds:
        for layer, x in run(feed).items():
            low, high = _range_of(x, channels[layer])
            if layer in found:
                least, most = found[layer]
                low = np.minimum(least, low)
                high = np.maximum(most, high)
            found[layer] = (low, high)
    return {layer: np.array(both, np.float32) for layer, both in found.items()}


def _range_of(x: Array, channels: int) -> tuple[Array, Array]:
    """Least and most of each channel, (C,) each, without the CLIPPED share at either end."""
    pixels = x.shape[2] * x.shape[3]
    rows = x.reshape(-1, channels, pixels).transpose(1, 0, 2).reshape(channels, -1)
    step = rows.shape[1] // SAMPLED_PIXELS | 1  # an odd step reaches every column
    rows = rows[:, ::step]
    out = round(CLIPPED * rows.shape[1])
    last = rows.shape[1] - 1 - out
    ordered = np.partition(rows, (out, last), 1)
    return ordered[:, out], ordered[:, last]


def evened(seen: Array, kernel: Array) -> Array:
    """Factors (C,) to divide a layer's input channels and multiply its kernel by, so that neither spreads
    far.

    SmoothQuant (Xiao et al., 2023). Negative where a channel reaches further below zero than above.

    Args:
        seen: (2, C), see `widest`.
        kernel: (O, C, 3, 3).
    """
    reach = np.maximum(np.abs(seen).max(0), 1e-4)
    largest = np.maximum(np.abs(kernel).max((0, 2, 3)), 1e-4)
    factor = np.sqrt(reach / largest)
    sign = np.where(-seen[0] > seen[1], -1, 1)
    return sign * factor / np.exp(np.log(factor).mean())


def whole_numbers(
    kernel: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """(O, C, h, w) as integers in -127..127, and the step of each of its O kernels."""
    steps = np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-8) / INT8_MAX
    return np.rint(kernel / steps[:, None, None, None]), steps
