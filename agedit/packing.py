"""Kernels of a narrow block as those of half the resolution, where each place holds the four pixels that lie there.

A processor computes 16 channels at a time (AVX-512), so with 4 or 8 channels most of what is read, multiplied and written is padding.
Four pixels' channels side by side fill it, and a bilinear upsampling becomes part of the 3x3 convolution behind it (sub-pixel
convolution, Shi et al., 2016). Packed channels go pixel by pixel, row by row, as DepthToSpace takes them apart in its mode DCR.
NumPy only; kernels are (out, in, height, width).
"""

import numpy as np

JOINED, NARROW = (
    16,
    8,
)  # channels up to which a block's upsampling joins its convolution, and up to which all of it is packed
EDGE = 256  # from these pixels on: what joining changes in the three outermost rows and columns hides under the mask's rim
# Of a place's two pixels in a row, the three taps of a fine kernel read pixels -1, 0, 1 and 0, 1, 2: [pixel, tap, what it reads]
TAPS = np.float32([[[k == a + t for k in range(4)] for t in range(3)] for a in range(2)])
# Pixels -1, 0, 1, 2 as the second and first of their places before, here and after, [what is read, pixel, place], and as what a
# bilinear upsampling makes of the coarse pixels before, here and after
HOLDS = np.float32(
    [[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]]
)
LINEAR = np.float32([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0.25, 0.75]])


def ways(size, width):
    """(whether a block of `size` pixels and `width` channels joins its upsampling and first convolution, whether it is packed to its end)."""
    return size >= EDGE and width <= JOINED, size >= EDGE and width <= NARROW


def from_fine(kernel):
    """(O, C, 3, 3) on a fine picture -> (4 O, C, 4, 4), with stride 2 and one pixel of padding: the same, packed."""
    o, c = kernel.shape[:2]
    return np.einsum("atj,bsk,octs->abocjk", TAPS, TAPS, kernel).reshape(4 * o, c, 4, 4)


def from_packed(kernel):
    """(O, C, 3, 3) on a fine picture -> (4 O, 4 C, 3, 3) from packed to packed, the same."""
    fine = from_fine(kernel)
    return np.einsum("ocjk,jpd,kqe->opqcde", fine, HOLDS, HOLDS).reshape(len(fine), -1, 3, 3)


def from_coarse(kernel):
    """(O, C, 3, 3) behind a bilinear upsampling -> (4 O, C, 3, 3) without it, packed; the same but at the border, where the
    upsampling repeats the outermost pixel and the convolution then sees zeros."""
    return np.einsum("ocjk,jd,ke->ocde", from_fine(kernel), LINEAR, LINEAR)


def to_rgb(kernel):
    """(3, C, 1, 1) -> (12, 4 C, 1, 1), the same from packed to packed."""
    return np.kron(np.eye(4, dtype=np.float32), kernel[:, :, 0, 0])[:, :, None, None]
