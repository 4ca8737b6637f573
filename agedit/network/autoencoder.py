"""S21: the autoencoder whose encoder E turns an aligned face into 512 numbers."""

import torch
from torch import nn

FEATURES = 512
INPUT = 128  # pixels across the encoder's input
DECODED = 64  # pixels across the decoder's output
SKETCH = 32  # pixels across the sketch

# out channels, stride of the ten convolutions; the max-pool follows the second. The last one spans what is left of the picture:
# the pool after it then averages one place, and f knows where in the face a thing is.
CONVOLUTIONS = (
    (32, 2),
    (64, 1),
    (128, 1),
    (128, 1),
    (192, 2),
    (192, 1),
    (256, 2),
    (256, 1),
    (384, 2),
    (1024, 1),
)


class Encoder(nn.Module):
    """E: 10 convolutions, 1 max-pool, 1 global average pool, 1 fully connected output (S21).

    Input (B, 3, 128, 128) in -1..1; output f (B, 512), once trained with mean 0 and the unit matrix as covariance.
    """

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for i, (width, stride) in enumerate(CONVOLUTIONS):
            size, padding = (3, 1) if i < len(CONVOLUTIONS) - 1 else (INPUT // 32, 0)
            layers += [
                nn.Conv2d(channels, width, size, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if i == 1:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, FEATURES)

    @property
    def layers(self):
        """[(convolution, its batch norm)] in order."""
        kinds = ([m for m in self.body if isinstance(m, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d))
        return list(zip(*kinds))

    def forward(self, x):
        return self.fc(self.pool(self.body(x)).flatten(1))


class Decoder(nn.Module):
    """Dec: 3 convolutions, 3 upsamplings; reads f as 8 x 8 x 8 and grows to (B, 3, 64, 64) in about -1..1 (S21)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 256, 3, 1, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(256, 128, 3, 1, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(128, 3, 3, 1, 1),
        )

    def forward(self, f):
        return self.body(f.view(-1, 8, 8, 8))


class Sketch(nn.Linear):
    """What f tells of the face by itself, linearly: f (B, 512) to (B, 3, 32, 32) in about -1..1.

    Dec's kernels are the same everywhere and cannot use that a mouth is always where mouths are; one matrix can. It is
    what G sees in the photo's place in the strict form, where f is all there is.
    """

    def __init__(self):
        super().__init__(FEATURES, 3 * SKETCH * SKETCH)

    def forward(self, f):
        return super().forward(f).unflatten(1, (3, SKETCH, SKETCH))


class Autoencoder(nn.Module):
    """x_hat = Dec(E(x)) (S22); the loss is the mean squared error (S23), of Dec and of the sketch."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.sketch = Encoder(), Decoder(), Sketch()

    def forward(self, x):
        return self.decoder(self.encoder(x))

    @torch.no_grad()
    def whiten(self, f):
        """Make features like f (N, 512) zero-mean and uncorrelated with variance 1, each as near to what it was as can be (ZCA).

        The SVM's margin then weighs what is rare in faces as much as light and pose. E and the sketch change alike; Dec is done with.
        """
        mean, (values, vectors) = f.mean(0), torch.linalg.eigh(torch.cov(f.T))
        root = (values.clamp_min(0) + 1e-4 * values.mean()).sqrt()
        whiten, back = (vectors * (1 / root)) @ vectors.T, (vectors * root) @ vectors.T
        self.sketch.bias.add_(self.sketch.weight @ mean)
        self.sketch.weight.copy_(self.sketch.weight @ back)
        self.encoder.fc.bias.copy_(whiten @ (self.encoder.fc.bias - mean))
        self.encoder.fc.weight.copy_(whiten @ self.encoder.fc.weight)
