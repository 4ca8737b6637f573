"""int8 convolutions: what a layer's input comes to, how its channels are evened, and kernels in whole
numbers. NumPy only.

Where a processor has instructions for it (VNNI) but no matrix units, int8 is three times as quick as fp32.
"""

import numpy as np

CLIPPED = 0.01  # share of the places that may lie beyond a channel's range, at either end and in any one run
PLACES = 4096  # places of a picture that are looked at


def widest(run, channels, feeds):
    """{layer: float32 (2, C)}: the least and most that each channel of a layer's input comes to, but for
    CLIPPED, over all `feeds`.

    run: a feed to {layer: (1, C, s, s)}, or (1, 4 C, s / 2, s / 2) of a packed layer. channels: {layer: C}
    (see `submodel.layers`).
    """
    found = {}
    for feed in feeds:
        for layer, x in run(feed).items():
            c = channels[layer]
            x = x.reshape(-1, c, x.shape[2] * x.shape[3]).transpose(1, 0, 2).reshape(c, -1)
            x = x[:, :: x.shape[1] // PLACES | 1]  # an odd step reaches every column
            out = int(round(CLIPPED * x.shape[1]))
            x = np.partition(x, (out, x.shape[1] - 1 - out), 1)
            least, most = found.get(layer, (np.inf, -np.inf))
            found[layer] = np.minimum(least, x[:, out]), np.maximum(most, x[:, -1 - out])
    return {layer: np.float32(both) for layer, both in found.items()}


def evened(seen, kernel):
    """(C,) by which a layer's input channels are divided and its kernel (O, C, 3, 3) multiplied, so that
    neither spreads far (SmoothQuant,
    Xiao et al., 2023); negative where a channel is more below zero than above. seen: (2, C), see `widest`."""
    reach, most = np.maximum(np.abs(seen).max(0), 1e-4), np.maximum(np.abs(kernel).max((0, 2, 3)), 1e-4)
    by = np.sqrt(reach / most)
    return np.where(-seen[0] > seen[1], -1, 1) * by / np.exp(np.log(by).mean())


def whole_numbers(kernel):
    """(O, C, h, w) as -127..127, and the step of each of its O kernels."""
    steps = np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-8) / 127
    return np.rint(kernel / steps[:, None, None, None]), steps
