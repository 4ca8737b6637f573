"""What every training stage shares: device, data-parallel set-up, checkpoints, EMA, sheets."""

import contextlib
import ctypes
import functools
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from agedit.tone import LUMA


def keep_memory():
    """Let glibc keep freed memory instead of handing every large block back to the kernel: a CPU step then takes less
    than half the time, which else goes into fresh pages."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD
            mallopt(option, value)


@functools.lru_cache(maxsize=1)
@torch.enable_grad()
def quicker_in_bf16():
    """Whether this CPU trains a 3x3 convolution faster in bf16 than in fp32: both are timed, in turns, for a fraction of a second."""
    if not any(torch.cpu.get_capabilities().get(k, False) for k in ("amx_bf16", "avx512_bf16")):
        return False
    times = {torch.float32: [], torch.bfloat16: []}
    for _ in range(4):
        for kind, seconds in times.items():
            make = lambda *shape: torch.randn(shape, dtype=kind).contiguous(memory_format=torch.channels_last)
            x, weight = make(8, 128, 64, 64).requires_grad_(), make(128, 128, 3, 3).requires_grad_()
            start = time.perf_counter()
            F.conv2d(x, weight, padding=1).sum().backward()
            seconds.append(time.perf_counter() - start)
    return min(times[torch.bfloat16]) < 0.8 * min(times[torch.float32])


class Device:
    """Where a stage runs: CUDA when there is one, else the CPU; bf16 convolutions; torchrun's processes if any."""

    def __init__(self):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.torch = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.torch.type == "cuda" else "gloo")
        if self.torch.type == "cpu":
            keep_memory()
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // self.world))

    def autocast(self):
        """bf16 on CUDA, and on a CPU where it makes convolutions quicker: one kind with AVX-512's own has 0.7 of the fp32 rate, another twice it."""
        return torch.autocast(
            self.torch.type, torch.bfloat16, enabled=self.torch.type != "cpu" or quicker_in_bf16()
        )

    def average_gradients(self, module):
        """All-reduce by hand: random (r, c) leaves other parameters without gradients, which DDP would wait for."""
        if self.world == 1:
            return
        for p in module.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
            p.grad /= self.world

    def share(self, module):
        """The main process's parameters and buffers for all."""
        if self.world > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor.data, 0)

    def agree(self, flag):
        """Whether any process says so: all must leave a loop in the same step, or the others wait for ever."""
        if self.world == 1:
            return bool(flag)
        vote = torch.tensor([float(flag)], device=self.torch)
        dist.all_reduce(vote, dist.ReduceOp.MAX)
        return vote.item() > 0

    @property
    def main(self):
        return self.rank == 0


def grey_of(x):
    """The brightness of (B, 3, s, s): (B, 1, s, s), weighed as `tone.LUMA`."""
    return (x * torch.tensor(LUMA).to(x)[:, None, None]).sum(1, keepdim=True)


def batch_of(images, indices, device):
    """uint8 rows of `Crops.images` -> (pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1)."""
    x = torch.from_numpy(np.stack([images[i] for i in indices])).to(device)
    x = x.permute(0, 3, 1, 2).to(memory_format=torch.channels_last).float()
    return x[:, :3] / 127.5 - 1, x[:, 3:4] / 255, x[:, 4:5] / 255


def save_checkpoint(path, **state):
    """Write whole or not at all."""
    path = Path(path)
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def load_checkpoint(path):
    return torch.load(path, map_location="cpu", weights_only=True) if Path(path).exists() else None


class Ema:
    """Exponential moving average of a module's weights, with a warm-up so that early steps do not linger."""

    def __init__(self, module, decay=0.995):
        self.decay, self.steps = decay, 0
        self.state = {k: v.detach().clone().float() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module):
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        new = module.state_dict()
        torch._foreach_lerp_(list(self.state.values()), [new[k].float() for k in self.state], 1 - decay)


@contextlib.contextmanager
def stop_on_signal():
    """Yields a callable that turns true after Ctrl-C or SIGTERM, so that a stage saves before it ends."""
    asked = []
    old = {s: signal.signal(s, lambda *_: asked.append(1)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def save_sheet(path, rows):
    """PNG of a list of rows of tensors (3, s, s) in -1..1, all of one size."""
    grid = torch.cat([torch.cat([p.detach().float().cpu() for p in row], 2) for row in rows], 1)
    grid = ((grid.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), np.ascontiguousarray(grid[:, :, ::-1]))
