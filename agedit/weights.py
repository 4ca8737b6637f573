"""The weights folder: its files and their hashes.

`manifest.json`, whose own hash is pinned, names every file with its hash; nothing is read before it was
checked.
"""

import hashlib
import os
import stat
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from agedit import manifest
from agedit.calibration import Calibration
from agedit.errors import AgeEditError
from agedit.manifest import NETWORKS, RANGES, SCHEMA
from agedit.paths import weights_folder
from agedit.submodel import candidates

__all__ = ["NETWORKS", "RANGES", "SCHEMA", "Weights", "sha256"]


def sha256(path: str | os.PathLike[str]) -> str:
    """64 hex digits of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Stamp = tuple[int, int, int]
"""What identifies a version of a file: inode, size in bytes, and time of the last change in nanoseconds."""


class Weights:
    """Trained networks, small third-party networks and what was measured of them.

    Raises AgeEditError when a file is missing, altered or of another schema.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder or weights_folder())
        self.manifest = manifest.read(self.folder)
        self._checked = {
            name: self._check(name, expected) for name, expected in self.manifest["files"].items()
        }

    def _check(self, name: str, expected: str) -> Stamp | None:
        """The stamp of a file whose hash is the `expected` one. Raises AgeEditError."""
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise manifest.damaged(f"{name} is not a file")
            stamp = self._stamp(name)  # before it is read: what comes later is another
            found = sha256(path)
        except FileNotFoundError:
            raise AgeEditError(
                f"The weights are incomplete: {name} is missing; fetch the weights folder again."
            ) from None
        except OSError as error:
            raise manifest.unreadable(name, error) from None
        if found != expected:
            raise AgeEditError(
                f"The weights were altered: {name} is not the file that was released; "
                "fetch the weights folder again."
            )
        return stamp

    def path(self, name: str) -> Path:
        """Where a file lies whose hash was checked, for a library that opens it.

        Raises AgeEditError where it is another by now.
        """
        if name not in self._checked or self._stamp(name) != self._checked[name]:
            raise AgeEditError(f"The weights were replaced while in use ({name}); start the program again.")
        return self.folder / name

    @property
    def hash(self) -> str:
        """16 hex digits that name what is computed: the networks and, where measured, the ranges for int8."""
        files = self.manifest["files"]
        if not self.has_ranges:
            return files[NETWORKS][:16]
        return hashlib.sha256((files[NETWORKS] + files[RANGES]).encode()).hexdigest()[:16]

    @property
    def has_ranges(self) -> bool:
        """Whether the ranges for int8 were measured."""
        return RANGES in self.manifest["files"]

    @property
    def resolutions(self) -> list[int]:
        """Resolutions that were trained, ascending."""
        return list(self.manifest["resolutions"])

    @property
    def candidates(self) -> list[tuple[int, float]]:
        """Every (r, c) on offer, cheapest first."""
        return candidates(self.resolutions)

    @property
    def order(self) -> list[tuple[int, float]]:
        """[(r, c)] from best to worst by measured distance to the full network (see the model card)."""
        return [(int(r), float(c)) for r, c in self.manifest["quality_order"]]

    @property
    def best(self) -> tuple[int, float]:
        """The (r, c) of the best measured quality."""
        return self.order[0]

    @property
    def full(self) -> tuple[int, float]:
        """The full network: the largest resolution with all channels, the costliest (r, c)."""
        return self.candidates[-1]

    @property
    def smallest(self) -> tuple[int, float]:
        """The cheapest (r, c)."""
        return self.candidates[0]

    def part(self, prefix: str) -> dict[str, npt.NDArray[np.floating]]:
        """{name: array} below `prefix.`, the prefix removed.

        float16 as in the file, `age_vector` float32. Read anew each time: nothing of it stays in memory but
        what runs.

        Args:
            prefix: "generator", "encoder" (batch norms folded) or "sketch"; with "", every array by its full
                name.
        """
        start = f"{prefix}." if prefix else ""
        return {name.removeprefix(start): v for name, v in self._read(start).items()}

    def ranges(self, r: int, c: float) -> dict[str, npt.NDArray[np.float32]]:
        """{layer: (2, C)} of G_{r,c}, for int8 (see `runtime.int8`); empty where they were not measured."""
        if not self.has_ranges:
            return {}
        start = f"{r}:{c:g}/"
        found = self._read(start, RANGES)
        return {name.removeprefix(start): np.asarray(v, np.float32) for name, v in found.items()}

    @cached_property
    def age_vector(self) -> npt.NDArray[np.float32]:
        """n (S5): float32 (512,), unit length, + is older."""
        return self._read("age_vector")["age_vector"].astype(np.float32, copy=False)

    def _stamp(self, name: str) -> Stamp | None:
        """None where the file cannot be looked at."""
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, start: str, name: str = NETWORKS) -> dict[str, npt.NDArray[np.floating]]:
        """The arrays of one file whose names start like this. Raises AgeEditError."""
        path = self.path(name)
        try:
            with safe_open(path, "numpy") as file:
                names = [key for key in file.keys() if key.startswith(start)]
                return {key: file.get_tensor(key) for key in names}
        except (OSError, SafetensorError):
            raise manifest.damaged(name) from None

    @cached_property
    def calibration(self) -> Calibration:
        """Years to alpha, and how far a face can go (S63)."""
        return Calibration(self.manifest["calibration"])

    def alpha(self, years: float, age: float, blur: float, r: int, c: float) -> float:
        """See `Calibration.alpha`."""
        return self.calibration.alpha(years, age, blur, r, c)

    def reach(self, age: float) -> tuple[float, float]:
        """See `Calibration.reach`."""
        return self.calibration.reach(age)

    @property
    def years_range(self) -> tuple[float, float]:
        """See `Calibration.years_range`."""
        return self.calibration.years_range
