"""The teacher's synthesis network in PyTorch.

A GPU draws hundreds of pictures a second with it, OpenVINO a few on a CPU.
"""

import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from agedit.training.teacher import LAYERS, layer_number

# Where the wheel keeps the network, without its ending.
NETWORK = "random_face/data/SynthesisNetwork"
# OpenVINO's names of element types.
KINDS = {"f32": np.float32, "i64": np.int64, "i32": np.int32}
# Kernels, noises and biases of the network.
VALUES = 61
# Blocks after the first, each twice as large as the last.
BLOCKS = 7


class Layer(NamedTuple):
    """A layer of the file: its type, its name, its constant inputs."""

    kind: str
    name: str
    constants: list[npt.NDArray[Any]]


def _attribute(element: ElementTree.Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise ValueError(f"a {element.tag} of the teacher's file has no {name}")
    return value


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    child = element.find(name)
    if child is None:
        raise ValueError(f"a {element.tag} of the teacher's file has no {name}")
    return child


def _constant(layer: ElementTree.Element, blob: bytes) -> npt.NDArray[Any]:
    data = _child(layer, "data")
    shape = [int(v) for v in _attribute(data, "shape").split(",") if v]
    kind = KINDS[_attribute(data, "element_type")]
    return np.frombuffer(blob, kind, int(np.prod(shape)), int(_attribute(data, "offset"))).reshape(shape)


def read_layers(wheel: str | Path) -> Iterator[Layer]:
    """The synthesis network's layers in the order of the file, from the `random-face` wheel."""
    with zipfile.ZipFile(wheel) as archive:
        root = ElementTree.fromstring(archive.read(NETWORK + ".xml"))
        blob = archive.read(NETWORK + ".bin")
    layers = {_attribute(layer, "id"): layer for layer in _child(root, "layers")}
    inputs: dict[str, list[tuple[int, str]]] = {}
    for edge in _child(root, "edges"):
        source = (int(_attribute(edge, "to-port")), _attribute(edge, "from-layer"))
        inputs.setdefault(_attribute(edge, "to-layer"), []).append(source)
    for i, layer in layers.items():
        if layer.get("type") == "Const":
            continue
        sources = [layers[source] for _, source in sorted(inputs.get(i, []))]
        constants = [_constant(source, blob) for source in sources if source.get("type") == "Const"]
        yield Layer(_attribute(layer, "type"), _attribute(layer, "name"), constants)


def unfold_haar(x: torch.Tensor) -> torch.Tensor:
    """Inverse Haar transform: (B, 4 C, s, s), C means and then three details of each, to (B, C, 2 s, 2 s)."""
    c = x.shape[1] // 4
    mean = x[:, :c]
    down, across, both = x[:, c:].unflatten(1, (c, 3)).unbind(2)
    near = mean + across
    far = mean - across
    more = down + both
    less = down - both
    corners = torch.stack([near + more, far + less, near - more, far - less], 2)
    return F.pixel_shuffle(corners.mul_(0.5).flatten(1, 2), 2)


class Synthesis(nn.Module):
    """MobileStyleGAN's synthesis (Belousov, 2021).

    A 4 x 4 constant, a convolution, seven blocks of a modulated inverse Haar transform and two modulated
    separable convolutions, a last projection and inverse Haar transform.

    Args:
        wheel: path of the `random-face` wheel. early: how many of the 23 modulated layers read `w`; the
        others read `late`.

    Input: w and late, (B, 512) each. Output: (B, 3, 1024, 1024), about -1..1.
    """

    start: torch.Tensor

    def __init__(self, wheel: str | Path, early: int) -> None:
        super().__init__()
        self.early = early
        self.count = 0
        # Weight and bias of each modulated layer's style, by its number in the file.
        styles: dict[int, list[npt.NDArray[Any]]] = {}
        newest: list[npt.NDArray[Any]] = []
        for kind, name, constants in read_layers(wheel):
            if kind == "MatMul":  # the file lists the last layer's style first
                newest = [constants[0]]
                styles[layer_number(name)] = newest
            elif kind == "Add" and name.startswith("Gemm_"):
                newest.append(constants[0].ravel())
            elif kind == "Multiply" and constants and not self.count:
                newest[:] = [v * constants[0].ravel()[0] for v in newest]
            elif kind == "Broadcast" and constants[0].ndim == 4 and constants[0].size > 1:
                self.register_buffer("start", torch.tensor(constants[0]))
            elif kind in ("Convolution", "GroupConvolution"):
                self._keep(constants[0].reshape(-1, *constants[0].shape[-3:]))
            elif kind == "Add" and constants and self.count:  # noise, then bias
                self._keep(constants[0])
        if len(styles) != LAYERS or self.count != VALUES:
            raise ValueError(
                f"expected another teacher than one of {len(styles)} styles "
                f"and {self.count} kernels, noises and biases"
            )
        for k, number in enumerate(sorted(styles)):
            weight, bias = styles[number]
            self.register_buffer(f"style{k}", torch.tensor(weight))
            self.register_buffer(f"shift{k}", torch.tensor(bias))

    def _keep(self, value: npt.NDArray[Any]) -> None:
        """Keep the next kernel, noise or bias."""
        self.register_buffer(f"v{self.count}", torch.tensor(value))
        self.count += 1

    def forward(self, w: torch.Tensor, late: torch.Tensor) -> torch.Tensor:
        layer = iter(range(LAYERS))
        values = iter(getattr(self, f"v{k}") for k in range(self.count))

        def modulated(x: torch.Tensor) -> torch.Tensor:
            k = next(layer)
            source = w if k < self.early else late
            style = F.linear(source, getattr(self, f"style{k}"), getattr(self, f"shift{k}"))
            return x * style[:, :, None, None]

        def noisy(x: torch.Tensor) -> torch.Tensor:
            noise = next(values)
            bias = next(values)
            return F.leaky_relu_(x.add_(noise).add_(bias), 0.2)

        x = noisy(F.conv2d(modulated(self.start), next(values), padding=1))
        for _ in range(BLOCKS):
            x = unfold_haar(modulated(x))
            for _ in range(2):
                kernel = next(values)
                x = F.conv2d(modulated(x), kernel, padding=1, groups=len(kernel))
                x = noisy(F.conv2d(x, next(values)))
        x = modulated(x)
        kernel = next(values)
        return unfold_haar(F.conv2d(x, kernel).add_(next(values)))
