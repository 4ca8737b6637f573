"""The shipped judges in PyTorch, so that gradients go through them.

onnx2torch would do the same, but needs torchvision, which pins another PyTorch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

# ONNX attributes of a node, by name.
Attributes = dict[str, Any]
Operator = Callable[[list[torch.Tensor], Attributes], torch.Tensor]


class Node(NamedTuple):
    """One operation of the graph.

    Its type, the names of its inputs, the name of its output, its attributes.
    """

    operator: str
    inputs: list[str]
    output: str
    attributes: Attributes


def _padded(x: torch.Tensor, attributes: Attributes) -> torch.Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if not any((top, left, bottom, right)):
        return x
    return F.pad(x, (left, right, top, bottom))


def _conv(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return F.conv2d(
        _padded(args[0], attributes),
        args[1],
        args[2] if len(args) > 2 else None,
        attributes["strides"],
        0,
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )


def _max_pool(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return F.max_pool2d(_padded(args[0], attributes), attributes["kernel_shape"], attributes["strides"])


def _average_pool(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return F.avg_pool2d(_padded(args[0], attributes), attributes["kernel_shape"], attributes["strides"])


def _pad(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    x = args[0]
    pads = args[1].tolist()
    pairs = []
    for axis in reversed(range(x.ndim)):  # PyTorch counts from the last axis
        pairs += [pads[axis], pads[x.ndim + axis]]
    return F.pad(x, pairs, value=float(args[2]) if len(args) > 2 else 0.0)


def _reshape(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    x = args[0]
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(args[1].tolist())])


def _global_average_pool(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0].mean((2, 3), keepdim=True)


def _gemm(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    weight = args[1] if attributes.get("transB") else args[1].mT
    return F.linear(args[0], weight, args[2])


def _reduce_mean(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0].mean(args[1].tolist(), keepdim=bool(attributes.get("keepdims", 1)))


def _gather(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    x, index = args
    axis = attributes.get("axis", 0)
    if index.ndim == 0:
        return x.select(axis, int(index))
    return x.index_select(axis, index.to(x.device))


def _softmax(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0].softmax(attributes.get("axis", -1))


def _relu(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return F.relu(args[0])


def _flatten(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0].flatten(1)


def _add(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0] + args[1]


def _sub(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0] - args[1]


def _mul(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0] * args[1]


def _div(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0] / args[1]


def _matmul(args: list[torch.Tensor], attributes: Attributes) -> torch.Tensor:
    return args[0] @ args[1]


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "Conv": _conv,
    "Div": _div,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Sub": _sub,
}


class OnnxModule(nn.Module):
    """An ONNX graph with one input and the few operators above; every number stays as in the file.

    Args:
        model: a path, or the bytes of a file.
    """

    def __init__(self, model: str | Path | bytes) -> None:
        super().__init__()
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))
        graph = proto.graph
        self.nodes = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            inputs = [name for name in node.input if name]
            self.nodes.append(Node(node.op_type, inputs, node.output[0], attributes))
        constants = {tensor.name for tensor in graph.initializer}
        self.input = next(i.name for i in graph.input if i.name not in constants)
        self.outputs = [output.name for output in graph.output]
        self.names: dict[str, str] = {}
        for k, tensor in enumerate(graph.initializer):
            value = torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            self.names[tensor.name] = f"t{k}"
            if value.ndim and value.is_floating_point():
                self.register_buffer(f"t{k}", value)
            else:
                # Shapes, axes and single numbers are read by Python: on a GPU each would be waited for.
                setattr(self, f"t{k}", value)

    def forward(self, x: torch.Tensor, taps: Sequence[str] | None = None) -> list[torch.Tensor]:
        """The outputs, or the values named in `taps`."""
        values = {self.input: x}
        for node in self.nodes:
            args = [
                values[name] if name in values else getattr(self, self.names[name]) for name in node.inputs
            ]
            values[node.output] = OPERATORS[node.operator](args, node.attributes)
        return [values[name] for name in taps or self.outputs]
