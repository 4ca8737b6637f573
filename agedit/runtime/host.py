"""The host machine: cores that this process may use, how the C heap is set up, and memory given back."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 1 << 20

# glibc's numbers of mallopt's parameters (malloc.h)
M_ARENA_MAX = -8
M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1


def usable_cores() -> int:
    """Cores that this process may really use, at least 1: its affinity, then the quotas of its cgroups."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return min([cores, *quotas()])


def quotas(root: str | Path = "/sys/fs/cgroup", own: str | Path = "/proc/self/cgroup") -> Iterator[int]:
    """Cores by each CPU quota on this process's cgroups (v1 and v2) and on those above them.

    Args:
        root: where the cgroup file systems are mounted.
        own: the file that names this process's cgroups.
    """
    try:
        lines = Path(own).read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for base in _mounts(Path(root), controllers):
            for folder in _group_and_parents(base, path):
                cores = _quota(folder, version=1 if controllers else 2)
                if cores is not None:
                    yield cores


def _mounts(root: Path, controllers: str) -> list[Path]:
    """Where a hierarchy may be mounted: v1 by its controllers' names, v2, which names none, at the root."""
    if controllers:
        return [root / controllers, root / "cpu"]
    return [root]


def _group_and_parents(base: Path, path: str) -> list[Path]:
    """Folders of a cgroup and of all above it, up to the mount.

    In a container the group's path may lie outside the mount; then the mount's root holds the quota.
    """
    group = base / path.strip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(base))]


def _quota(folder: Path, version: int) -> int | None:
    """Whole cores by the quota of one cgroup, or None where it has none."""
    try:
        if version == 1:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        else:
            quota, period = (folder / "cpu.max").read_text().split()
        if quota == "max" or int(quota) <= 0:
            return None
        return max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def one_heap() -> None:
    """Use one heap for all threads, and hand arrays of 4 MB and more back to the system at once.

    glibc opens a heap for each thread, and what one has freed another cannot use. Smaller arrays stay in the
    heap: fetched from the system at each slider move, they cost more than the network that fills them. To be
    called before there are threads; does nothing without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, 4 * MEGABYTE)
        libc.mallopt(M_TRIM_THRESHOLD, 16 * MEGABYTE)


def give_back_memory() -> None:
    """Return freed memory to the system: after building a graph glibc keeps over 100 MB. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
