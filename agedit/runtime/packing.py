"""Kernels of a narrow block as those of half the resolution, where each place holds the four pixels that lie
there.

A processor computes 16 channels at a time (AVX-512), so with 4 or 8 channels most of what is read, multiplied
and written is padding. Four pixels' channels side by side fill it, and a bilinear upsampling becomes part of
the 3x3 convolution behind it (sub-pixel convolution, Shi et al., 2016). Packed channels go pixel by pixel,
row by row, as DepthToSpace takes them apart in its mode DCR. NumPy only.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

JOINED_CHANNELS = 16
"""Channels up to which a block's upsampling and first convolution are one."""

PACKED_CHANNELS = 8
"""Channels up to which all of a block is packed."""

MIN_SIZE = 256
"""Pixels from which on: joining changes the three outermost rows and columns, which lie under the mask's rim.
"""

# Of a place's two pixels in a row, the three taps of a fine kernel read pixels -1, 0, 1 and 0, 1, 2:
# [pixel, tap, pixel that it reads]
TAPS = np.array(
    [[[k == pixel + tap for k in range(4)] for tap in range(3)] for pixel in range(2)], np.float32
)

# Pixels -1, 0, 1, 2 as the second or first of the place before, here or after: [pixel read, which of two,
# place]
HOLDS = np.array(
    [
        [[0, 0, 0], [1, 0, 0]],
        [[0, 1, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0]],
    ],
    np.float32,
)

# Pixels -1, 0, 1, 2 as a bilinear upsampling makes them of the coarse pixels before, here and after
LINEAR = np.array([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0.25, 0.75]], np.float32)

Kernel = npt.NDArray[np.float32]
"""(out, in, height, width)."""


class Ways(NamedTuple):
    """How a block is computed: its upsampling joined to its first convolution; packed to its end."""

    joined: bool
    packed: bool


def ways(size: int, width: int) -> Ways:
    """How a block of `size` pixels and `width` channels is computed."""
    large = size >= MIN_SIZE
    return Ways(large and width <= JOINED_CHANNELS, large and width <= PACKED_CHANNELS)


def from_fine(kernel: Kernel) -> Kernel:
    """(O, C, 3, 3) on a fine picture -> (4 O, C, 4, 4), with stride 2 and one pixel of padding: the same,
    packed.
    """
    out, channels = kernel.shape[:2]
    return np.einsum("atj,bsk,octs->abocjk", TAPS, TAPS, kernel).reshape(4 * out, channels, 4, 4)


def from_packed(kernel: Kernel) -> Kernel:
    """(O, C, 3, 3) on a fine picture -> (4 O, 4 C, 3, 3) from packed to packed, the same."""
    fine = from_fine(kernel)
    return np.einsum("ocjk,jpd,kqe->opqcde", fine, HOLDS, HOLDS).reshape(len(fine), -1, 3, 3)


def from_coarse(kernel: Kernel) -> Kernel:
    """(O, C, 3, 3) behind a bilinear upsampling -> (4 O, C, 3, 3) without it, packed; the same but at the
    border, where the upsampling repeats the outermost pixel and the convolution then sees zeros.
    """
    return np.einsum("ocjk,jd,ke->ocde", from_fine(kernel), LINEAR, LINEAR)


def to_rgb(kernel: Kernel) -> Kernel:
    """(3, C, 1, 1) -> (12, 4 C, 1, 1), the same from packed to packed."""
    return np.kron(np.eye(4, dtype=np.float32), kernel[:, :, 0, 0])[:, :, None, None]
