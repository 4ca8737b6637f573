"""What the generator is judged by in training: a perceptual trunk, and the shipped age and identity networks in PyTorch."""

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from agedit.estimators import AGE_CROP, IDENTITY_CROP
from agedit.training.common import grey_of
from agedit.training.second_judge import CHIP, read_wheel

# ST-LPIPS AlexNet (Ghildyal & Liu, ECCV 2022): (state-dict name, padding) of each convolution; its pools are blurred.
ALEX = (("slice1.0", 2), ("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1))


class Perceptual(nn.Module):
    """LPIPS distance with the shift-tolerant AlexNet of the PyPI wheel `stlpips_pytorch==0.0.2`.

    Input: two (B, 3, s, s) in -1..1, s >= 32; output (B,), 0 for equal pictures.
    """

    def __init__(self, wheel):
        super().__init__()
        with (
            zipfile.ZipFile(wheel) as z,
            z.open("stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth") as f,
        ):
            state = torch.load(f, map_location="cpu", weights_only=True)
        self.convs = nn.ModuleList()
        for name, padding in ALEX:
            weight = state[f"net.{name}.weight"]
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=padding)
            conv.weight.data, conv.bias.data = weight, state[f"net.{name}.bias"]
            self.convs.append(conv)
        for k in range(5):
            self.register_buffer(f"lin{k}", state[f"lin{k}.model.1.weight"])
        self.register_buffer("shift", state["scaling_layer.shift"])
        self.register_buffer("scale", state["scaling_layer.scale"])
        self.requires_grad_(False)

    @staticmethod
    def _down(x):
        """Blurred by [1 2 1] and halved: two means, as a depthwise convolution is slow on a GPU."""
        return F.avg_pool2d(F.avg_pool2d(F.pad(x, (2, 2, 2, 2), "reflect"), 2, 1), 2, 2)

    def features(self, x):
        x = (x - self.shift) / self.scale
        result = []
        for k, conv in enumerate(self.convs):
            if k in (1, 2):
                x = self._down(F.max_pool2d(x, 3, 1))
            x = conv(x)
            x = F.relu(self._down(x) if k == 0 else x)
            result.append(x)
        return result

    def forward(self, a, b):
        return self.distance(self.features(a), self.features(b))

    def distance(self, a, b):
        """LPIPS (B,) of two pictures' features."""
        total = 0
        for k, (x, y) in enumerate(zip(a, b)):
            x, y = x.float(), y.float()
            x = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-6)
            y = y / (y.square().sum(1, keepdim=True).sqrt() + 1e-6)
            total = total + F.conv2d((x - y).square(), getattr(self, f"lin{k}")).mean((1, 2, 3))
        return total


def style(a, b, layers=3, windows=4):
    """How unlike the marks on two pictures are, wherever in a window of a quarter of the picture they lie, (B,); 0 for equal pictures.

    a: the first picture's features (see `Perceptual.features`). b: the second's, the one that is wanted. Their Gram matrices are compared (Gatys et al.,
    2016; against blur of what is uncertain: Reda et al., 2022), without the wanted one's mean. Energy by octaves (`texture`) a smudge has as well as a fold.
    """
    total = 0
    for x, y in zip(a[:layers], b[:layers]):
        edge = x.shape[-1] // windows * windows
        parts = lambda v: (
            v[..., :edge, :edge]
            .float()
            .unflatten(3, (windows, -1))
            .unflatten(2, (windows, -1))
            .permute(0, 2, 4, 1, 3, 5)
            .flatten(4)
        )
        x, y = parts(x), parts(y)
        mean = y.mean(-1, keepdim=True)
        grams = [(v - mean) @ (v - mean).mT / v.shape[-1] for v in (x, y)]
        size = grams[1].square().sum((3, 4)).sqrt()
        apart = ((grams[0] - grams[1]).square().sum((3, 4)) + 1e-8).sqrt()
        total = total + (apart / (size + 0.3 * size.mean((1, 2), keepdim=True) + 1e-4)).mean((1, 2)) / layers
    return total


AGE_TAPS = (
    "relu",
    "relu_2",
    "relu_4",
    "relu_7",
    "relu_12",
)  # of the age network: 56, 28, 14, 14 and 7 pixels


def texture(change, octaves=3):
    """How strong a change (B, 3, s, s) is in each of its finest octaves, by places of 8 pixels: [(B, 1, s / 8, s / 8), ...].

    Where a wrinkle lies can only be guessed, and a mean over guesses is smooth; that there are wrinkles is certain.
    """
    grey, result = grey_of(change), []
    for _ in range(octaves):
        low = F.avg_pool2d(grey, 2)
        band = grey - F.interpolate(low, scale_factor=2, mode="bilinear")
        result.append((F.avg_pool2d(band.square(), min(8, band.shape[-1])) + 1e-5).sqrt())
        grey = low
    return result


class OnnxModule(nn.Module):
    """The few ONNX operators of the shipped judges, differentiable; every number stays as in the file."""

    def __init__(self, model):
        """model: a path, or the bytes of a file."""
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = (onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))).graph
        self.nodes = [
            (
                n.op_type,
                list(n.input),
                list(n.output),
                {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute},
            )
            for n in graph.node
        ]
        self.input = next(i.name for i in graph.input if i.name not in {t.name for t in graph.initializer})
        self.outputs = [o.name for o in graph.output]
        self.names = {}
        for k, tensor in enumerate(graph.initializer):
            value, self.names[tensor.name] = (
                torch.from_numpy(np.array(numpy_helper.to_array(tensor))),
                f"t{k}",
            )
            if value.ndim and value.is_floating_point():
                self.register_buffer(f"t{k}", value)
            else:  # shapes, axes and single numbers are read by Python: from a GPU each would be waited for
                setattr(self, f"t{k}", value)

    def forward(self, x, taps=None):
        """The outputs, or the values named in `taps`."""
        values = {self.input: x}
        get = lambda name: values[name] if name in values else getattr(self, self.names[name])
        for op, inputs, outputs, a in self.nodes:
            args = [get(i) for i in inputs if i]
            values[outputs[0]] = self._run(op, args, a)
        return [values[o] for o in taps or self.outputs]

    @staticmethod
    def _run(op, args, a):
        x = args[0]
        if op in ("Conv", "MaxPool", "AveragePool"):
            top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
            if any((top, left, bottom, right)):
                x = F.pad(x, (left, right, top, bottom))
            if op == "Conv":
                return F.conv2d(
                    x,
                    args[1],
                    args[2] if len(args) > 2 else None,
                    a["strides"],
                    0,
                    a.get("dilations", 1),
                    a.get("group", 1),
                )
            return (F.max_pool2d if op == "MaxPool" else F.avg_pool2d)(x, a["kernel_shape"], a["strides"])
        if op == "Pad":
            pads, n = args[1].tolist(), x.ndim
            return F.pad(
                x,
                [p for d in reversed(range(n)) for p in (pads[d], pads[n + d])],
                value=float(args[2]) if len(args) > 2 else 0.0,
            )
        if op == "Reshape":
            return x.reshape([x.shape[i] if s == 0 else s for i, s in enumerate(args[1].tolist())])
        if op == "GlobalAveragePool":
            return x.mean((2, 3), keepdim=True)
        if op == "Gemm":
            return F.linear(x, args[1] if a.get("transB") else args[1].mT, args[2])
        if op == "ReduceMean":
            return x.mean(args[1].tolist(), keepdim=bool(a.get("keepdims", 1)))
        if op == "Gather":
            return (
                x.select(a.get("axis", 0), int(args[1]))
                if args[1].ndim == 0
                else x.index_select(a.get("axis", 0), args[1].to(x.device))
            )
        if op == "Softmax":
            return x.softmax(a.get("axis", -1))
        return {
            "Relu": F.relu,
            "Flatten": lambda v: v.flatten(1),
            "Add": torch.add,
            "Sub": torch.sub,
            "Mul": torch.mul,
            "Div": torch.div,
            "MatMul": torch.matmul,
        }[op](*args)


class Bounded(torch.autograd.Function):
    """Pictures as they are, whose gradient is at most `most` long in each row.

    In the one face of a batch that a network reads otherwise its gradient was twenty times LPIPS's, and most of it noise.
    """

    @staticmethod
    def forward(ctx, x, most):
        ctx.most = most
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        norm = gradient.flatten(1).norm(dim=1)
        return gradient * (ctx.most / norm.clamp_min(1e-12)).clamp_max(1)[:, None, None, None], None


def male_of(sexes):
    """The logit of male against female, (B,), of the age network's two outputs (B, 2)."""
    return (sexes[:, 0] - sexes[:, 1]).float()


class Judges(nn.Module):
    """Apparent age, expression and identity of aligned pictures (B, 3, s, s) in -1..1, by the networks that ship with the app.

    second: path of the wheel of another age judge (see `second_judge`), to be asked too.
    """

    def __init__(self, weights, second=None):
        super().__init__()
        self.age_network = OnnxModule(Path(weights) / "age_gender_faceapi.onnx")
        self.expression_network = OnnxModule(Path(weights) / "expression_faceapi.onnx")
        self.identity_network = OnnxModule(Path(weights) / "identity_dlib.onnx")
        self.second_network = None
        if second:
            model, *numbers = read_wheel(second)
            self.second_network = OnnxModule(model)
            for name, number in zip(("second_mean", "second_scale", "second_years"), numbers):
                self.register_buffer(name, torch.as_tensor(number))
        for name, crop in (("age_crop", AGE_CROP), ("identity_crop", IDENTITY_CROP), ("second_crop", CHIP)):
            inverse = np.linalg.inv(np.vstack([crop, [0, 0, 1]]))[:2]
            theta = inverse.copy()  # unit -> unit into grid_sample's -1..1 -> -1..1
            theta[:, 2] = 2 * inverse[:, 2] + inverse[:, :2].sum(1) - 1
            self.register_buffer(name, torch.tensor(theta, dtype=torch.float32))
        self.requires_grad_(False)

    def _crop(self, x, theta, size):
        grid = F.affine_grid(theta.expand(len(x), -1, -1), (len(x), 3, size, size), align_corners=False)
        picture = F.grid_sample(x.contiguous(), grid, padding_mode="border", align_corners=False)
        return ((picture + 1) * 127.5).contiguous(memory_format=torch.channels_last)

    def look(self, x):
        """What the judges see of age: years (B, judges), the logit of male against female (B,), and the age network's features, each with
        unit length at every place."""
        crop = self._crop(x, self.age_crop, 112)
        years, sexes, *features = self.age_network(crop, [*self.age_network.outputs[:2], *AGE_TAPS])
        years = [years.reshape(-1).float()]
        if self.second_network:
            chip = (self._crop(x, self.second_crop, 64) - self.second_mean) * self.second_scale
            years.append(self.second_network(chip)[0].float() @ self.second_years)
        features = [v.float() / (v.float().square().sum(1, keepdim=True).sqrt() + 1e-4) for v in features]
        return torch.stack(years, 1), male_of(sexes), features

    def sex(self, x):
        """The age network's logit of male against female, (B,)."""
        return male_of(self.age_network(self._crop(x, self.age_crop, 112), self.age_network.outputs[1:2])[0])

    def mood(self, x):
        """Log-probabilities of `readout.EXPRESSIONS`, (B, 7)."""
        return self.expression_network(self._crop(x, self.age_crop, 112))[0].float().log_softmax(1)

    def embed(self, x):
        """(B, 128) identity embeddings."""
        return self.identity_network(self._crop(x, self.identity_crop, 150))[0]
