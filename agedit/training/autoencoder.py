"""Stage `autoencoder` (S21-S24): E and Dec by mean squared error; E and the sketch are kept, with f whitened.

E starts as the best linear code: its first nine convolutions carry the picture, at 32 px, through their first channels (nearly: the
max-pool is not linear), and the tenth and the output layer are solved for the 512 principal components, turned so that each number belongs to one of
8 x 8 places, as Dec reads them. Gradients go on from there.
"""

import itertools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.network.autoencoder import DECODED, FEATURES, INPUT, SKETCH, Autoencoder
from agedit.training.common import (
    Device,
    batch_of,
    load_checkpoint,
    save_checkpoint,
    save_sheet,
    stop_on_signal,
)
from agedit.training.data import Crops

LINEAR = 3.0  # standard deviations that the carried channels are lifted by: above 0 a ReLU is linear
SOLVED = 4000  # pictures, and as many mirrored, that the start is solved for
GENTLY = 0.1  # E's rate over Dec's: E starts solved, Dec from noise


@torch.no_grad()
def carry(encoder):
    """Set the first channels of the first nine convolutions to the picture: averages of 2 x 2, later its places as channels."""
    n = 3
    for i, (conv, norm) in enumerate(encoder.layers[:-1]):
        places = 4 if i > 1 and conv.stride[0] == 2 else 1
        conv.weight[: places * n] = 0
        for k in range(n):
            if i < 2:
                conv.weight[k, k, 1:, 1:] = 0.25
            else:
                for p in range(places):
                    conv.weight[places * k + p, k, 1 + p // 2, 1 + p % 2] = 1
        n *= places
        norm.bias[:n] = LINEAR


@torch.no_grad()
def local_components(x):
    """The 512 principal components of pictures x (N, 3, 32, 32), turned to the nearest numbers of 8 x 8 places.

    Returns:
        mean (3072,), and orthonormal rows (512, 3072): 8 numbers for each place, as (8, 8, 8).
    """
    mean = x.mean(0)
    flat = (x - mean).flatten(1)
    components = torch.linalg.eigh(flat.T @ flat)[1].flip(1)[:, :FEATURES].T
    line = torch.hann_window(10, device=x.device)[1:-1]
    window = (line[:, None] * line)[None]
    cells = F.pad(x[:2000] - mean, (2, 2, 2, 2), "reflect").unfold(2, 8, 4).unfold(3, 8, 4)
    cells = (cells * window).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    basis = torch.linalg.eigh(cells.T @ cells)[1].flip(1)[:, :8].T.unflatten(1, (3, 8, 8)) * window
    place = (
        F.conv2d(F.pad(components.view(-1, 3, SKETCH, SKETCH), (2, 2, 2, 2), "reflect"), basis, stride=4)
        .flatten(1)
        .T
    )
    u, _, v = torch.linalg.svd(place)
    return mean.flatten(), (u @ v) @ components


@torch.no_grad()
def solve(model, pictures):
    """Start E and the sketch at the best linear code of `pictures`, a callable that yields batches (B, 3, 128, 128)."""
    encoder = model.encoder
    carry(encoder)
    for _, norm in encoder.layers:
        norm.momentum = None  # plain averages, over all that is seen now
    encoder.train()
    for x in itertools.islice(pictures(), 8):
        encoder.body[:-3](x)
    encoder.eval()
    seen, small = [], []
    for x in pictures():
        seen.append(encoder.body[:-3](x).flatten(1))
        small.append(F.avg_pool2d(x, INPUT // SKETCH))
    seen, small = torch.cat(seen), torch.cat(small)
    mean, rows = local_components(small)
    codes = (small.flatten(1) - mean) @ rows.T
    middle = seen.mean(0)
    seen -= middle
    gram = seen.T @ seen
    gram.diagonal().add_(1e-3 * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, seen.T @ codes).T.contiguous()  # (512, places and channels)
    conv, norm = encoder.layers[-1]
    out = seen @ weight.T
    std = (out.var(0) + norm.eps).sqrt()
    conv.weight.copy_(torch.cat([weight, -weight]).unflatten(1, conv.weight.shape[1:]))
    at = weight @ middle
    norm.running_mean.copy_(torch.cat([at, -at]))
    norm.running_var.copy_(torch.cat([std, std]).square() - norm.eps)
    encoder.fc.weight.copy_(torch.cat([torch.diag(std), -torch.diag(std)], 1))  # relu(z) - relu(-z) is z
    encoder.fc.bias.zero_()
    model.sketch.weight.copy_(rows.T)
    model.sketch.bias.copy_(mean)


def train_autoencoder(data, run, steps=20000, loss_below=0.0, minutes=None, batch=64, rate=1e-3):
    """Train, resume or finish; stops after `steps`, when the running loss falls under `loss_below` (S24), or in time.

    Args:
        data: list of prepared folders. run: folder for `autoencoder.pt` (resumed when there) and `autoencoder.png`.

    Returns:
        Mean squared error on held-out people, in -1..1 units at 64 px.
    """
    device, run = Device(), Path(run)
    run.mkdir(parents=True, exist_ok=True)
    sets = [Crops(d) for d in data]
    training = [(s, i) for s, d in enumerate(sets) for i in np.flatnonzero(~d.held_out)]
    held_out = [(s, i) for s, d in enumerate(sets) for i in np.flatnonzero(d.held_out)][::3][:768]
    if not held_out:
        raise AgeEditError(
            "Nobody is held out, so nothing could be judged; prepare more photos (some hundreds at least)."
        )
    torch.manual_seed(0)
    model = (
        Autoencoder().to(device.torch, memory_format=torch.channels_last).eval()
    )  # its norms are solved for, once
    optimizer = torch.optim.AdamW(
        [
            {"params": model.decoder.parameters(), "share": 1.0},
            {"params": [*model.encoder.parameters(), *model.sketch.parameters()], "share": GENTLY},
        ],
        rate,
        betas=(0.9, 0.99),
        weight_decay=0,
    )
    step, loss_mean, begin = 0, 1.0, time.time()
    state = load_checkpoint(run / "autoencoder.pt")
    if state:
        model.load_state_dict(state["model"])
        if state.get("finished"):
            return state["mse"]
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    rng = np.random.default_rng([device.rank, step])

    def pictures(pairs):
        x = torch.cat([batch_of(sets[s].images, [i], device.torch)[0] for s, i in pairs])
        return F.avg_pool2d(x.contiguous(memory_format=torch.channels_last), 256 // INPUT)

    def start():
        for part in torch.from_numpy(np.random.default_rng(0).permutation(len(training))[:SOLVED]).split(64):
            x = pictures([training[k] for k in part])
            yield from (x, x.flip(3))

    if not state:
        solve(model, start)
        device.share(model)  # every process goes on from one solution
        begin = time.time()

    def save():
        if device.main:
            save_checkpoint(
                run / "autoencoder.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step
            )

    with (
        stop_on_signal() as stopped,
        tqdm(total=steps, initial=step, desc="autoencoder", disable=not device.main) as bar,
    ):
        while not device.agree(step >= steps or loss_mean < loss_below or stopped()):
            progress = step / steps
            if minutes:
                progress = max(progress, (time.time() - begin) / (60 * minutes))
            if device.agree(progress >= 1):
                break
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"] * min(1, (step + 1) / 50) * (1 - progress) ** 0.7
            x = augment(pictures([training[k] for k in rng.integers(len(training), size=batch)]), rng)
            with device.autocast():
                f = model.encoder(x)
                decoded, sketch = model.decoder(f), model.sketch(f)
            loss = F.mse_loss(decoded.float(), F.avg_pool2d(x, INPUT // DECODED))
            total = loss + F.mse_loss(sketch.float(), F.avg_pool2d(x, INPUT // SKETCH))
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            device.average_gradients(model)
            optimizer.step()
            step += 1
            loss_mean = loss.item() if step == 1 else 0.98 * loss_mean + 0.02 * loss.item()
            bar.update()
            bar.set_postfix(mse=f"{loss_mean:.4f}")
            if step % 500 == 0:
                save()
        save()
        if stopped():
            raise SystemExit("stopped; the same command goes on from here")
    features, error, sketch_error = [], 0.0, 0.0
    with torch.no_grad():
        for pairs in [held_out[i : i + 64] for i in range(0, len(held_out), 64)]:
            x = pictures(pairs)
            f = model.encoder(x)
            error += F.mse_loss(model.decoder(f), F.avg_pool2d(x, INPUT // DECODED)).item() * len(pairs)
            sketch_error += F.mse_loss(model.sketch(f), F.avg_pool2d(x, INPUT // SKETCH)).item() * len(pairs)
        some = [training[k] for k in rng.permutation(len(training))[:8192]]
        for pairs in [some[i : i + 64] for i in range(0, len(some), 64)]:
            features.append(model.encoder(pictures(pairs)))
        save_sheet(
            run / "autoencoder.png",
            [
                list(F.avg_pool2d(pictures(held_out[:12]), INPUT // DECODED)),
                list(model(pictures(held_out[:12]))),
                list(F.interpolate(model.sketch(model.encoder(pictures(held_out[:12]))), scale_factor=2)),
            ],
        )
        model.whiten(torch.cat(features))
    mse, sketch_mse = error / len(held_out), sketch_error / len(held_out)
    if device.main:
        save_checkpoint(run / "autoencoder.pt", model=model.state_dict(), step=step, mse=mse, finished=True)
        print(f"autoencoder: held-out MSE {mse:.4f}, of the sketch {sketch_mse:.4f}, after {step} steps")
    return mse


def augment(x, rng):
    """What makes phones' photos differ from training ones: mirror, light, colour, blur, noise. x in -1..1."""
    if rng.random() < 0.5:
        x = x.flip(3)
    n = len(x)
    draw = lambda lo, hi, k: torch.tensor(rng.uniform(lo, hi, (n, k, 1, 1)), dtype=x.dtype, device=x.device)
    x = x * draw(0.8, 1.2, 1) * draw(0.94, 1.06, 3) + draw(-0.15, 0.15, 1)
    if rng.random() < 0.15:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    if rng.random() < 0.3:
        x = x + torch.randn_like(x) * rng.uniform(0, 0.06)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
