"""S25-S28: the elastic generator. 24 convolutions, 8 upsamplings, 8 fully connected; any r, any c.

Style modulation and demodulation as in StyleGAN2 (Karras et al., 2020); elasticity as in Anycost GANs (Lin et al.,
2021), with the patent's rule: the first c*N kernels of every layer.
"""
import torch
import torch.nn.functional as F
from torch import nn

from agedit.submodel import FEATURES, START, STYLE, WIDTHS, blocks, kept


class StyledConv(nn.Conv2d):
    """3x3 convolution, modulated by w and demodulated; `extra` photo channels come first and are not modulated.

    Scaling the activations before and after the convolution equals scaling the kernel and keeps one kernel per batch.
    """

    def __init__(self, cin, cout, extra=0):
        super().__init__(cin + extra, cout, 3, padding=1)
        self.extra = extra
        nn.init.normal_(self.weight, std=(2 / (9 * (cin + extra))) ** 0.5)
        if extra:       # few channels, but what the change must follow: give them a third of the output at first
            nn.init.normal_(self.weight.data[:, :extra], std=(1 / (9 * extra)) ** 0.5)
        nn.init.zeros_(self.bias)
        # small: at first every person is modulated alike, and training finds what must differ
        self.style_weight = nn.Parameter(torch.randn(cin, STYLE) * 0.25 / STYLE ** 0.5)
        self.style_bias = nn.Parameter(torch.ones(cin))

    def forward(self, x, w, cout, photo=None, upsample=None):
        """x is upsampled after its modulation, which commutes with it and costs a quarter there."""
        n = x.shape[1]
        style = F.linear(w, self.style_weight[:n], self.style_bias[:n])
        weight = self.weight[:cout, :n + self.extra]
        energy = weight.float().square().sum((2, 3))
        square = style.float().square()
        demod = torch.rsqrt(F.linear(square, energy[:, self.extra:]) + energy[:, :self.extra].sum(1) + 1e-4) * 2 ** 0.5
        x = x * style[:, :, None, None].to(x.dtype)
        if upsample is not None:
            x = upsample(x)
        if self.extra:
            x = torch.cat([photo, x], 1)
        x = F.conv2d(x, weight.to(x.dtype), None, padding=1)
        x = torch.addcmul(self.bias[:cout, None, None].to(x.dtype), x, demod[:, :, None, None].to(x.dtype))
        return F.leaky_relu_(x, 0.2)


class Block(nn.Module):
    """g_r: upsampling, two styled convolutions, to-RGB; adds its picture to the upsampled one from below."""

    def __init__(self, cin, cout):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv1 = StyledConv(cin, cout, extra=3)
        self.conv2 = StyledConv(cout, cout)
        self.to_rgb = nn.Conv2d(cout, 3, 1)
        nn.init.normal_(self.to_rgb.weight, std=0.1 / cout ** 0.5)
        nn.init.zeros_(self.to_rgb.bias)

    def forward(self, x, rgb, w, photo, cout):
        x = self.conv1(x, w, cout, photo, self.upsample)
        x = self.conv2(x, w, cout)
        new = F.conv2d(x, self.to_rgb.weight[:, :cout].to(x.dtype), self.to_rgb.bias.to(x.dtype))
        return x, new if rgb is None else new + self.upsample(rgb)


class Generator(nn.Module):
    """G_{r,c}(f, photo).

    Args of forward:
        f: (B, 512), E's features, shifted or not. photo: (B, 3, R, R) in -1..1, R >= r, or None for the strict form.
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
            with torch.autocast(f.device.type, enabled=False):      # a shift of f is small beside bf16's steps
                w = f
                for layer in self.mapping:
                    w = F.leaky_relu(layer(w), 0.2)
            *below, (top, _, cout) = blocks(r, c)
            x, rgb, pyramid = self._below(f, photo, w, r, c, below)
        block = self.blocks[str(top)]
        if patch is None:
            return block(x, rgb, w, pyramid[r], cout)[1].float()
        row, column, edge = patch
        cut = lambda v, k: v[:, :, k * row:k * (row + edge), k * column:k * (column + edge)].contiguous(
            memory_format=torch.channels_last)
        return block(cut(x, 1), cut(rgb, 1), w, cut(pyramid[r], 2), cout)[1].float(), rgb.float()

    def _below(self, f, photo, w, r, c, below):
        """Features and picture under the top block, and the photo at every resolution."""
        dtype = torch.get_autocast_dtype(f.device.type) if torch.is_autocast_enabled(f.device.type) else f.dtype
        x = self.start[:, :kept(START, c)].to(dtype).expand(len(f), -1, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        if photo is None:
            photo = torch.zeros(len(f), 3, r, r, device=f.device)
        pyramid = photo_pyramid(photo.to(dtype), r)
        rgb = None
        for size, _, cout in below:
            x, rgb = self.blocks[str(size)](x, rgb, w, pyramid[size], cout)
        return x, rgb, pyramid


def photo_pyramid(photo, r):
    """{block resolution: photo shrunk to it by areas}, for a photo of r or more pixels."""
    photo = photo.contiguous(memory_format=torch.channels_last)
    pyramid = {}
    for size in sorted((s for s in WIDTHS if s <= r), reverse=True):
        photo = F.avg_pool2d(photo, photo.shape[-1] // size) if photo.shape[-1] > size else photo
        pyramid[size] = photo
    return pyramid
