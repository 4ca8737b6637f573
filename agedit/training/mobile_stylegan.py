"""The teacher's synthesis network in PyTorch: a GPU draws hundreds of pictures a second with it, OpenVINO a few on a CPU."""

import xml.etree.ElementTree as ElementTree
import zipfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

NETWORK = "random_face/data/SynthesisNetwork"
KINDS = {"f32": np.float32, "i64": np.int64, "i32": np.int32}
LAYERS = 23  # modulated ones


def read_layers(wheel):
    """(type, name, constant inputs) of the synthesis network's layers in the order of the file, from the `random-face` wheel."""
    with zipfile.ZipFile(wheel) as z:
        root, blob = ElementTree.fromstring(z.read(NETWORK + ".xml")), z.read(NETWORK + ".bin")
    layers, inputs = {layer.get("id"): layer for layer in root.find("layers")}, {}
    for edge in root.find("edges"):
        inputs.setdefault(edge.get("to-layer"), []).append((int(edge.get("to-port")), edge.get("from-layer")))

    def constant(layer):
        data = layer.find("data")
        shape = [int(v) for v in data.get("shape").split(",") if v]
        return np.frombuffer(
            blob, KINDS[data.get("element_type")], int(np.prod(shape)), int(data.get("offset"))
        ).reshape(shape)

    for i, layer in layers.items():
        if layer.get("type") != "Const":
            given = [layers[source] for _, source in sorted(inputs.get(i, []))]
            yield (
                layer.get("type"),
                layer.get("name"),
                [constant(v) for v in given if v.get("type") == "Const"],
            )


def unfold_haar(x):
    """Inverse Haar transform: (B, 4 C, s, s), C means and then three details of each, to (B, C, 2 s, 2 s)."""
    c = x.shape[1] // 4
    mean, (down, across, both) = x[:, :c], x[:, c:].unflatten(1, (c, 3)).unbind(2)
    near, far = mean + across, mean - across
    more, less = down + both, down - both
    return F.pixel_shuffle(
        torch.stack([near + more, far + less, near - more, far - less], 2).mul_(0.5).flatten(1, 2), 2
    )


class Synthesis(nn.Module):
    """MobileStyleGAN's synthesis (Belousov, 2021): a 4 x 4 constant, a convolution, seven blocks of a modulated inverse Haar transform and two
    modulated separable convolutions, a last projection and inverse Haar transform.

    Args:
        wheel: path of the `random-face` wheel. early: how many of the 23 modulated layers read `w`; the others read `late`.

    Input: w and late, (B, 512) each. Output: (B, 3, 1024, 1024), about -1..1.
    """

    def __init__(self, wheel, early):
        super().__init__()
        self.early, styles, self.count = early, {}, 0
        number = lambda name: int(name.split("_")[1].split("/")[0])
        for kind, name, constants in read_layers(wheel):
            if kind == "MatMul":  # the file lists the last layer's style first
                newest = styles[number(name)] = [constants[0]]
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
        if len(styles) != LAYERS or self.count != 61:
            raise ValueError(
                f"expected another teacher than one of {len(styles)} styles and {self.count} kernels, noises and biases"
            )
        for k, (_, (weight, bias)) in enumerate(sorted(styles.items())):
            self.register_buffer(f"style{k}", torch.tensor(weight))
            self.register_buffer(f"shift{k}", torch.tensor(bias))

    def _keep(self, value):
        self.register_buffer(f"v{self.count}", torch.tensor(value))
        self.count += 1

    def forward(self, w, late):
        layer, values = iter(range(LAYERS)), iter(getattr(self, f"v{k}") for k in range(self.count))

        def modulated(x):
            k = next(layer)
            style = F.linear(
                w if k < self.early else late, getattr(self, f"style{k}"), getattr(self, f"shift{k}")
            )
            return x * style[:, :, None, None]

        def noisy(x):
            return F.leaky_relu_(x.add_(next(values)).add_(next(values)), 0.2)

        x = noisy(F.conv2d(modulated(self.start), next(values), padding=1))
        for _ in range(7):
            x = unfold_haar(modulated(x))
            for _ in range(2):
                kernel = next(values)
                x = F.conv2d(modulated(x), kernel, padding=1, groups=len(kernel))
                x = noisy(F.conv2d(x, next(values)))
        return unfold_haar(F.conv2d(modulated(x), next(values)).add_(next(values)))
