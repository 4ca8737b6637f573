"""Stage `autoencoder` (S21-S24).

E and Dec by mean squared error; E and the sketch are kept, with f whitened.

E starts as the best linear code. Its first nine convolutions pass the picture through at 32 px, in their
first channels (nearly: the max-pool is not linear). The tenth and the output layer are solved for the 512
principal components, turned so that each number belongs to one of 8 x 8 places, as Dec reads them. Training
goes on from there.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.network.autoencoder import DECODED, FEATURES, INPUT, SKETCH, Autoencoder, Encoder
from agedit.training.common import AUTOENCODER_FILE, Device, load_checkpoint, place, save_checkpoint
from agedit.training.data import Crops
from agedit.training.images import batch_of, save_sheet, shrink
from agedit.training.signals import STOPPED, stop_on_signal

# Standard deviations that the passed channels are lifted by: above 0 a ReLU is linear.
LINEAR = 3.0
# Pictures, and as many mirrored, that the start is solved for; batches of them that settle the norms.
SOLVED = 4000
SETTLING = 8
# E's rate over Dec's: E starts solved, Dec from noise.
ENCODER_SHARE = 0.1
# Adam's.
BETAS = (0.9, 0.99)
# Steps in which the rate is reached, and the power by which it falls to 0.
WARM_UP = 50
RATE_POWER = 0.7
# Share of a step in the running loss.
FOLLOW = 0.02
# Steps between two checkpoints.
SAVE_EVERY = 500
# Pictures that are read at once outside of training.
TOGETHER = 64
# Held-out pictures that are judged: every third, so many at most. Pictures on the sheet.
JUDGED_EVERY = 3
JUDGED = 768
SHEET = 12
# Training pictures that f is whitened by.
WHITENED = 8192

# (number of the set, row in it) of a picture.
Place = tuple[int, int]


@torch.no_grad()
def init_passthrough(encoder: Encoder) -> None:
    """Let the first channels of the first nine convolutions be the picture.

    Means of 2 x 2, later its places as channels.
    """
    channels = 3
    for i, (conv, norm) in enumerate(encoder.layers[:-1]):
        is_halved = i > 1 and conv.stride[0] == 2
        places = 4 if is_halved else 1
        conv.weight[: places * channels] = 0
        for k in range(channels):
            if i < 2:
                conv.weight[k, k, 1:, 1:] = 0.25
                continue
            for p in range(places):
                conv.weight[places * k + p, k, 1 + p // 2, 1 + p % 2] = 1
        channels *= places
        norm.bias[:channels] = LINEAR


@torch.no_grad()
def local_components(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The 512 principal components of pictures x (N, 3, 32, 32), turned to the nearest numbers of 8 x 8
    places.

    Returns:
        The mean (3072,), and orthonormal rows (512, 3072): 8 numbers for each place, as (8, 8, 8).
    """
    mean = x.mean(0)
    flat = (x - mean).flatten(1)
    components = _principal(flat, FEATURES)
    line = torch.hann_window(10, device=x.device)[1:-1]
    window = (line[:, None] * line)[None]
    cells = F.pad(x[:2000] - mean, (2, 2, 2, 2), "reflect").unfold(2, 8, 4).unfold(3, 8, 4)
    cells = (cells * window).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    basis = _principal(cells, 8).unflatten(1, (3, 8, 8)) * window
    pictures = F.pad(components.view(-1, 3, SKETCH, SKETCH), (2, 2, 2, 2), "reflect")
    place = F.conv2d(pictures, basis, stride=4).flatten(1).T
    u, _, v = torch.linalg.svd(place)
    return mean.flatten(), (u @ v) @ components


def _principal(x: torch.Tensor, count: int) -> torch.Tensor:
    """The first `count` principal components of centred rows x (N, D): (count, D)."""
    return torch.linalg.eigh(x.T @ x)[1].flip(1)[:, :count].T


@torch.no_grad()
def init_from_pca(model: Autoencoder, pictures: Callable[[], Iterator[torch.Tensor]]) -> None:
    """Start E and the sketch at the best linear code of `pictures`, a callable that yields batches (B, 3,
    128, 128).
    """
    encoder = model.encoder
    init_passthrough(encoder)
    for _, norm in encoder.layers:
        norm.momentum = None  # plain averages, over all that is seen now
    body = encoder.body[:-3]
    encoder.train()
    for x in itertools.islice(pictures(), SETTLING):
        body(x)
    encoder.eval()
    seen = []
    small = []
    for x in pictures():
        seen.append(body(x).flatten(1))
        small.append(F.avg_pool2d(x, INPUT // SKETCH))
    mean, rows = local_components(torch.cat(small))
    codes = (torch.cat(small).flatten(1) - mean) @ rows.T
    _solve_last_layers(encoder, torch.cat(seen), codes)
    model.sketch.weight.copy_(rows.T)
    model.sketch.bias.copy_(mean)


def _solve_last_layers(encoder: Encoder, seen: torch.Tensor, codes: torch.Tensor) -> None:
    """Set the tenth convolution, its norm and the output layer so that E gives `codes` (N, 512) of features
    `seen` (N, D).
    """
    middle = seen.mean(0)
    seen = seen - middle
    gram = seen.T @ seen
    gram.diagonal().add_(1e-3 * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, seen.T @ codes).T.contiguous()  # (512, places and channels)
    conv, norm = encoder.layers[-1]
    assert norm.running_mean is not None and norm.running_var is not None
    std = ((seen @ weight.T).var(0) + norm.eps).sqrt()
    at = weight @ middle
    conv.weight.copy_(torch.cat([weight, -weight]).unflatten(1, conv.weight.shape[1:]))
    norm.running_mean.copy_(torch.cat([at, -at]))
    norm.running_var.copy_(torch.cat([std, std]).square() - norm.eps)
    scale = torch.diag(std)
    encoder.fc.weight.copy_(torch.cat([scale, -scale], 1))  # relu(z) - relu(-z) is z
    encoder.fc.bias.zero_()


class EncoderPictures:
    """Pictures of prepared folders as E sees them.

    Attributes:
        training, held_out: places of the pictures.
    """

    def __init__(self, folders: Sequence[str | Path], device: torch.device) -> None:
        self.device = device
        self.sets = [Crops(folder) for folder in folders]
        self.training = self._places(False)
        self.held_out = self._places(True)[::JUDGED_EVERY][:JUDGED]

    def _places(self, held_out: bool) -> list[Place]:
        places = []
        for s, crops in enumerate(self.sets):
            places += [(s, int(i)) for i in np.flatnonzero(crops.held_out == held_out)]
        return places

    def load(self, places: Sequence[Place]) -> torch.Tensor:
        """(B, 3, 128, 128) in -1..1, from crops of any size."""
        rows = [shrink(batch_of(self.sets[s].images, [i], self.device)[0], INPUT) for s, i in places]
        return torch.cat(rows).contiguous(memory_format=torch.channels_last)

    def batches(self, places: Sequence[Place]) -> Iterator[torch.Tensor]:
        """All of some pictures."""
        for k in range(0, len(places), TOGETHER):
            yield self.load(places[k : k + TOGETHER])

    def for_start(self) -> Iterator[torch.Tensor]:
        """Pictures that the start is solved for, each batch and its mirror image."""
        chosen = np.random.default_rng(0).permutation(len(self.training))[:SOLVED]
        for x in self.batches([self.training[k] for k in chosen]):
            yield x
            yield x.flip(3)


class AutoencoderTrainer:
    """State of one run; resumes from its checkpoint."""

    def __init__(self, pictures: EncoderPictures, run: Path, device: Device, batch: int, rate: float) -> None:
        self.pictures = pictures
        self.path = run / AUTOENCODER_FILE
        self.device = device
        self.batch = batch
        self.rate = rate
        torch.manual_seed(0)
        # In evaluation mode: its norms are solved for, once.
        self.model = place(Autoencoder(), device.torch).eval()
        groups = [
            {"params": self.model.decoder.parameters(), "share": 1.0},
            {"params": _parameters(self.model.encoder, self.model.sketch), "share": ENCODER_SHARE},
        ]
        self.optimizer = torch.optim.AdamW(groups, rate, betas=BETAS, weight_decay=0)
        self.step = 0
        # Seconds of training so far, those of earlier processes too.
        self.seconds = 0.0
        self.loss_mean = 1.0
        # Error on held-out pictures of a finished run.
        self.mse: float | None = None
        state = load_checkpoint(self.path)
        if state:
            self._load(state)
        self.rng = np.random.default_rng([device.rank, self.step])
        if not state:
            init_from_pca(self.model, pictures.for_start)
            device.share(self.model)  # every process goes on from one solution

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if state.get("finished"):
            self.mse = state["mse"]
            return
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        # Checkpoints of earlier versions have neither.
        self.seconds = state.get("seconds", 0.0)
        self.loss_mean = state.get("loss_mean", 1.0)

    def save(self) -> None:
        """Write the checkpoint of an unfinished run, in the main process."""
        if self.device.main:
            save_checkpoint(
                self.path,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                step=self.step,
                seconds=self.seconds,
                loss_mean=self.loss_mean,
            )

    def train_step(self, progress: float) -> None:
        """One batch, at the rate of a progress of 0..1."""
        warm = min(1, (self.step + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["share"] * warm * (1 - progress) ** RATE_POWER
        training = self.pictures.training
        chosen = self.rng.integers(len(training), size=self.batch)
        x = augment(self.pictures.load([training[k] for k in chosen]), self.rng)
        with self.device.autocast():
            f = self.model.encoder(x)
            decoded = self.model.decoder(f)
            sketch = self.model.sketch(f)
        loss = F.mse_loss(decoded.float(), F.avg_pool2d(x, INPUT // DECODED))
        total = loss + F.mse_loss(sketch.float(), F.avg_pool2d(x, INPUT // SKETCH))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.device.average_gradients(self.model)
        self.optimizer.step()
        self.step += 1
        value = loss.item()
        self.loss_mean = value if self.step == 1 else (1 - FOLLOW) * self.loss_mean + FOLLOW * value

    def train(self, steps: int, loss_below: float, minutes: float | None) -> None:
        """Steps until the end; saves and ends the program after a signal."""
        with (
            stop_on_signal() as stopped,
            tqdm(total=steps, initial=self.step, desc="autoencoder", disable=not self.device.main) as bar,
        ):
            last = time.time()
            while not self.device.agree(self.step >= steps or self.loss_mean < loss_below or stopped()):
                progress = self.step / steps
                if minutes:
                    progress = max(progress, self.seconds / (60 * minutes))
                if self.device.agree(progress >= 1):
                    break
                self.train_step(progress)
                now = time.time()
                self.seconds += now - last
                last = now
                bar.update()
                bar.set_postfix(mse=f"{self.loss_mean:.4f}")
                if self.step % SAVE_EVERY == 0:
                    self.save()
            self.save()
            if stopped():
                raise SystemExit(STOPPED)

    @torch.no_grad()
    def finish(self, run: Path) -> float:
        """Judge on held-out pictures, draw them, whiten f and write the finished checkpoint.

        Returns Dec's error.
        """
        held_out = self.pictures.held_out
        error = 0.0
        sketch_error = 0.0
        for x in self.pictures.batches(held_out):
            f = self.model.encoder(x)
            error += F.mse_loss(self.model.decoder(f), F.avg_pool2d(x, INPUT // DECODED)).item() * len(x)
            sketch_error += F.mse_loss(self.model.sketch(f), F.avg_pool2d(x, INPUT // SKETCH)).item() * len(x)
        mse = error / len(held_out)
        training = self.pictures.training
        some = [training[k] for k in self.rng.permutation(len(training))[:WHITENED]]
        features = torch.cat([self.model.encoder(x) for x in self.pictures.batches(some)])
        self._draw_sheet(run / "autoencoder.png")
        self.model.whiten(features)
        if self.device.main:
            save_checkpoint(self.path, model=self.model.state_dict(), step=self.step, mse=mse, finished=True)
            sketch_mse = sketch_error / len(held_out)
            print(f"autoencoder: held-out MSE {mse:.4f}, of the sketch {sketch_mse:.4f}, {self.step} steps")
        return mse

    def _draw_sheet(self, path: Path) -> None:
        """Held-out pictures, what Dec and what the sketch draw of them."""
        x = self.pictures.load(self.pictures.held_out[:SHEET])
        sketch = F.interpolate(self.model.sketch(self.model.encoder(x)), scale_factor=DECODED // SKETCH)
        save_sheet(path, [F.avg_pool2d(x, INPUT // DECODED), self.model(x), sketch])


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def train_autoencoder(
    data: Sequence[str | Path],
    run: str | Path,
    steps: int = 20000,
    loss_below: float = 0.0,
    minutes: float | None = None,
    batch: int = 64,
    rate: float = 1e-3,
) -> float:
    """Train, resume or finish.

    Stops after `steps`, when the running loss falls under `loss_below` (S24), or in time.

    Args:
        data: prepared folders. run: folder for `autoencoder.pt` (resumed when there) and `autoencoder.png`.
        minutes: of training in all, those of a resumed run included.

    Returns:
        Mean squared error on held-out people, in -1..1 units at 64 px.
    """
    device = Device()
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    pictures = EncoderPictures(data, device.torch)
    if not pictures.held_out:
        raise AgeEditError(
            "Nobody is held out, so nothing could be judged; prepare more photos (some hundreds at least)."
        )
    trainer = AutoencoderTrainer(pictures, run, device, batch, rate)
    if trainer.mse is not None:
        return trainer.mse
    trainer.train(steps, loss_below, minutes)
    return trainer.finish(run)


def augment(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """What makes phones' photos differ from training ones: mirror, light, colour, blur, noise. x in -1..1."""

    def uniform(low: float, high: float, channels: int) -> torch.Tensor:
        values = rng.uniform(low, high, (len(x), channels, 1, 1))
        return torch.tensor(values, dtype=x.dtype, device=x.device)

    if rng.random() < 0.5:
        x = x.flip(3)
    x = x * uniform(0.8, 1.2, 1) * uniform(0.94, 1.06, 3) + uniform(-0.15, 0.15, 1)
    if rng.random() < 0.15:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    if rng.random() < 0.3:
        x = x + torch.randn_like(x) * rng.uniform(0, 0.06)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
