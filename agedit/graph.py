"""ONNX graphs of E and of any G_{r,c}, built from sliced arrays without PyTorch."""

import numpy as np
from onnx import ModelProto, TensorProto, helper

from agedit.packing import from_coarse, from_fine, from_packed, to_rgb, ways
from agedit.quantize import evened, whole_numbers
from agedit.submodel import FEATURES, blocks, layers, slice_weights

OPSET = 18
SLOPE, LAYERS = 0.2, 8  # of leaky ReLUs; of the mapping network
COARSE = 128  # from these pixels on the picture below is upsampled by a convolution
PIXELS = -128 / 127, 1.0  # range of a photo in int8: 0 is one of its steps, and white another


class Builder:
    """Collects nodes and constants of one graph."""

    def __init__(self):
        self.nodes, self.proto = [], ModelProto()

    def constant(self, array, dtype=np.float32):
        array, kept = np.ascontiguousarray(array, dtype), self.proto.graph.initializer
        name = f"c{len(kept)}"
        # in place: every copy of all weights would count in the peak of memory
        kept.add(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            raw_data=array.tobytes(),
        )
        return name

    def add(self, op, *inputs, output=None, **attributes):
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def linear(self, x, weight, bias):
        return self.add("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def convolution_int8(self, x, weight, bias, least, most, **more):
        """Convolution in int8: x, from `least` to `most`, by one step, each kernel by its own. OpenVINO knows it by these pairs of nodes."""
        least, most = min(least, 0), max(most, least + 1e-6, 0)  # the borders' padding is 0
        step, (kernel, steps) = (most - least) / 255, whole_numbers(weight)
        zero, step = self.constant(round(-least / step), np.uint8), self.constant(step)
        x = self.add("DequantizeLinear", self.add("QuantizeLinear", x, step, zero), step, zero)
        kernel = self.add(
            "DequantizeLinear",
            self.constant(kernel, np.int8),
            self.constant(steps),
            self.constant(0 * steps, np.int8),
            axis=0,
        )
        return self.add(
            "Conv", x, kernel, self.constant(bias), kernel_shape=list(weight.shape[2:]), pads=[1] * 4, **more
        )

    def model(self, inputs, output, shape, also=()):
        """Bytes of the graph; `also` names values that are given out beside `output`."""
        model = self.proto
        model.ir_version, model.producer_name, model.graph.name = 10, "agedit", "agedit"
        model.opset_import.append(helper.make_opsetid("", OPSET))
        model.graph.node.extend(self.nodes)
        model.graph.input.extend(
            helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()
        )
        model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
        model.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in also
        )
        return model.SerializeToString()


class InFp32(dict):
    """Arrays that are turned to float32 one by one, as they are read: all at once they would count in the peak of memory."""

    def __getitem__(self, name):
        return np.asarray(super().__getitem__(name), np.float32)


def convolutions_graph(channels, edge, count, int8=False, styled=False):
    """Plain 3 x 3 convolutions in a row, the yardstick of a processor: x (1, channels, edge, edge) -> y, the same shape.

    styled: between them what lies between a generator's: a leaky ReLU, and a multiplication with a `style` (1, channels, 1, 1).
    """
    b, x, rng, shape = Builder(), "x", np.random.default_rng(0), [1, channels, edge, edge]
    for _ in range(count):
        x = b.add("Mul", b.add("LeakyRelu", x, alpha=SLOPE), "style") if styled else x
        weight = rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)
        x = (
            b.convolution_int8(x, weight, np.zeros(channels), -4, 4)
            if int8
            else b.add("Conv", x, b.constant(weight), kernel_shape=[3, 3], pads=[1] * 4)
        )
    b.add("Identity", x, output="y")
    return b.model({"x": shape} | ({"style": [1, channels, 1, 1]} if styled else {}), "y", shape)


def encoder_graph(arrays, convolutions, size):
    """Bytes of E: `photo` (1, 3, size, size) in -1..1 -> `f` (1, 512).

    arrays: `conv{i}.weight/bias` with the batch norms folded, `fc.weight/bias`. convolutions: [(width, stride)].
    """
    b, x = Builder(), "photo"
    for i, (_, stride) in enumerate(convolutions):
        edge = arrays[f"conv{i}.weight"].shape[2]  # the last one spans the whole map and needs no borders
        x = b.add(
            "Conv",
            x,
            b.constant(arrays[f"conv{i}.weight"]),
            b.constant(arrays[f"conv{i}.bias"]),
            kernel_shape=[edge, edge],
            pads=[int(edge == 3)] * 4,
            strides=[stride, stride],
        )
        x = b.add("Relu", x)
        if i == 1:
            x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.add("Gemm", x, b.constant(arrays["fc.weight"]), b.constant(arrays["fc.bias"]), transB=1, output="f")
    return b.model({"photo": [1, 3, size, size]}, "f", [1, FEATURES])


def map_features(mapping, f):
    """f (1, 512) -> w (1, 512), both float32, by the mapping network: {`0.weight`, `0.bias`, ... `7.bias`}."""
    for i in range(LAYERS):
        f = f @ mapping[f"{i}.weight"].T + mapping[f"{i}.bias"]
        f = np.maximum(f, SLOPE * f)
    return f


def generator_graph(weights, r, c, ranges=None, watched=False, mapped=False):
    """Bytes of G_{r,c}: `f` (1, 512), `photo_8` ... `photo_{r}` in -1..1 -> `picture` (1, 3, r, r) in about -1..1.

    Each block reads the photo at its own resolution (see `photo_inputs`): shrinking it is done once a photo, not once a run.
    Narrow blocks are packed (see `packing`); their pictures differ in the three outermost pixels, where no mask reaches 6%.
    weights: the full generator's arrays, as named by `network.generator`; sliced here (S28).
    ranges: {layer: (2, C), the least and most that its input's channels come to}; these layers then compute in int8 (see `quantize`).
    watched: every layer's input is an output too, by the layer's name (see `submodel.layers`).
    mapped: the mapping network is left out, and `w` is the input instead of `f` (see `map_features`): all sub-models share it.
    """
    arrays, b = InFp32(slice_weights(weights, r, c)), Builder()
    w = "w" if mapped else "f"
    for i in range(0 if mapped else LAYERS):
        w = b.linear(w, arrays[f"mapping.{i}.weight"], arrays[f"mapping.{i}.bias"])
        w = b.add("LeakyRelu", w, alpha=SLOPE)
    twice = b.constant([1, 1, 2, 2])
    upsample = lambda v: b.add(
        "Resize", v, "", twice, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    axes = b.constant([2, 3], np.int64)
    spread = lambda v: b.add("Unsqueeze", v, axes)
    conv = lambda v, weight, *bias, pad=1, **stride: b.add(
        "Conv",
        v,
        b.constant(weight),
        *(b.constant(k) for k in bias),
        kernel_shape=list(weight.shape[2:]),
        pads=[pad] * 4,
        **stride,
    )
    apart = lambda v: b.add("DepthToSpace", v, blocksize=2, mode="DCR")
    four = lambda v: b.add("Concat", *[v] * 4, axis=1)
    around = b.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)

    def pixels(v, s):
        """`apart` of a packed picture (1, 12, s, s), but (1, 2 s, 2 s, 3): two pixels of a row move at once."""
        rows = b.add(
            "Reshape", b.add("Transpose", v, perm=[0, 2, 3, 1]), b.constant([1, s, s, 2, 6], np.int64)
        )
        return b.add(
            "Reshape",
            b.add("Transpose", rows, perm=[0, 1, 3, 2, 4]),
            b.constant([1, 2 * s, 2 * s, 3], np.int64),
        )

    same = np.zeros((3, 3, 3, 3), np.float32)
    same[range(3), range(3), 1, 1] = 1

    def styled(x, scale, p, photo, joined, packed):
        """x and the scale that it still has to be multiplied with -> the same of the layer's output.

        joined: the convolution computes packed. packed: its output stays so; else it is taken apart before the photo, whose three channels are
        quicker then, is added.
        """
        weight = arrays[p + "weight"]
        extra = 3 if photo else 0
        energy = np.square(weight).sum((2, 3))
        style = b.linear(w, arrays[p + "style_weight"], arrays[p + "style_bias"])
        # demodulation: 1 / sqrt(sum (weight * style)^2), and sqrt(2) for the leaky ReLU
        total = b.linear(
            b.add("Mul", style, style), energy[:, extra:] / 2, (energy[:, :extra].sum(1) + 1e-4) / 2
        )
        demod = b.add("Reciprocal", b.add("Sqrt", total))
        style = b.add("Mul", style, scale) if scale else style
        own, bias, seen = weight[:, extra:], arrays[p + "bias"], (ranges or {}).get(p)
        if seen is not None:  # channels of like size share one step better; the kernel takes it back
            by = evened(seen, own)
            style, own, seen = b.add("Mul", style, b.constant(1 / by)), own * by[:, None, None], seen / by
        # a block's first convolution is scaled before the upsampling: a quarter of the work
        x = b.add(
            "Mul", x, spread(four(style) if joined and not photo else style), output=p if watched else None
        )
        if joined:
            own, bias = (from_coarse if photo else from_packed)(own), np.tile(bias, 4)
        elif photo:
            x = upsample(x)
        x = conv(x, own, bias) if seen is None else b.convolution_int8(x, own, bias, seen.min(), seen.max())
        x = apart(x) if joined and not packed else x
        if photo:  # the photo's channels apart: no copy to join them, and both layouts stay fast
            kernel, stride = (
                (from_fine(weight[:, :3]), {"strides": [2, 2]}) if packed else (weight[:, :3], {})
            )
            x = b.add(
                "Add",
                x,
                conv(photo, kernel, **stride)
                if seen is None
                else b.convolution_int8(photo, kernel, np.zeros(len(kernel)), *PIXELS, **stride),
            )
        return b.add("LeakyRelu", x, alpha=SLOPE), demod

    x, scale, rgb = b.constant(arrays["start"]), None, None
    for size, _, width in blocks(r, c):
        p, (joined, packed) = f"blocks.{size}.", ways(size, width)
        x, scale = styled(x, scale, p + "conv1.", f"photo_{size}", joined, packed)
        x, scale = styled(x, scale, p + "conv2.", None, packed, packed)
        weight, bias = arrays[p + "to_rgb.weight"], arrays[p + "to_rgb.bias"]
        weight, bias, by = (
            (to_rgb(weight), np.tile(bias, 4), four(scale)) if packed else (weight, bias, scale)
        )
        new = b.add(
            "Conv", x, b.add("Mul", b.constant(weight), spread(by)), b.constant(bias), kernel_shape=[1, 1]
        )
        if rgb and size >= COARSE:  # the same upsampling by a convolution, which is quicker on three channels
            rgb = conv(b.add("Pad", rgb, around, mode="edge"), from_coarse(same), pad=0)
            if size == r and not packed:  # what is handed out has a pixel's channels side by side
                rgb = b.add("Add", pixels(rgb, size // 2), b.add("Transpose", new, perm=[0, 2, 3, 1]))
                rgb = b.add("Transpose", rgb, perm=[0, 3, 1, 2])
            else:
                rgb = apart(b.add("Add", rgb, new)) if packed else b.add("Add", apart(rgb), new)
        else:
            rgb = b.add("Add", upsample(rgb), new) if rgb else new
        x = apart(x) if packed and size < r else x
    b.add("Identity", rgb, output="picture")
    photos = {f"photo_{size}": [1, 3, size, size] for size, _, _ in blocks(r, c)}
    return b.model(
        {"w" if mapped else "f": [1, FEATURES], **photos},
        "picture",
        [1, 3, r, r],
        layers(r, c) if watched else (),
    )


def photo_inputs(photo):
    """{`photo_8`: ..., `photo_{r}`: photo} of float32 (1, 3, r, r): every block's input, shrunk by areas.

    In memory a pixel's channels lie side by side, as convolutions like them (see `runtime.open_submodel`).
    """
    result, rows = {}, np.ascontiguousarray(photo[0].transpose(1, 2, 0))
    for size, _, _ in reversed(blocks(len(rows))):
        if size < len(rows):
            rows = rows.reshape(size, 2, size, 2, 3).mean((1, 3))
        result[f"photo_{size}"] = rows.transpose(2, 0, 1)[None]
    return result
