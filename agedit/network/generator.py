"""S25-S28: the elastic generator. 24 convolutions, 8 upsamplings, 8 fully connected; any r, any c.

Style modulation and demodulation as in StyleGAN2 (Karras et al., 2020); elasticity as in Anycost GANs (Lin et
al., 2021), with the patent's rule: the first c*N kernels of every layer.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from agedit.submodel import (
    DEMODULATION_EPSILON,
    FEATURES,
    LEAKY_SLOPE,
    MAPPING_LAYERS,
    PHOTO_CHANNELS,
    START,
    STYLE,
    WIDTHS,
    blocks,
    kept_channels,
)


class Patch(NamedTuple):
    """The square of a picture that the top block is trained on, in pixels of the block below it (r / 2)."""

    row: int
    column: int
    edge: int


class UpsampleTwice(torch.autograd.Function):
    """Bilinear upsampling by two, with its exact gradient as a depthwise convolution.

    Four times as fast on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        gradient = gradients[0]
        if gradient.is_cuda:
            return UpsampleTwice.backward_by_pooling(gradient)
        line = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=gradient.dtype, device=gradient.device)
        channels = gradient.shape[1]
        kernel = (line[:, None] * line).expand(channels, 1, 4, 4)
        padded = F.pad(gradient, (1, 1, 1, 1), "replicate")
        return F.conv2d(padded, kernel, stride=2, groups=channels)

    @staticmethod
    def backward_by_pooling(gradient: torch.Tensor) -> torch.Tensor:
        """The same by means over 4 and over 2 pixels each way: depthwise convolutions are slow on a GPU."""
        padded = F.pad(gradient, (1, 1, 1, 1), "replicate")
        height, width = padded.shape[2:]
        total = torch.zeros((), dtype=gradient.dtype, device=gradient.device)
        for top in (0, 1):
            for left in (0, 1):
                inside = padded[:, :, top : height - top, left : width - left]
                total = total + F.avg_pool2d(inside, (4 - 2 * top, 4 - 2 * left), 2)
        return total


class Upsample(nn.Upsample):
    """(B, C, s, s) to (B, C, 2 s, 2 s), bilinear."""

    def __init__(self) -> None:
        super().__init__(scale_factor=2, mode="bilinear")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return UpsampleTwice.apply(input)  # pyright: ignore[reportReturnType] (apply has no type)


class StyledConv(nn.Conv2d):
    """3x3 convolution, modulated by w and demodulated.

    `extra` photo channels come first and are not modulated.

    Scaling the activations before and after the convolution equals scaling the kernel, and one kernel then
    serves the whole batch. The demodulation comes after bias and activation: it then is one multiplication
    with the next layer's modulation, and convolution, bias and activation stay one operation with constant
    weights.
    """

    def __init__(self, cin: int, cout: int, extra: int = 0) -> None:
        super().__init__(cin + extra, cout, 3, padding=1)
        assert self.bias is not None
        self.extra = extra
        nn.init.normal_(self.weight, std=(2 / (9 * (cin + extra))) ** 0.5)
        if extra:
            # Few channels, but the change must follow them: they get a third of the output at first.
            nn.init.normal_(self.weight.data[:, :extra], std=(1 / (9 * extra)) ** 0.5)
        nn.init.zeros_(self.bias)
        # Small: at first every person is modulated alike, and training finds what must differ.
        self.style_weight = nn.Parameter(torch.randn(cin, STYLE) * 0.25 / STYLE**0.5)
        self.style_bias = nn.Parameter(torch.ones(cin))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (a layer with more inputs)
        self,
        x: torch.Tensor,
        scale: torch.Tensor,
        w: torch.Tensor,
        cout: int,
        photo: torch.Tensor | None = None,
        upsample: Upsample | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer cut to `cout` kernels and to the channels that x has.

        Args:
            x: (B, C, s, s). scale: (B, C), what x still has to be multiplied by. w: (B, STYLE).
            photo: (B, extra, s, s) where the layer has photo channels.
            upsample: applied to x after the modulation, which commutes with it and costs a quarter there.

        Returns:
            The output (B, cout, s, s), and what it still has to be multiplied by, (B, cout).
        """
        assert self.bias is not None
        n = x.shape[1]
        style = F.linear(w, self.style_weight[:n], self.style_bias[:n])
        weight = self.weight[:cout, : n + self.extra]
        energy = weight.float().square().sum((2, 3))
        styled_energy = F.linear(style.float().square(), energy[:, self.extra :])
        photo_energy = energy[:, : self.extra].sum(1)
        demodulation = torch.rsqrt(styled_energy + photo_energy + DEMODULATION_EPSILON) * 2**0.5
        x = x * (style * scale)[:, :, None, None].to(x.dtype)
        if upsample is not None:
            x = upsample(x)
        weight = weight.to(x.dtype)
        x = F.conv2d(x, weight[:, self.extra :], self.bias[:cout].to(x.dtype), padding=1)
        if photo is not None:
            x = x.add_(F.conv2d(photo, weight[:, : self.extra], padding=1))
        return F.leaky_relu_(x, LEAKY_SLOPE), demodulation


class Block(nn.Module):
    """g_r: upsampling, two styled convolutions, to-RGB; adds its picture to the upsampled one from below."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.upsample = Upsample()
        self.conv1 = StyledConv(cin, cout, extra=PHOTO_CHANNELS)
        self.conv2 = StyledConv(cout, cout)
        self.to_rgb = nn.Conv2d(cout, 3, 1)
        assert self.to_rgb.bias is not None
        nn.init.normal_(self.to_rgb.weight, std=0.1 / cout**0.5)
        nn.init.zeros_(self.to_rgb.bias)

    def forward(
        self,
        x: torch.Tensor,
        scale: torch.Tensor,
        rgb: torch.Tensor | None,
        w: torch.Tensor,
        photo: torch.Tensor,
        cout: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """From features (B, cin, s / 2, s / 2), their scale and the picture below to the same at s pixels."""
        assert self.to_rgb.bias is not None
        x, scale = self.conv1(x, scale, w, cout, photo, self.upsample)
        x, scale = self.conv2(x, scale, w, cout)
        # (B, 3, C), with the features' scale in it.
        weight = (self.to_rgb.weight[:, :cout, 0, 0] * scale[:, None]).to(x.dtype)
        picture = (x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.mT).mT.unflatten(2, x.shape[2:])
        picture = picture + self.to_rgb.bias[:, None, None].to(x.dtype)
        if rgb is not None:
            picture = picture + self.upsample(rgb)
        return x, scale, picture


class Generator(nn.Module):
    """G_{r,c}(f, photo): `forward` gives a whole picture, `forward_patch` a part of it."""

    def __init__(self, largest: int = 1024) -> None:
        super().__init__()
        self.mapping = nn.ModuleList(
            nn.Linear(FEATURES if i == 0 else STYLE, STYLE) for i in range(MAPPING_LAYERS)
        )
        for layer in self.mapping:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=(2 / FEATURES) ** 0.5)
            nn.init.zeros_(layer.bias)
        self.start = nn.Parameter(torch.randn(1, START, 4, 4))
        self.blocks = nn.ModuleDict({str(size): Block(cin, cout) for size, cin, cout in blocks(largest)})

    def forward(
        self, f: torch.Tensor, photo: torch.Tensor | None = None, r: int = 1024, c: float = 1.0
    ) -> torch.Tensor:
        """A whole picture, (B, 3, r, r) in about -1..1.

        Args:
            f: (B, 512), E's features, shifted or not. photo: (B, 3, R, R) in -1..1, R >= r; None: zeros.
            r: output resolution, a key of WIDTHS. c: channel ratio.
        """
        w = self.style(f)
        pyramid = self._pyramid(f, photo, r)
        x, scale, rgb = self._below(w, pyramid, r, c)
        top, _, cout = blocks(r, c)[-1]
        return self.blocks[str(top)](x, scale, rgb, w, pyramid[r], cout)[2].float()

    def forward_patch(
        self, f: torch.Tensor, photo: torch.Tensor, r: int, c: float, patch: Patch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A part of the picture.

        Only it goes through the top block, and the blocks below run without gradient.

        A high block is trained so at a fraction of its cost (its convolutions are local).

        Returns:
            The patch (B, 3, 2 edge, 2 edge), and the whole picture below the top block, (B, 3, r / 2, r / 2).
        """
        with torch.no_grad():
            w = self.style(f)
            pyramid = self._pyramid(f, photo, r)
            x, scale, rgb = self._below(w, pyramid, r, c)
        assert rgb is not None
        top, _, cout = blocks(r, c)[-1]
        part = self.blocks[str(top)](
            cut(x, patch), scale, cut(rgb, patch), w, cut(pyramid[r], patch, 2), cout
        )[2]
        return part.float(), rgb.float()

    def style(self, f: torch.Tensor) -> torch.Tensor:
        """w (B, STYLE) of f; never in bf16, whose steps are too large beside a shift of f."""
        with torch.autocast(f.device.type, enabled=False):
            w = f
            for layer in self.mapping:
                w = F.leaky_relu(layer(w), LEAKY_SLOPE)
        return w

    @staticmethod
    def _pyramid(f: torch.Tensor, photo: torch.Tensor | None, r: int) -> dict[int, torch.Tensor]:
        """The photo at every resolution up to r, in the type that the convolutions compute in."""
        if photo is None:
            photo = torch.zeros(len(f), PHOTO_CHANNELS, r, r, device=f.device)
        return photo_pyramid(photo.to(convolution_type(f)), r)

    def _below(
        self, w: torch.Tensor, pyramid: dict[int, torch.Tensor], r: int, c: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Features, their scale and the picture (None where there is none yet) under the top block of
        G_{r,c}.
        """
        x = self.start[:, : kept_channels(START, c)].to(pyramid[r].dtype).expand(len(w), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        scale = torch.ones(1, x.shape[1], device=w.device)
        rgb = None
        for size, _, cout in blocks(r, c)[:-1]:
            x, scale, rgb = self.blocks[str(size)](x, scale, rgb, w, pyramid[size], cout)
        return x, scale, rgb


def convolution_type(x: torch.Tensor) -> torch.dtype:
    """The type that autocast computes convolutions in, or x's own."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def cut(x: torch.Tensor, patch: Patch, factor: int = 1) -> torch.Tensor:
    """The patch of x (B, C, s, s), which has `factor` times as many pixels as the patch is counted in."""
    rows = slice(factor * patch.row, factor * (patch.row + patch.edge))
    columns = slice(factor * patch.column, factor * (patch.column + patch.edge))
    return x[:, :, rows, columns].contiguous(memory_format=torch.channels_last)


def photo_pyramid(photo: torch.Tensor, r: int) -> dict[int, torch.Tensor]:
    """{block resolution: photo shrunk to it by areas}, for a photo of r or more pixels."""
    photo = photo.contiguous(memory_format=torch.channels_last)
    pyramid = {}
    for size in sorted((s for s in WIDTHS if s <= r), reverse=True):
        if photo.shape[-1] > size:
            photo = F.avg_pool2d(photo, photo.shape[-1] // size)
        pyramid[size] = photo
    return pyramid
