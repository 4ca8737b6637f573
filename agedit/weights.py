"""The weights folder: `manifest.json` names every file with its hash; nothing is used before its hash was checked."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from agedit.errors import AgeEditError
from agedit.paths import weights_folder
from agedit.submodel import candidates

NETWORKS = "agedit.safetensors"
RANGES = "ranges.safetensors"  # for int8; absent until `calibrate` measured them
SCHEMA = 4


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Weights:
    """Trained networks, small third-party networks and what was measured of them.

    Raises AgeEditError when a file is missing, altered or of another schema.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder or weights_folder())
        try:
            self.manifest = json.loads((self.folder / "manifest.json").read_text())
            files = dict(self.manifest["files"])
            schema = self.manifest["schema"]
            files[NETWORKS]
            for key in ("resolutions", "calibration", "quality_order", "provenance", "encoder"):
                self.manifest[key]
        except FileNotFoundError:
            raise AgeEditError(
                f"The weights are missing: there is no manifest.json in {self.folder}; "
                "fetch the weights folder again."
            ) from None
        except OSError as error:
            raise AgeEditError(
                f"The weights in {self.folder} cannot be read ({error.strerror}); check permissions."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise AgeEditError(
                f"The manifest in {self.folder} is damaged; fetch the weights folder again."
            ) from None
        if schema != SCHEMA:
            raise AgeEditError(
                f"The weights have schema {schema} and this program reads {SCHEMA}; update one of them."
            )
        for name, expected in files.items():
            if not (self.folder / name).is_file():
                raise AgeEditError(
                    f"The weights are incomplete: {name} is missing; fetch the weights folder again."
                )
            try:
                found = sha256(self.folder / name)
            except OSError as error:
                raise AgeEditError(
                    f"{name} cannot be read ({error.strerror}); check its permissions."
                ) from None
            if found != expected:
                raise AgeEditError(
                    f"The weights were altered: {name} is not the file that was released; "
                    "fetch the weights folder again."
                )
        self._checked = {name: self._stamp(name) for name in (NETWORKS, RANGES)}

    @property
    def hash(self):
        """Names what is computed, 16 hex digits: the trained networks and, once there are some, the ranges for int8."""
        files = self.manifest["files"]
        return (
            hashlib.sha256((files[NETWORKS] + files[RANGES]).encode()).hexdigest()[:16]
            if self.has_ranges
            else files[NETWORKS][:16]
        )

    @property
    def has_ranges(self):
        """Whether the ranges for int8 were measured."""
        return RANGES in self.manifest["files"]

    @property
    def resolutions(self):
        """Resolutions that were trained, ascending."""
        return list(self.manifest["resolutions"])

    @property
    def candidates(self):
        """Every (r, c) on offer, cheapest first."""
        return candidates(self.resolutions)

    @property
    def order(self):
        """[(r, c)] from best to worst by measured distance to the full network (see the model card)."""
        return [(int(r), float(c)) for r, c in self.manifest["quality_order"]]

    def part(self, prefix):
        """{name: array} below `prefix.`, the prefix removed: "generator", "encoder" (batch norms folded), "sketch"; with "", every array by its full name.

        float16 as in the file, `age_vector` float32. Read anew each time: nothing of it stays in memory but what runs.
        """
        return {
            k[len(prefix) + 1 if prefix else 0 :]: v
            for k, v in self._read(prefix + "." if prefix else "").items()
        }

    def ranges(self, r, c):
        """{layer: (2, C)} of G_{r,c}, for int8 (see `quantize`); empty where they were not measured."""
        start = f"{r}:{c:g}/"
        found = self._read(start, RANGES) if self.has_ranges else {}
        return {k[len(start) :]: np.float32(v) for k, v in found.items()}

    @cached_property
    def age_vector(self):
        """n (S5): float32 (512,), unit length, + is older."""
        return self._read("age_vector")["age_vector"]

    def _stamp(self, name):
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, start, name=NETWORKS):
        if self._stamp(name) != self._checked[name]:  # its hash was checked, another file's was not
            raise AgeEditError(f"{name} was replaced while it was in use; start the program again.")
        try:
            with safe_open(self.folder / name, "numpy") as file:
                return {k: file.get_tensor(k) for k in file.keys() if k.startswith(start)}
        except (OSError, SafetensorError):
            raise AgeEditError(f"{name} is damaged; fetch the weights folder again.") from None

    def alpha(self, years, age, blur, r, c):
        """Edit strength (S63) with which G_{r,c} makes a face of an apparent `age` look `years` older.

        By the calibration table; constant beyond its ends and beyond `reach`.

        Args:
            blur: of the photo, see `tone.photo_blur`: in a soft one the same alpha shows less.
        """
        table = self.manifest["calibration"]
        years = float(np.clip(years, *self.reach(age)))
        by_blur = [
            np.interp(age, table["ages"], [np.interp(years, table["years"], row) for row in rows])
            for rows in self._alphas[r, c]
        ]
        return float(np.interp(blur, table["blurs"], by_blur))

    def reach(self, age):
        """(lowest, highest) change in years that anything comes of for a face of an apparent `age`: the networks know few people beyond, and
        with more years a small child, whose face does not grow here, only looks like an old baby."""
        table = self.manifest["calibration"]
        grown = float(np.interp(age, table["children"]["ages"], table["children"]["years"]))
        return min(0, table["youngest"] - age), max(0, min(table["oldest"] - age, grown))

    @cached_property
    def _alphas(self):
        return {(s["r"], s["c"]): s["alpha"] for s in self.manifest["calibration"]["submodels"]}

    @property
    def years_range(self):
        """(lowest, highest) change in years that the calibration covers."""
        years = self.manifest["calibration"]["years"]
        return min(years), max(years)
