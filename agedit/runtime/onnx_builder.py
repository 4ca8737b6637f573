"""Nodes and constants of one ONNX graph, collected and serialized."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper

from agedit.runtime.int8 import whole_numbers

OPSET = 18
IR_VERSION = 10

INT8_STEPS = 255
"""Steps between the least and the most that an int8 layer's input comes to."""


class Builder:
    """One graph under construction. Values are named by strings; every method returns the name of what it
    adds.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.proto = ModelProto()

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add an initializer; in place, since every copy of all weights would count in the peak of memory."""
        values = np.ascontiguousarray(array, dtype)
        initializers = self.proto.graph.initializer
        name = f"c{len(initializers)}"
        initializers.add(
            name=name,
            dims=values.shape,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            raw_data=values.tobytes(),
        )
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node. `output` names its value, which otherwise gets a number."""
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> str:
        """x W^T + b."""
        return self.add("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def convolution(
        self,
        x: str,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None = None,
        padding: int = 1,
        **attributes: Any,
    ) -> str:
        """A convolution in floating point. kernel: (O, C, h, w)."""
        constants = [self.constant(kernel)]
        if bias is not None:
            constants.append(self.constant(bias))
        return self.add(
            "Conv", x, *constants, kernel_shape=list(kernel.shape[2:]), pads=[padding] * 4, **attributes
        )

    def convolution_int8(
        self,
        x: str,
        kernel: npt.NDArray[np.floating],
        bias: npt.NDArray[np.floating],
        least: float,
        most: float,
        **attributes: Any,
    ) -> str:
        """A convolution in int8 with one pixel of padding.

        x, from `least` to `most`, is quantized with one step, each kernel with a step of its own. OpenVINO
        recognizes an int8 convolution by these pairs of QuantizeLinear and DequantizeLinear.
        """
        low = min(least, 0)  # the padding's 0 must be in the range
        high = max(most, least + 1e-6, 0)
        size = (high - low) / INT8_STEPS
        integers, kernel_steps = whole_numbers(kernel)
        zero = self.constant(round(-low / size), np.uint8)
        step = self.constant(size)
        quantized = self.add("QuantizeLinear", x, step, zero)
        x = self.add("DequantizeLinear", quantized, step, zero)
        weights = self.add(
            "DequantizeLinear",
            self.constant(integers, np.int8),
            self.constant(kernel_steps),
            self.constant(0 * kernel_steps, np.int8),
            axis=0,
        )
        return self.add(
            "Conv",
            x,
            weights,
            self.constant(bias),
            kernel_shape=list(kernel.shape[2:]),
            pads=[1] * 4,
            **attributes,
        )

    def model(
        self,
        inputs: Mapping[str, Sequence[int]],
        output: str,
        shape: Sequence[int],
        also: Sequence[str] = (),
    ) -> bytes:
        """The serialized graph.

        Args:
            inputs: {name: shape}, float32 each.
            output: name of the value that is handed out, of `shape`, float32.
            also: names of further values to hand out.
        """
        model = self.proto
        model.ir_version = IR_VERSION
        model.producer_name = "agedit"
        model.graph.name = "agedit"
        model.opset_import.append(helper.make_opsetid("", OPSET))
        model.graph.node.extend(self.nodes)
        model.graph.input.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in inputs.items()
        )
        model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape)))
        model.graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in also
        )
        return model.SerializeToString()
