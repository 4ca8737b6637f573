"""What every training stage shares: device, data-parallel set-up, checkpoints, averaged weights."""

import contextlib
import ctypes
import functools
import operator
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)

# Files of a run folder.
AUTOENCODER_FILE = "autoencoder.pt"
AGE_VECTOR_FILE = "age_vector.npz"
GENERATOR_FILE = "generator.pt"
# Scale of alpha in training, per year; the calibrate stage corrects what is left.
ALPHA_PER_YEAR = 0.25
# Share of the averaged weights that a step keeps.
EMA_DECAY = 0.995
# In so many steps at first the average forgets faster, so that early weights do not linger.
EMA_WARM_UP = 10
# mallopt(3): option numbers of glibc, with the values that keep freed memory in the process.
MALLOC_OPTIONS = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
}


def keep_memory() -> None:
    """Let glibc keep freed memory instead of handing every large block back to the kernel.

    A step on a CPU then takes less than half the time: the other half went into fresh pages.
    """
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOC_OPTIONS.values():
            mallopt(option, value)


def _convolution_seconds(dtype: torch.dtype) -> float:
    """How long a 3x3 convolution and its gradient take on this CPU."""
    x = torch.randn(8, 128, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    weight.requires_grad_()
    start = time.perf_counter()
    F.conv2d(x, weight, padding=1).sum().backward()
    return time.perf_counter() - start


@functools.lru_cache(maxsize=1)
@torch.enable_grad()
def quicker_in_bf16() -> bool:
    """Whether this CPU trains convolutions faster in bf16 than in fp32.

    Both are timed in turns, for a fraction of a second.
    """
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)):
        return False
    full = []
    half = []
    for _ in range(4):
        full.append(_convolution_seconds(torch.float32))
        half.append(_convolution_seconds(torch.bfloat16))
    return min(half) < 0.8 * min(full)


class Device:
    """Where a stage runs.

    CUDA when there is one, else the CPU; bf16 convolutions; torchrun's processes if any.
    """

    def __init__(self) -> None:
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        self.torch = torch.device(f"cuda:{local}" if torch.cuda.is_available() else "cpu")
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.torch.type == "cuda" else "gloo")
        if self.torch.type == "cpu":
            keep_memory()
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // self.world))

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """bf16 on CUDA, and on a CPU where it is quicker.

        Of two with AVX-512 bf16, one had 0.7 of the fp32 rate, one twice it.
        """
        enabled = self.torch.type != "cpu" or quicker_in_bf16()
        return torch.autocast(self.torch.type, torch.bfloat16, enabled=enabled)

    def average_gradients(self, module: nn.Module) -> None:
        """All-reduce by hand.

        A random (r, c) leaves parameters without gradients, which DDP would wait for.
        """
        if self.world == 1:
            return
        for p in module.parameters():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
            p.grad /= self.world

    def share(self, module: nn.Module) -> None:
        """Give the main process's parameters and buffers to all."""
        if self.world == 1:
            return
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data, 0)

    def agree(self, flag: bool) -> bool:
        """Whether any process says so.

        All must leave a loop in the same step, or the others wait for ever.
        """
        if self.world == 1:
            return bool(flag)
        vote = torch.tensor([float(flag)], device=self.torch)
        dist.all_reduce(vote, dist.ReduceOp.MAX)
        return vote.item() > 0


def place(network: Network, device: torch.device | str) -> Network:
    """The network on a device, in channels-last memory, which convolutions are quickest in."""
    kind = {"device": device, "memory_format": torch.channels_last}
    return network.to(**kind)  # pyright: ignore[reportArgumentType, reportCallIssue] (its stub has no memory_format)


def add_up(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of at least one tensor, in their order."""
    return functools.reduce(operator.add, terms)


def save_checkpoint(path: str | Path, **state: Any) -> None:
    """Write the whole file or nothing."""
    path = Path(path)
    unfinished = path.with_suffix(".tmp")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: str | Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None where there is no such file."""
    if not Path(path).exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


class Ema(AveragedModel):
    """Exponential moving average of a module's weights, with a warm-up; `module` holds it as a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, multi_avg_fn=_average_with_warm_up)
        self.requires_grad_(False)
        self.restart()

    def restart(self, steps: int = 0) -> None:
        """Count the warm-up from so many steps."""
        # AveragedModel would copy the module at its first update, where the average is already the start:
        # begin at 1.
        self.n_averaged.fill_(steps + 1)


def _average_with_warm_up(averaged: Any, current: Any, count: torch.Tensor | int) -> None:
    """One step of the average; `count` is 1 at the first."""
    steps = int(count)
    decay = min(EMA_DECAY, steps / (steps + EMA_WARM_UP))
    get_ema_multi_avg_fn(decay)(averaged, current, count)
