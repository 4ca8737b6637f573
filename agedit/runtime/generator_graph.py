"""The ONNX graph of any G_{r,c} (S25-S28), built from sliced arrays without PyTorch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agedit.runtime.int8 import evened
from agedit.runtime.onnx_builder import Builder
from agedit.runtime.packing import from_coarse, from_fine, from_packed, to_rgb, ways
from agedit.submodel import (
    DEMODULATION_EPSILON,
    FEATURES,
    LEAKY_SLOPE,
    MAPPING_LAYERS,
    PHOTO_CHANNELS,
    blocks,
    layers,
    slice_weights,
)

Array = npt.NDArray[np.float32]

COARSE = 128
"""From this resolution on the picture of the block below is upsampled by a convolution, which is faster
there.
"""

PHOTO_RANGE = (-128 / 127, 1.0)
"""Range of a photo in int8: 0 is one of its steps, and white is another."""

IDENTITY_KERNEL = np.zeros((3, 3, 3, 3), np.float32)
"""A 3 x 3 convolution that changes nothing, of three channels."""
IDENTITY_KERNEL[range(3), range(3), 1, 1] = 1


class _LazyFloat32(dict[str, Array]):
    """Arrays turned to float32 as each is read: all at once they would count in the peak of memory."""

    def __getitem__(self, name: str) -> Array:
        return np.asarray(super().__getitem__(name), np.float32)


class _Layer(NamedTuple):
    """A layer's output, and the demodulation (1, C) that it still has to be multiplied with."""

    x: str
    demodulation: str


def generator_graph(
    weights: Mapping[str, npt.NDArray[np.floating]],
    r: int,
    c: float,
    ranges: Mapping[str, Array] | None = None,
    watched: bool = False,
    mapped: bool = False,
) -> bytes:
    """Serialized G_{r,c}: `f` (1, 512), `photo_8` .. `photo_{r}` in -1..1 -> `picture` (1, 3, r, r) in about
    -1..1.

    Each block reads the photo at its own resolution (see `graphs.photo_inputs`): it is shrunk once a photo,
    not once a run. Narrow blocks are packed (see `packing`); their pictures differ in the three outermost
    pixels, where no mask exceeds 6%.

    Args:
        weights: the full generator's arrays, as named by `network.generator`; sliced here (S28).
        ranges: {layer: (2, C)}, the least and most of its input's channels; these layers compute in int8.
        watched: hand out every layer's input too, under the layer's name (see `submodel.layers`).
        mapped: leave out the mapping network: the input is `w` instead of `f` (see `graphs.map_features`), so
            that
            all sub-models share it.
    """
    return _GeneratorGraph(weights, r, c, ranges or {}, watched, mapped).build()


class _GeneratorGraph:
    """The construction of one G_{r,c}; arguments as in `generator_graph`."""

    def __init__(
        self,
        weights: Mapping[str, npt.NDArray[np.floating]],
        r: int,
        c: float,
        ranges: Mapping[str, Array],
        watched: bool,
        mapped: bool,
    ) -> None:
        self.arrays = _LazyFloat32(slice_weights(weights, r, c))
        self.r = r
        self.c = c
        self.ranges = ranges
        self.watched = watched
        self.mapped = mapped
        self.builder = Builder()
        self.w = "w" if mapped else self._mapping()
        self.twice = self.builder.constant([1, 1, 2, 2])
        self.spatial_axes = self.builder.constant([2, 3], np.int64)
        self.one_pixel_around = self.builder.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)

    def build(self) -> bytes:
        b = self.builder
        x = b.constant(self.arrays["start"])
        demodulation = None
        picture = None
        for size, _, width in blocks(self.r, self.c):
            joined, packed = ways(size, width)
            prefix = f"blocks.{size}."
            x, demodulation = self._first_layer(x, demodulation, prefix + "conv1.", size, joined, packed)
            x, demodulation = self._second_layer(x, demodulation, prefix + "conv2.", packed)
            new = self._to_rgb(x, demodulation, prefix + "to_rgb.", packed)
            picture = new if picture is None else self._add_picture(picture, new, size, packed)
            if packed and size < self.r:
                x = self._unpack(x)
        assert picture is not None
        b.add("Identity", picture, output="picture")
        photos = {f"photo_{size}": [1, 3, size, size] for size, _, _ in blocks(self.r, self.c)}
        style_input = {"w" if self.mapped else "f": [1, FEATURES]}
        watched = list(layers(self.r, self.c)) if self.watched else []
        return b.model(style_input | photos, "picture", [1, 3, self.r, self.r], watched)

    def _mapping(self) -> str:
        """The mapping network: f -> w."""
        w = "f"
        for i in range(MAPPING_LAYERS):
            weight = self.arrays[f"mapping.{i}.weight"]
            bias = self.arrays[f"mapping.{i}.bias"]
            w = self.builder.add("LeakyRelu", self.builder.linear(w, weight, bias), alpha=LEAKY_SLOPE)
        return w

    def _first_layer(
        self, x: str, demodulation: str | None, name: str, size: int, joined: bool, packed: bool
    ) -> _Layer:
        """Upsampling and the first convolution of a block, which reads the photo too.

        Args:
            joined: one convolution upsamples and filters; it computes packed.
            packed: its output stays packed. Otherwise it is unpacked before the photo's three channels are
                added,
                which is faster.
        """
        b = self.builder
        kernel = self.arrays[name + "weight"]
        photo_kernel = kernel[:, :PHOTO_CHANNELS]  # the photo's channels come first
        style, new_demodulation = self._style(name, kernel, PHOTO_CHANNELS, demodulation)
        style, own, seen = self._even(name, style, kernel[:, PHOTO_CHANNELS:])
        # scaled before the upsampling: a quarter of the work
        x = b.add("Mul", x, self._spread(style), output=name if self.watched else None)
        bias = self.arrays[name + "bias"]
        if joined:
            own = from_coarse(own)
            bias = np.tile(bias, 4)
        else:
            x = self._upsample(x)
        x = self._convolve(x, own, bias, seen)
        if joined and not packed:
            x = self._unpack(x)
        # the photo is convolved by itself: no copy joins its channels to the others, and both layouts stay
        # fast
        photo = self._convolve_photo(f"photo_{size}", photo_kernel, packed, quantized=seen is not None)
        x = b.add("Add", x, photo)
        return _Layer(b.add("LeakyRelu", x, alpha=LEAKY_SLOPE), new_demodulation)

    def _second_layer(self, x: str, demodulation: str, name: str, packed: bool) -> _Layer:
        """The second convolution of a block."""
        b = self.builder
        kernel = self.arrays[name + "weight"]
        style, new_demodulation = self._style(name, kernel, 0, demodulation)
        style, own, seen = self._even(name, style, kernel)
        scale = self._four(style) if packed else style
        x = b.add("Mul", x, self._spread(scale), output=name if self.watched else None)
        bias = self.arrays[name + "bias"]
        if packed:
            own = from_packed(own)
            bias = np.tile(bias, 4)
        x = self._convolve(x, own, bias, seen)
        return _Layer(b.add("LeakyRelu", x, alpha=LEAKY_SLOPE), new_demodulation)

    def _style(
        self, name: str, kernel: Array, photo_channels: int, demodulation: str | None
    ) -> tuple[str, str]:
        """The layer's style, multiplied with the demodulation of the layer before, and its own demodulation.

        Demodulation is 1 / sqrt(sum (kernel * style)^2), times sqrt(2) for the leaky ReLU (StyleGAN2).
        """
        b = self.builder
        energy = np.square(kernel).sum((2, 3))
        style = b.linear(self.w, self.arrays[name + "style_weight"], self.arrays[name + "style_bias"])
        photo_energy = energy[:, :photo_channels].sum(1) + DEMODULATION_EPSILON
        total = b.linear(b.add("Mul", style, style), energy[:, photo_channels:] / 2, photo_energy / 2)
        own = b.add("Reciprocal", b.add("Sqrt", total))
        if demodulation is not None:
            style = b.add("Mul", style, demodulation)
        return style, own

    def _even(self, name: str, style: str, kernel: Array) -> tuple[str, Array, Array | None]:
        """Style, kernel and input range of a layer, its channels evened where it computes in int8.

        Channels of similar size share one step better; the kernel takes the factor back.
        """
        seen = self.ranges.get(name)
        if seen is None:
            return style, kernel, None
        factor = evened(seen, kernel)
        style = self.builder.add("Mul", style, self.builder.constant(1 / factor))
        return style, kernel * factor[:, None, None], seen / factor

    def _convolve(self, x: str, kernel: Array, bias: Array, seen: Array | None) -> str:
        """3 x 3, in int8 where the range of its input is known."""
        if seen is None:
            return self.builder.convolution(x, kernel, bias)
        return self.builder.convolution_int8(x, kernel, bias, seen.min(), seen.max())

    def _convolve_photo(self, photo: str, kernel: Array, packed: bool, quantized: bool) -> str:
        """What a block reads of the photo; packed, by a convolution of stride 2."""
        b = self.builder
        stride: dict[str, Any] = {"strides": [2, 2]} if packed else {}
        kernel = from_fine(kernel) if packed else kernel
        if quantized:
            return b.convolution_int8(photo, kernel, np.zeros(len(kernel)), *PHOTO_RANGE, **stride)
        return b.convolution(photo, kernel, **stride)

    def _to_rgb(self, x: str, demodulation: str, name: str, packed: bool) -> str:
        """A block's own picture, packed as x is."""
        b = self.builder
        kernel = self.arrays[name + "weight"]
        bias = self.arrays[name + "bias"]
        scale = demodulation
        if packed:
            kernel = to_rgb(kernel)
            bias = np.tile(bias, 4)
            scale = self._four(demodulation)
        weight = b.constant(kernel)
        modulated = b.add("Mul", weight, self._spread(scale))
        return b.add("Conv", x, modulated, b.constant(bias), kernel_shape=[1, 1])

    def _add_picture(self, below: str, new: str, size: int, packed: bool) -> str:
        """The picture of the blocks below, upsampled bilinearly, and this block's own."""
        b = self.builder
        if size < COARSE:
            return b.add("Add", self._upsample(below), new)
        padded = b.add("Pad", below, self.one_pixel_around, mode="edge")
        upsampled = b.convolution(padded, from_coarse(IDENTITY_KERNEL), padding=0)  # the same, packed
        if packed:
            return self._unpack(b.add("Add", upsampled, new))
        if size < self.r:
            return b.add("Add", self._unpack(upsampled), new)
        # what is handed out has a pixel's channels side by side
        pixels = self._unpack_pixels(upsampled, size // 2)
        summed = b.add("Add", pixels, b.add("Transpose", new, perm=[0, 2, 3, 1]))
        return b.add("Transpose", summed, perm=[0, 3, 1, 2])

    def _upsample(self, x: str) -> str:
        """Twice the resolution, bilinearly."""
        return self.builder.add(
            "Resize", x, "", self.twice, mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def _spread(self, v: str) -> str:
        """(1, C) -> (1, C, 1, 1)."""
        return self.builder.add("Unsqueeze", v, self.spatial_axes)

    def _four(self, v: str) -> str:
        """(1, C) -> (1, 4 C), for packed channels."""
        return self.builder.add("Concat", v, v, v, v, axis=1)

    def _unpack(self, v: str) -> str:
        """(1, 4 C, s, s) -> (1, C, 2 s, 2 s)."""
        return self.builder.add("DepthToSpace", v, blocksize=2, mode="DCR")

    def _unpack_pixels(self, v: str, s: int) -> str:
        """(1, 12, s, s) -> (1, 2 s, 2 s, 3): two pixels of a row move at once."""
        b = self.builder
        channels_last = b.add("Transpose", v, perm=[0, 2, 3, 1])
        rows = b.add("Reshape", channels_last, b.constant([1, s, s, 2, 6], np.int64))
        interleaved = b.add("Transpose", rows, perm=[0, 1, 3, 2, 4])
        return b.add("Reshape", interleaved, b.constant([1, 2 * s, 2 * s, 3], np.int64))
