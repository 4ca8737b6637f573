"""S25: the discriminator. 4 convolutions, 2 fully connected outputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from agedit.submodel import LEAKY_SLOPE

# A change is small beside a picture; D sees it this many times as strong.
CHANGE_GAIN = 4.0
# Channels of the trunk's features that the second, third and fourth convolution see (`losses.Perceptual`).
TRUNK = (64, 192, 384)


def trunk_inputs(
    features: Sequence[torch.Tensor], photo: Sequence[torch.Tensor], edited: torch.Tensor
) -> list[torch.Tensor]:
    """What D sees of a frozen trunk's features: the features, and how far they are from the photo's.

    Args:
        features: the trunk's features of the picture, [(B, C, h, w), ...].
        photo: the same of the photo that the picture was made from.
        edited: (B,) bool, False where the picture was not made from a photo.

    Returns:
        [(B, 2 C, h, w), ...], one for each of TRUNK.
    """
    result = []
    for x, before in zip(features[: len(TRUNK)], photo, strict=False):
        size = before.float().square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-3
        change = CHANGE_GAIN * (x - before) / size * edited[:, None, None, None]
        result.append(torch.cat([x / size, change], 1).to(x.dtype))
    return result


def pad_to(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, C, s, s) with zeros around it, (B, C, size, size)."""
    missing = size - x.shape[-1]
    before = missing // 2
    after = missing - before
    return F.pad(x, (before, after, before, after))


class Discriminator(nn.Module):
    """D(x, age, change, trunk): 4 strided convolutions, then 2 fully connected outputs at every place.

    The first output says real or not. The second is multiplied by the age that x should show (projection
    discriminator, Miyato & Koyama 2018), so the sum also says whether the age is right. Judging every place
    by itself, as in pix2pix (Isola et al., 2017), and seeing what was changed in the photo, teaches where
    wrinkles belong. A frozen trunk's features beside its own (Sauer et al., 2021) let D learn in minutes what
    pixels alone did not teach it in an hour.

    Args of forward:
        x: (B, 3, r, r) in -1..1, r >= 64. age: (B,), in units of 25 years from 45.
        change: (B, 3, r, r), x less the photo that it was made from; zeros where it was made from none.
        trunk: from `trunk_inputs`; each may be some pixels smaller than the features that it is joined to.

    Returns:
        Logits (B, r / 16, r / 16), and the features of the four convolutions.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = (6, width, width * 2, width * 4, width * 4)
        extra = (0, *TRUNK)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[i] + 2 * extra[i], channels[i + 1], 4, 2, 1) for i in range(4)
        )
        self.fc_real = nn.Linear(channels[-1], 1)
        self.fc_age = nn.Linear(channels[-1], 1)
        # PyTorch's default halves the signal in each layer, and D would hardly start.
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_normal_(conv.weight, LEAKY_SLOPE)
            nn.init.zeros_(conv.bias)

    def forward(
        self, x: torch.Tensor, age: torch.Tensor, change: torch.Tensor, trunk: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = torch.cat([x, CHANGE_GAIN * change], 1)
        features = []
        for k, conv in enumerate(self.convs):
            if k > 0:
                x = torch.cat([x, pad_to(trunk[k - 1], x.shape[-1])], 1)
            x = F.leaky_relu(conv(x), LEAKY_SLOPE)
            features.append(x)
        places = x.permute(0, 2, 3, 1).float()
        logits = self.fc_real(places) + age[:, None, None, None] * self.fc_age(places)
        return logits[..., 0], features
