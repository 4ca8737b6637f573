"""Pictures as tensors: out of prepared crops, shrunk, smoothed, in grey, and onto a sheet."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from agedit.light import LUMA


def batch_of(
    images: npt.NDArray[np.uint8], indices: Iterable[int], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of `data.Crops.images` as tensors.

    Args:
        images: uint8 (N, S, S, 5): RGB, mask, hair.

    Returns:
        Pictures (B, 3, S, S) in -1..1, masks (B, 1, S, S) in 0..1, hair (B, 1, S, S) in 0..1.
    """
    x = torch.from_numpy(np.stack([images[i] for i in indices])).to(device)
    x = x.permute(0, 3, 1, 2).to(memory_format=torch.channels_last).float()
    return x[:, :3] / 127.5 - 1, x[:, 3:4] / 255, x[:, 4:5] / 255


def shrink(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, C, S, S) to `size` pixels by areas; as it is where it has no more. S is a multiple of `size`."""
    if x.shape[-1] <= size:
        return x
    return F.avg_pool2d(x, x.shape[-1] // size)


def smooth(x: torch.Tensor, cell: int) -> torch.Tensor:
    """(B, C, s, s) averaged over cells of `cell` pixels, enlarged again."""
    return F.interpolate(F.avg_pool2d(x, cell), scale_factor=cell, mode="bilinear")


def gaussian_blur(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of (B, C, s, s) with OpenCV's kernel size and border, so that training and app agree."""
    size = round(sigma * 8 + 1) | 1
    line = torch.from_numpy(cv2.getGaussianKernel(size, sigma)[:, 0]).to(x)
    channels = x.shape[1]
    half = size // 2
    x = F.pad(x, (half, half, half, half), "reflect")
    x = F.conv2d(x, line.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(x, line.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)


def grey_of(x: torch.Tensor) -> torch.Tensor:
    """The brightness of (B, 3, s, s): (B, 1, s, s), weighed as `light.LUMA`."""
    return (x * torch.tensor(LUMA).to(x)[:, None, None]).sum(1, keepdim=True)


def save_sheet(path: str | Path, rows: Sequence[Iterable[torch.Tensor]]) -> None:
    """Write a PNG of rows of pictures (3, s, s) in -1..1, all of one size."""
    lines = []
    for row in rows:
        lines.append(torch.cat([picture.detach().float().cpu() for picture in row], 2))
    grid = torch.cat(lines, 1).clamp(-1, 1)
    rgb = ((grid + 1) * 127.5 + 0.5).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), np.ascontiguousarray(rgb[:, :, ::-1]))
