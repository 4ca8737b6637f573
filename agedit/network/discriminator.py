"""S25: the discriminator. 4 convolutions, 2 fully connected outputs."""
import torch
import torch.nn.functional as F
from torch import nn


CHANGE = 4.0         # changes are small beside pictures


class Discriminator(nn.Module):
    """D(x, age, change): 4 strided convolutions, then 2 fully connected outputs at every place.

    The first output says real or not; the second is weighed by the age that x should show (projection discriminator,
    Miyato & Koyama 2018), so the sum also says whether the age is right. Judging every place for itself, as in
    pix2pix (Isola et al., 2017), and seeing what was changed in the photo, teaches where wrinkles belong.

    Args of forward:
        x: (B, 3, r, r) in -1..1, r >= 16. age: (B,), in units of 25 years from 45.
        change: (B, 3, r, r), x less the photo that it was made from; zeros where x was made from none.

    Returns:
        (B, r / 16, r / 16) logits, and the four convolutions' features.
    """

    def __init__(self, width=64):
        super().__init__()
        n = (6, width, width * 2, width * 4, width * 4)
        self.convs = nn.ModuleList(nn.Conv2d(n[i], n[i + 1], 4, 2, 1) for i in range(4))
        self.fc_real = nn.Linear(n[-1], 1)
        self.fc_age = nn.Linear(n[-1], 1)
        for conv in self.convs:             # PyTorch's default shrinks the signal by half a layer, and D hardly starts
            nn.init.kaiming_normal_(conv.weight, 0.2)
            nn.init.zeros_(conv.bias)

    def forward(self, x, age, change):
        x, features = torch.cat([x, CHANGE * change], 1), []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
            features.append(x)
        h = x.permute(0, 2, 3, 1).float()
        return (self.fc_real(h) + age[:, None, None, None] * self.fc_age(h))[..., 0], features
