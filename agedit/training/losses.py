"""What the generator is judged by in training: a perceptual trunk, and the shipped judges in PyTorch."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from agedit.estimators import AGE_CROP, AGE_INPUT, IDENTITY_CROP, IDENTITY_INPUT
from agedit.manifest import AGE_NETWORK, EXPRESSION_NETWORK, IDENTITY_NETWORK
from agedit.training.common import add_up
from agedit.training.images import grey_of
from agedit.training.onnx_module import OnnxModule
from agedit.training.second_judge import CHIP, CHIP_PIXELS, read_wheel

# ST-LPIPS AlexNet (Ghildyal & Liu, ECCV 2022): (state-dict name, padding) of each convolution; its pools are
# blurred.
ALEX = (("slice1.0", 2), ("slice2.5", 2), ("slice3.9", 1), ("slice4.11", 1), ("slice5.13", 1))
ALEX_FILE = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"
# Names of values inside the age network, of 56, 28, 14, 14 and 7 pixels.
AGE_TAPS = ("relu", "relu_2", "relu_4", "relu_7", "relu_12")


class Perceptual(nn.Module):
    """LPIPS distance with the shift-tolerant AlexNet of the PyPI wheel `stlpips_pytorch==0.0.2`.

    Input: two (B, 3, s, s) in -1..1, s >= 32; output (B,), 0 for equal pictures.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, wheel: str | Path) -> None:
        super().__init__()
        with zipfile.ZipFile(wheel) as archive, archive.open(ALEX_FILE) as f:
            state = torch.load(f, map_location="cpu", weights_only=True)
        self.convs = nn.ModuleList()
        for name, padding in ALEX:
            weight = state[f"net.{name}.weight"]
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=padding)
            conv.load_state_dict({"weight": weight, "bias": state[f"net.{name}.bias"]})
            self.convs.append(conv)
        for k in range(len(ALEX)):
            self.register_buffer(f"lin{k}", state[f"lin{k}.model.1.weight"])
        self.register_buffer("shift", state["scaling_layer.shift"])
        self.register_buffer("scale", state["scaling_layer.scale"])
        self.requires_grad_(False)

    @staticmethod
    def _down(x: torch.Tensor) -> torch.Tensor:
        """Blurred by [1 2 1] and halved: two means, as a depthwise convolution is slow on a GPU."""
        return F.avg_pool2d(F.avg_pool2d(F.pad(x, (2, 2, 2, 2), "reflect"), 2, 1), 2, 2)

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What the trunk's five convolutions see of (B, 3, s, s), [(B, C, h, w), ...]."""
        x = (x - self.shift) / self.scale
        result = []
        for k, conv in enumerate(self.convs):
            if k in (1, 2):
                x = self._down(F.max_pool2d(x, 3, 1))
            x = conv(x)
            if k == 0:
                x = self._down(x)
            x = F.relu(x)
            result.append(x)
        return result

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.distance(self.features(a), self.features(b))

    def distance(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> torch.Tensor:
        """LPIPS (B,) of two pictures' features."""
        distances = []
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            apart = (_unit_length(x.float()) - _unit_length(y.float())).square()
            distances.append(F.conv2d(apart, getattr(self, f"lin{k}")).mean((1, 2, 3)))
        return add_up(distances)


def _unit_length(x: torch.Tensor, least: float = 1e-6) -> torch.Tensor:
    """(B, C, h, w) with unit length at every place."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + least)


def style_distance(
    a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], layers: int = 3, windows: int = 4
) -> torch.Tensor:
    """How unlike the marks on two pictures are, wherever in a window they lie, (B,); 0 for equal pictures.

    Gram matrices are compared (Gatys et al., 2016; against blur of what is uncertain: Reda et al., 2022),
    without the wanted picture's mean. A smudge has the same energy by octaves (`texture`) as a fold, but
    another Gram matrix.

    Args:
        a: the first picture's features (`Perceptual.features`). b: the second's, the one that is wanted.
        windows: across the picture.
    """
    distances = []
    for x, y in zip(a[:layers], b[:layers], strict=True):
        drawn = _windows(x, windows)
        wanted = _windows(y, windows)
        mean = wanted.mean(-1, keepdim=True)
        gram = _gram(drawn - mean)
        goal = _gram(wanted - mean)
        size = goal.square().sum((3, 4)).sqrt()
        apart = ((gram - goal).square().sum((3, 4)) + 1e-8).sqrt()
        share = apart / (size + 0.3 * size.mean((1, 2), keepdim=True) + 1e-4)
        distances.append(share.mean((1, 2)) / layers)
    return add_up(distances)


def _windows(x: torch.Tensor, windows: int) -> torch.Tensor:
    """(B, C, s, s) cut into windows: (B, windows, windows, C, places)."""
    edge = x.shape[-1] // windows * windows
    x = x[..., :edge, :edge].float().unflatten(3, (windows, -1)).unflatten(2, (windows, -1))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(4)


def _gram(x: torch.Tensor) -> torch.Tensor:
    """(..., C, places) to (..., C, C)."""
    return x @ x.mT / x.shape[-1]


def texture(change: torch.Tensor, octaves: int = 3) -> list[torch.Tensor]:
    """How strong a change (B, 3, s, s) is in each of its finest octaves, by places of 8 pixels.

    Returns [(B, 1, s / 8, s / 8), ...].

    Where a wrinkle lies can only be guessed, and a mean over guesses is smooth; that there are wrinkles is
    certain.
    """
    grey = grey_of(change)
    result = []
    for _ in range(octaves):
        low = F.avg_pool2d(grey, 2)
        band = grey - F.interpolate(low, scale_factor=2, mode="bilinear")
        energy = F.avg_pool2d(band.square(), min(8, band.shape[-1]))
        result.append((energy + 1e-5).sqrt())
        grey = low
    return result


class BoundedGradient(torch.autograd.Function):
    """Pictures as they are, whose gradient is at most `longest` long in each row.

    In the one face of a batch that a network misread, its gradient was twenty times LPIPS's, and most of it
    noise.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, longest: float) -> torch.Tensor:
        ctx.longest = longest
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        gradient = gradients[0]
        norm = gradient.flatten(1).norm(dim=1)
        share = (ctx.longest / norm.clamp_min(1e-12)).clamp_max(1)
        return gradient * share[:, None, None, None], None


def bound_gradient(x: torch.Tensor, longest: float) -> torch.Tensor:
    """x (B, C, s, s), whose gradient is cut to a length in each row."""
    return BoundedGradient.apply(x, longest)  # pyright: ignore[reportReturnType] (apply has no type)


class AgeLook(NamedTuple):
    """What the judges see of age.

    Years (B, judges), the logit of male against female (B,), and the age network's features, with unit length
    at every place.
    """

    years: torch.Tensor
    male: torch.Tensor
    features: list[torch.Tensor]


def _male_logit(outputs: torch.Tensor) -> torch.Tensor:
    """The logit of male against female, (B,), of the age network's two outputs (B, 2)."""
    return (outputs[:, 0] - outputs[:, 1]).float()


def _grid_matrix(crop: npt.NDArray[np.floating[Any]]) -> torch.Tensor:
    """A crop (2, 3), from unit square to unit square, as `F.affine_grid` wants it.

    From -1..1 to -1..1, inverted.
    """
    inverse = np.linalg.inv(np.vstack([crop, [0, 0, 1]]))[:2]
    theta = inverse.copy()
    theta[:, 2] = 2 * inverse[:, 2] + inverse[:, :2].sum(1) - 1
    return torch.tensor(theta, dtype=torch.float32)


class Judges(nn.Module):
    """Apparent age, gender, expression and identity of aligned pictures (B, 3, s, s) in -1..1, by the
    networks that ship with the app.

    Args:
        weights: folder of the networks. second: the wheel of another age judge (see `second_judge`), to be
        asked too.
    """

    age_crop: torch.Tensor
    identity_crop: torch.Tensor
    second_crop: torch.Tensor
    second_mean: torch.Tensor
    second_scale: torch.Tensor
    second_years: torch.Tensor

    def __init__(self, weights: str | Path, second: str | Path | None = None) -> None:
        super().__init__()
        self.age_network = OnnxModule(Path(weights) / AGE_NETWORK)
        self.expression_network = OnnxModule(Path(weights) / EXPRESSION_NETWORK)
        self.identity_network = OnnxModule(Path(weights) / IDENTITY_NETWORK)
        self.second_network = None
        if second:
            judge = read_wheel(second)
            self.second_network = OnnxModule(judge.model)
            self.register_buffer("second_mean", torch.as_tensor(judge.mean))
            self.register_buffer("second_scale", torch.as_tensor(judge.scale))
            self.register_buffer("second_years", torch.as_tensor(judge.years))
        self.register_buffer("age_crop", _grid_matrix(AGE_CROP))
        self.register_buffer("identity_crop", _grid_matrix(IDENTITY_CROP))
        self.register_buffer("second_crop", _grid_matrix(CHIP))
        self.requires_grad_(False)

    @staticmethod
    def _crop(x: torch.Tensor, theta: torch.Tensor, size: int) -> torch.Tensor:
        """(B, 3, size, size) in 0..255, cut out of x."""
        grid = F.affine_grid(theta.expand(len(x), -1, -1), [len(x), 3, size, size], align_corners=False)
        picture = F.grid_sample(x.contiguous(), grid, padding_mode="border", align_corners=False)
        return ((picture + 1) * 127.5).contiguous(memory_format=torch.channels_last)

    def look(self, x: torch.Tensor) -> AgeLook:
        """What the judges see of age."""
        crop = self._crop(x, self.age_crop, AGE_INPUT)
        taps = [*self.age_network.outputs[:2], *AGE_TAPS]
        first, genders, *features = self.age_network(crop, taps)
        years = [first.reshape(-1).float()]
        if self.second_network:
            chip = (self._crop(x, self.second_crop, CHIP_PIXELS) - self.second_mean) * self.second_scale
            years.append(self.second_network(chip)[0].float() @ self.second_years)
        units = [_unit_length(v.float(), 1e-4) for v in features]
        return AgeLook(torch.stack(years, 1), _male_logit(genders), units)

    def gender(self, x: torch.Tensor) -> torch.Tensor:
        """The age network's logit of male against female, (B,)."""
        crop = self._crop(x, self.age_crop, AGE_INPUT)
        return _male_logit(self.age_network(crop, self.age_network.outputs[1:2])[0])

    def mood(self, x: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of `estimators.EXPRESSION_CLASSES`, (B, 7)."""
        return self.expression_network(self._crop(x, self.age_crop, AGE_INPUT))[0].float().log_softmax(1)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 128) identity embeddings."""
        return self.identity_network(self._crop(x, self.identity_crop, IDENTITY_INPUT))[0]
