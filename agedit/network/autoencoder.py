"""S21: the autoencoder whose encoder E turns an aligned face into 512 numbers."""
import torch
from torch import nn

FEATURES = 512
INPUT = 128           # pixels across the encoder's input
DECODED = 64          # pixels across the decoder's output

# out channels, stride of the ten convolutions; the max-pool follows the second
CONVOLUTIONS = ((32, 2), (64, 1), (128, 1), (128, 1), (192, 2), (192, 1), (256, 2), (256, 1), (384, 2), (1024, 1))


class Encoder(nn.Module):
    """E: 10 convolutions, 1 max-pool, 1 global average pool, 1 fully connected output (S21).

    Input (B, 3, 128, 128) in -1..1; output f (B, 512). `standardize` makes f zero-mean, unit-variance.
    """

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for i, (width, stride) in enumerate(CONVOLUTIONS):
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            if i == 1:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, FEATURES)

    def forward(self, x):
        return self.fc(self.pool(self.body(x)).flatten(1))

    @torch.no_grad()
    def standardize(self, mean, std):
        """Fold (f - mean) / std into the output layer; mean, std: (512,)."""
        self.fc.weight.div_(std[:, None])
        self.fc.bias.sub_(mean).div_(std)


class Decoder(nn.Module):
    """Dec: 3 convolutions, 3 upsamplings; reads f as 8 x 8 x 8 and grows to (B, 3, 64, 64) in about -1..1 (S21)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(8, 256, 3, 1, 1), nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(256, 128, 3, 1, 1), nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(128, 3, 3, 1, 1))

    def forward(self, f):
        return self.body(f.view(-1, 8, 8, 8))


class Autoencoder(nn.Module):
    """x_hat = Dec(E(x)) (S22); the loss is the mean squared error (S23)."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()

    def forward(self, x):
        return self.decoder(self.encoder(x))
