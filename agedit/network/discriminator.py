"""S25: the discriminator. 4 convolutions, 2 fully connected outputs."""

import torch
import torch.nn.functional as F
from torch import nn

CHANGE = 4.0  # changes are small beside pictures
TRUNK = (64, 192, 384)  # channels of the trunk's features that the second, third and fourth convolution see


def marks_of(features, photo, edited):
    """What D sees of a frozen trunk's features: them, and how far they are from the photo's, [(B, 2 C, h, w), ...].

    Args:
        features: the trunk's, of the picture. photo: the same of the photo that it was made from. edited: (B,) bool, False where it was made from none.
    """
    result = []
    for x, before in zip(features[: len(TRUNK)], photo):
        size = before.float().square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-3
        result.append(
            torch.cat([x / size, CHANGE * (x - before) / size * edited[:, None, None, None]], 1).to(x.dtype)
        )
    return result


class Discriminator(nn.Module):
    """D(x, age, change, trunk): 4 strided convolutions, then 2 fully connected outputs at every place.

    The first output says real or not; the second is weighed by the age that x should show (projection discriminator,
    Miyato & Koyama 2018), so the sum also says whether the age is right. Judging every place for itself, as in
    pix2pix (Isola et al., 2017), and seeing what was changed in the photo, teaches where wrinkles belong. A frozen
    trunk's features beside its own (Sauer et al., 2021) let it learn in minutes what pixels alone did not teach it in an hour.

    Args of forward:
        x: (B, 3, r, r) in -1..1, r >= 64. age: (B,), in units of 25 years from 45.
        change: (B, 3, r, r), x less the photo that it was made from; zeros where x was made from none.
        trunk: what `marks_of` gives of `losses.Perceptual.features`, some pixels smaller than the own features that they go with.

    Returns:
        (B, r / 16, r / 16) logits, and the four convolutions' features.
    """

    def __init__(self, width=32):
        super().__init__()
        n, extra = (6, width, width * 2, width * 4, width * 4), (0, *TRUNK)
        self.convs = nn.ModuleList(nn.Conv2d(n[i] + 2 * extra[i], n[i + 1], 4, 2, 1) for i in range(4))
        self.fc_real = nn.Linear(n[-1], 1)
        self.fc_age = nn.Linear(n[-1], 1)
        for conv in self.convs:  # PyTorch's default shrinks the signal by half a layer, and D hardly starts
            nn.init.kaiming_normal_(conv.weight, 0.2)
            nn.init.zeros_(conv.bias)

    def forward(self, x, age, change, trunk):
        x, features = torch.cat([x, CHANGE * change], 1), []
        for k, conv in enumerate(self.convs):
            if k:
                more = trunk[k - 1]
                missing = x.shape[-1] - more.shape[-1]
                x = torch.cat([x, F.pad(more, (missing // 2, missing - missing // 2) * 2)], 1)
            x = F.leaky_relu(conv(x), 0.2)
            features.append(x)
        h = x.permute(0, 2, 3, 1).float()
        return (self.fc_real(h) + age[:, None, None, None] * self.fc_age(h))[..., 0], features
