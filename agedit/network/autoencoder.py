"""S21: the autoencoder whose encoder E turns an aligned face into 512 numbers."""

import torch
from torch import nn

# Length of f.
FEATURES = 512
# Pixels across the encoder's input.
INPUT = 128
# Pixels across the decoder's output.
DECODED = 64
# Pixels across the sketch.
SKETCH = 32

# (output channels, stride) of the ten convolutions (S21); the max-pool follows the second. The last kernel
# spans all that is left of the picture: the pool after it averages a single place, so f knows where in the
# face a thing is.
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

    Input (B, 3, 128, 128) in -1..1; output f (B, 512), which after training has mean 0 and unit covariance.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i, (width, stride) in enumerate(CONVOLUTIONS):
            is_last = i == len(CONVOLUTIONS) - 1
            size = INPUT // 32 if is_last else 3
            padding = 0 if is_last else 1
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
    def layers(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Each convolution with the batch norm that follows it, in order."""
        convolutions = [module for module in self.body if isinstance(module, nn.Conv2d)]
        norms = [module for module in self.body if isinstance(module, nn.BatchNorm2d)]
        return list(zip(convolutions, norms, strict=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.body(x)).flatten(1))


class Decoder(nn.Module):
    """Dec.

    3 convolutions, 3 upsamplings; reads f as 8 x 8 x 8 and grows to (B, 3, 64, 64) in about -1..1 (S21).
    """

    def __init__(self) -> None:
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

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return self.body(f.view(-1, 8, 8, 8))


class Sketch(nn.Linear):
    """A linear picture of f: (B, 512) to (B, 3, 32, 32) in about -1..1.

    Dec's kernels are the same everywhere, so they cannot use that a mouth is always where mouths are; one
    matrix can. In the strict form, where f is all there is, G sees the sketch instead of the photo.
    """

    def __init__(self) -> None:
        super().__init__(FEATURES, 3 * SKETCH * SKETCH)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).unflatten(1, (3, SKETCH, SKETCH))


class Autoencoder(nn.Module):
    """x_hat = Dec(E(x)) (S22); the loss is the mean squared error of Dec (S23) and of the sketch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.sketch = Sketch()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))

    @torch.no_grad()
    def whiten(self, f: torch.Tensor) -> None:
        """Make features like f (N, 512) zero-mean and uncorrelated with variance 1, moving each as little as
        can be (ZCA).

        The SVM's margin then weighs what is rare in faces as much as light and pose. E and the sketch change
        together, so the sketch's picture stays the same; Dec is not used any more.
        """
        mean = f.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(f.T))
        root = (values.clamp_min(0) + 1e-4 * values.mean()).sqrt()
        whitening = (vectors * (1 / root)) @ vectors.T
        colouring = (vectors * root) @ vectors.T
        self.sketch.bias.add_(self.sketch.weight @ mean)
        self.sketch.weight.copy_(self.sketch.weight @ colouring)
        self.encoder.fc.bias.copy_(whitening @ (self.encoder.fc.bias - mean))
        self.encoder.fc.weight.copy_(whitening @ self.encoder.fc.weight)
