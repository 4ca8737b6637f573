"""Stage `autoencoder` (S21-S24): E and Dec by mean squared error; E is kept, with f standardised."""
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.network.autoencoder import DECODED, INPUT, Autoencoder
from agedit.training.common import Device, batch_of, load_checkpoint, save_checkpoint, save_sheet, stop_on_signal
from agedit.training.data import Crops


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
        raise AgeEditError("Nobody is held out, so nothing could be judged; prepare more photos (some hundreds at least).")
    torch.manual_seed(0)
    model = Autoencoder().to(device.torch, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
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

    def save():
        if device.main:
            save_checkpoint(run / "autoencoder.pt", model=model.state_dict(), optimizer=optimizer.state_dict(), step=step)

    with stop_on_signal() as stopped, tqdm(total=steps, initial=step, desc="autoencoder", disable=not device.main) as bar:
        while not device.agree(step >= steps or loss_mean < loss_below or stopped()):
            progress = step / steps
            if minutes:
                progress = max(progress, (time.time() - begin) / (60 * minutes))
            if device.agree(progress >= 1):
                break
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 200) * (1 - progress) ** 0.7
            model.train()
            x = augment(pictures([training[k] for k in rng.integers(len(training), size=batch)]), rng)
            with device.autocast():
                decoded = model(x)
            loss = F.mse_loss(decoded.float(), F.avg_pool2d(x, INPUT // DECODED))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
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
    model.eval()
    features, error = [], 0.0
    with torch.no_grad():
        for pairs in [held_out[i:i + 64] for i in range(0, len(held_out), 64)]:
            x = pictures(pairs)
            error += F.mse_loss(model(x), F.avg_pool2d(x, INPUT // DECODED)).item() * len(pairs)
        some = [training[k] for k in rng.permutation(len(training))[:4096]]
        for pairs in [some[i:i + 64] for i in range(0, len(some), 64)]:
            features.append(model.encoder(pictures(pairs)))
        save_sheet(run / "autoencoder.png", [list(F.avg_pool2d(pictures(held_out[:12]), INPUT // DECODED)),
                                             list(model(pictures(held_out[:12])))])
        features = torch.cat(features)
        model.encoder.standardize(features.mean(0), features.std(0).clamp_min(1e-4))
    mse = error / len(held_out)
    if device.main:
        save_checkpoint(run / "autoencoder.pt", model=model.state_dict(), step=step, mse=mse, finished=True)
        print(f"autoencoder: held-out MSE {mse:.4f} after {step} steps")
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
