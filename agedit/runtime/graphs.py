"""The ONNX graphs of E and of plain convolutions, and what a generator's graph reads."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from agedit.runtime.generator_graph import generator_graph
from agedit.runtime.onnx_builder import Builder
from agedit.submodel import FEATURES, LEAKY_SLOPE, MAPPING_LAYERS, blocks

__all__ = [
    "Builder",
    "convolutions_graph",
    "encoder_graph",
    "generator_graph",
    "map_features",
    "photo_inputs",
]

Array = npt.NDArray[np.float32]

YARDSTICK_RANGE = (-4, 4)
"""Range of the inputs of the plain convolutions in int8."""


def convolutions_graph(
    channels: int, edge: int, count: int, int8: bool = False, styled: bool = False
) -> bytes:
    """Plain 3 x 3 convolutions in a row, the yardstick of a processor: x (1, channels, edge, edge) -> y, the
    same.

    Args:
        styled: between them what lies between a generator's: a leaky ReLU, and a multiplication with a
            `style`
            (1, channels, 1, 1).
    """
    b = Builder()
    rng = np.random.default_rng(0)
    shape = [1, channels, edge, edge]
    x = "x"
    for _ in range(count):
        if styled:
            x = b.add("Mul", b.add("LeakyRelu", x, alpha=LEAKY_SLOPE), "style")
        kernel = rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)
        if int8:
            x = b.convolution_int8(x, kernel, np.zeros(channels), *YARDSTICK_RANGE)
        else:
            x = b.convolution(x, kernel)
    b.add("Identity", x, output="y")
    inputs = {"x": shape}
    if styled:
        inputs["style"] = [1, channels, 1, 1]
    return b.model(inputs, "y", shape)


def encoder_graph(
    arrays: Mapping[str, npt.NDArray[np.floating]], convolutions: Sequence[tuple[int, int]], size: int
) -> bytes:
    """Serialized E (S21): `photo` (1, 3, size, size) in -1..1 -> `f` (1, 512).

    Args:
        arrays: `conv{i}.weight` and `.bias` with the batch norms folded, `fc.weight` and `.bias`.
        convolutions: (width, stride) of each.
    """
    b = Builder()
    x = "photo"
    for i, (_, stride) in enumerate(convolutions):
        kernel = arrays[f"conv{i}.weight"]
        edge = kernel.shape[2]
        padding = 1 if edge == 3 else 0  # the last convolution spans the whole map
        x = b.convolution(x, kernel, arrays[f"conv{i}.bias"], padding, strides=[stride, stride])
        x = b.add("Relu", x)
        if i == 1:
            x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    weight = b.constant(arrays["fc.weight"])
    bias = b.constant(arrays["fc.bias"])
    b.add("Gemm", x, weight, bias, transB=1, output="f")
    return b.model({"photo": [1, 3, size, size]}, "f", [1, FEATURES])


def map_features(mapping: Mapping[str, Array], f: Array) -> Array:
    """f (1, 512) -> w (1, 512) by the mapping network {`0.weight`, `0.bias`, ... `7.bias`}."""
    for i in range(MAPPING_LAYERS):
        f = f @ mapping[f"{i}.weight"].T + mapping[f"{i}.bias"]
        f = np.maximum(f, LEAKY_SLOPE * f)
    return f


def photo_inputs(photo: Array) -> dict[str, Array]:
    """{`photo_8`: ..., `photo_{r}`: photo} of (1, 3, r, r): every block's input, shrunk by areas.

    In memory a pixel's channels lie side by side, as convolutions read them fastest (see `open_submodel`).
    """
    rows = np.ascontiguousarray(photo[0].transpose(1, 2, 0))
    result = {}
    for size, _, _ in reversed(blocks(len(rows))):
        if size < len(rows):
            rows = rows.reshape(size, 2, size, 2, 3).mean((1, 3))
        result[f"photo_{size}"] = rows.transpose(2, 0, 1)[None]
    return result
