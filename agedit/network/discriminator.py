"""S25: the discriminator. 4 convolutions, 2 fully connected outputs."""
import torch.nn.functional as F
from torch import nn


class Discriminator(nn.Module):
    """D(x, age): 4 strided convolutions, a mean over places, 2 fully connected outputs.

    The first output says real or not; the second is weighed by the age it should show (projection discriminator,
    Miyato & Koyama 2018), so the sum also says whether the age is right. Any resolution of 16 px or more.

    Args of forward:
        x: (B, 3, r, r) in -1..1. age: (B,), in units of 25 years from 45.

    Returns:
        (B,) logits.
    """

    def __init__(self, width=64):
        super().__init__()
        n = (3, width, width * 2, width * 4, width * 4)
        self.convs = nn.ModuleList(nn.Conv2d(n[i], n[i + 1], 4, 2, 1) for i in range(4))
        self.fc_real = nn.Linear(n[-1], 1)
        self.fc_age = nn.Linear(n[-1], 1)

    def forward(self, x, age):
        for i, conv in enumerate(self.convs):
            x = F.leaky_relu(conv(x), 0.2)
        x = x.float()
        h = x.mean((2, 3)) + x.std((2, 3))
        return self.fc_real(h)[:, 0] + age * self.fc_age(h)[:, 0]
