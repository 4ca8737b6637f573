"""S25-S28: the elastic generator. 24 convolutions, 8 upsamplings, 8 fully connected; any r, any c.

Style modulation and demodulation as in StyleGAN2 (Karras et al., 2020); elasticity as in Anycost GANs (Lin et al.,
2021), with the patent's rule: the first c*N kernels of every layer.
"""

import torch
import torch.nn.functional as F
from torch import nn

from agedit.submodel import FEATURES, START, STYLE, WIDTHS, blocks, kept


class Twice(torch.autograd.Function):
    """Bilinear upsampling by two, with its exact gradient as a depthwise convolution: four times as fast on a CPU."""

    @staticmethod
    def forward(ctx, x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    @staticmethod
    def backward(ctx, gradient):
        if gradient.is_cuda:
            return Twice.by_means(gradient)
        line = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=gradient.dtype, device=gradient.device)
        padded, c = F.pad(gradient, (1, 1, 1, 1), "replicate"), gradient.shape[1]
        return F.conv2d(padded, (line[:, None] * line).expand(c, 1, 4, 4), stride=2, groups=c)

    @staticmethod
    def by_means(gradient):
        """The same by means over 4 and over 2 pixels each way: depthwise convolutions are slow on a GPU."""
        wide = F.pad(gradient, (1, 1, 1, 1), "replicate")
        return sum(
            F.avg_pool2d(wide[:, :, a : wide.shape[2] - a, b : wide.shape[3] - b], (4 - 2 * a, 4 - 2 * b), 2)
            for a in (0, 1)
            for b in (0, 1)
        )


class Upsample(nn.Upsample):
    """(B, C, s, s) to (B, C, 2 s, 2 s), bilinear."""

    def __init__(self):
        super().__init__(scale_factor=2, mode="bilinear")

    def forward(self, x):
        return Twice.apply(x)


class StyledConv(nn.Conv2d):
    """3x3 convolution, modulated by w and demodulated; `extra` photo channels come first and are not modulated.

    Scaling the activations before and after the convolution equals scaling the kernel and keeps one kernel per batch.
    The demodulation comes after bias and activation: it then is one multiplication with the next layer's modulation,
    and convolution, bias and activation stay one operation with constant weights.
    """

    def __init__(self, cin, cout, extra=0):
        super().__init__(cin + extra, cout, 3, padding=1)
        self.extra = extra
        nn.init.normal_(self.weight, std=(2 / (9 * (cin + extra))) ** 0.5)
        if extra:  # few channels, but what the change must follow: give them a third of the output at first
            nn.init.normal_(self.weight.data[:, :extra], std=(1 / (9 * extra)) ** 0.5)
        nn.init.zeros_(self.bias)
        # small: at first every person is modulated alike, and training finds what must differ
        self.style_weight = nn.Parameter(torch.randn(cin, STYLE) * 0.25 / STYLE**0.5)
        self.style_bias = nn.Parameter(torch.ones(cin))

    def forward(self, x, scale, w, cout, photo=None, upsample=None):
        """x (B, C, s, s) and the `scale` (B, C) that it still has to be multiplied with; returns the same of the output.

        x is upsampled after that multiplication, which commutes with it and costs a quarter there.
        """
        n = x.shape[1]
        style = F.linear(w, self.style_weight[:n], self.style_bias[:n])
        weight = self.weight[:cout, : n + self.extra]
        energy = weight.float().square().sum((2, 3))
        square = style.float().square()
        demod = (
            torch.rsqrt(F.linear(square, energy[:, self.extra :]) + energy[:, : self.extra].sum(1) + 1e-4)
            * 2**0.5
        )
        x = x * (style * scale)[:, :, None, None].to(x.dtype)
        if upsample is not None:
            x = upsample(x)
        weight = weight.to(x.dtype)
        x = F.conv2d(x, weight[:, self.extra :], self.bias[:cout].to(x.dtype), padding=1)
        if self.extra:
            x = x.add_(F.conv2d(photo, weight[:, : self.extra], padding=1))
        return F.leaky_relu_(x, 0.2), demod


class Block(nn.Module):
    """g_r: upsampling, two styled convolutions, to-RGB; adds its picture to the upsampled one from below."""

    def __init__(self, cin, cout):
        super().__init__()
        self.upsample = Upsample()
        self.conv1 = StyledConv(cin, cout, extra=3)
        self.conv2 = StyledConv(cout, cout)
        self.to_rgb = nn.Conv2d(cout, 3, 1)
        nn.init.normal_(self.to_rgb.weight, std=0.1 / cout**0.5)
        nn.init.zeros_(self.to_rgb.bias)

    def forward(self, x, scale, rgb, w, photo, cout):
        x, scale = self.conv1(x, scale, w, cout, photo, self.upsample)
        x, scale = self.conv2(x, scale, w, cout)
        weight = (self.to_rgb.weight[:, :cout, 0, 0] * scale[:, None]).to(
            x.dtype
        )  # (B, 3, C): the scale is in it
        new = (x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.mT).mT.unflatten(2, x.shape[2:])
        new = new + self.to_rgb.bias[:, None, None].to(x.dtype)
        return x, scale, new if rgb is None else new + self.upsample(rgb)


class Generator(nn.Module):
    """G_{r,c}(f, photo).

    Args of forward:
        f: (B, 512), E's features, shifted or not. photo: (B, 3, R, R) in -1..1, R >= r; None: zeros.
        r: output resolution, a key of WIDTHS. c: channel ratio.
        patch: (row, column, edge) in pixels of r / 2: only that part goes through the top block, and the blocks below
        run without gradient. To train a high block at a fraction of its cost (its convolutions are local).

    Returns:
        (B, 3, r, r) in about -1..1. Of a patch: (B, 3, 2 edge, 2 edge), and the whole picture below, (B, 3, r / 2, r / 2).
    """

    def __init__(self, largest=1024):
        super().__init__()
        self.mapping = nn.ModuleList(nn.Linear(FEATURES if i == 0 else STYLE, STYLE) for i in range(8))
        for layer in self.mapping:
            nn.init.normal_(layer.weight, std=(2 / FEATURES) ** 0.5)
            nn.init.zeros_(layer.bias)
        self.start = nn.Parameter(torch.randn(1, START, 4, 4))
        self.blocks = nn.ModuleDict({str(size): Block(cin, cout) for size, cin, cout in blocks(largest)})

    def forward(self, f, photo=None, r=1024, c=1.0, patch=None):
        with torch.set_grad_enabled(torch.is_grad_enabled() and patch is None):
            with torch.autocast(f.device.type, enabled=False):  # a shift of f is small beside bf16's steps
                w = f
                for layer in self.mapping:
                    w = F.leaky_relu(layer(w), 0.2)
            *below, (top, _, cout) = blocks(r, c)
            x, scale, rgb, pyramid = self._below(f, photo, w, r, c, below)
        block = self.blocks[str(top)]
        if patch is None:
            return block(x, scale, rgb, w, pyramid[r], cout)[2].float()
        row, column, edge = patch
        cut = lambda v, k: v[:, :, k * row : k * (row + edge), k * column : k * (column + edge)].contiguous(
            memory_format=torch.channels_last
        )
        return block(cut(x, 1), scale, cut(rgb, 1), w, cut(pyramid[r], 2), cout)[2].float(), rgb.float()

    def _below(self, f, photo, w, r, c, below):
        """Features, their scale and the picture under the top block, and the photo at every resolution."""
        dtype = (
            torch.get_autocast_dtype(f.device.type) if torch.is_autocast_enabled(f.device.type) else f.dtype
        )
        x = self.start[:, : kept(START, c)].to(dtype).expand(len(f), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        if photo is None:
            photo = torch.zeros(len(f), 3, r, r, device=f.device)
        pyramid = photo_pyramid(photo.to(dtype), r)
        scale, rgb = torch.ones(1, x.shape[1], device=f.device), None
        for size, _, cout in below:
            x, scale, rgb = self.blocks[str(size)](x, scale, rgb, w, pyramid[size], cout)
        return x, scale, rgb, pyramid


def photo_pyramid(photo, r):
    """{block resolution: photo shrunk to it by areas}, for a photo of r or more pixels."""
    photo = photo.contiguous(memory_format=torch.channels_last)
    pyramid = {}
    for size in sorted((s for s in WIDTHS if s <= r), reverse=True):
        photo = F.avg_pool2d(photo, photo.shape[-1] // size) if photo.shape[-1] > size else photo
        pyramid[size] = photo
    return pyramid
