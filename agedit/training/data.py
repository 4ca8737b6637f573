"""Prepared faces: a folder of aligned crops (S11) and a table of what is known of each (S12).

`crops.npy` is uint8 (N, S, S, 5): RGB, the blend mask and the hair. `table.csv` has one row a crop.
The `prepare` stage (see `prepare`) writes both. Nothing here needs PyTorch but `Crops.load`.
"""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from agedit.errors import AgeEditError

if TYPE_CHECKING:
    import torch

# Files of a prepared folder.
CROPS_FILE = "crops.npy"
TABLE_FILE = "table.csv"
# The table of a folder of pairs.
PAIRS_FILE = "pairs.csv"
# Columns of the table; `kind` is "photo", "pair", or "made" of a photo (see `back_translation`).
COLUMNS = ["kind", "file", "person", "age", "gender", "beta", "judged", "held_out"]
# Pixels at which two ages are brought into register.
FLOW = 256
# Sigma, in those pixels, that smooths the moves.
FLOW_BLUR = 4
# Share of the people who are never trained on.
HELD_OUT = 0.08


def is_held_out(person: str, share: float = HELD_OUT) -> bool:
    """A fixed choice of the people who are never trained on, whatever their order."""
    return int(hashlib.sha256(str(person).encode()).hexdigest()[:8], 16) / 2**32 < share


def read_table(path: str | Path, *required: str) -> list[dict[str, str]]:
    """Rows of a CSV; raises AgeEditError when it or a column is missing."""
    if not Path(path).exists():
        raise AgeEditError(f"{path} is missing; training needs a CSV with the columns {', '.join(required)}.")
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    missing = [c for c in required if not rows or c not in rows[0]]
    if missing:
        raise AgeEditError(f"{path} has no column {', '.join(missing)}; add it.")
    return rows


def to_bytes(mask: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """A mask in 0..1 as uint8."""
    return (mask * 255 + 0.5).astype(np.uint8)


def _even_contrast(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGB (S, S, 3) as grey (FLOW, FLOW) whose detail is equally strong everywhere."""
    small = cv2.resize(picture, (FLOW, FLOW), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 10)
    strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 10)) + 6
    return np.clip(128 + 48 * detail / strength, 0, 255).astype(np.uint8)


def moves(picture: npt.NDArray[np.uint8], first: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Where in a picture of a pair lies what its person's first picture shows.

    Two ages of the teacher's also differ in where a nose ends, a brow or a jaw lies. An edit adds light and
    dark to a photo, so a network that learned such a move drew ghosts: dark flanks of noses, double brows,
    rims along jaws. The flow is dense inverse search (Kroeger et al. 2016) between both with their contrast
    evened out, smoothed so that a fold is not taken for a move.

    Args:
        picture, first: RGB uint8 (S, S, 3), aligned by one matrix.

    Returns:
        float32 (FLOW, FLOW, 2), offsets (x, y) in FLOW-sized pixels.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setVariationalRefinementIterations(10)
    flow.setVariationalRefinementAlpha(40)
    start: Any = None  # the binding takes None, its stub does not say so
    found = flow.calc(_even_contrast(first), _even_contrast(picture), start)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), FLOW_BLUR), np.float32)


def in_register(picture: npt.NDArray[np.uint8], first: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture of a pair, RGB (S, S, 3), bent by `moves` so that what it shows lies where the first one has
    it.

    Skin, hair and folds are left to differ.
    """
    s = picture.shape[0]
    places = np.stack(np.meshgrid(np.arange(s), np.arange(s)), -1).astype(np.float32)
    places += cv2.resize(moves(picture, first), (s, s), interpolation=cv2.INTER_CUBIC) * (s / FLOW)
    unused: Any = None
    bent = cv2.remap(picture, places, unused, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.uint8)


def smooth_ages(
    base: npt.NDArray[np.float64], beta: npt.NDArray[np.float64], judged: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Ages (N,) of pictures from their person's judged age at beta 0 and beta.

    The judge's noise on one picture averages out.
    """
    a = base / 50
    b = beta / 4
    terms = np.stack([b, b * b, b**3, a * b, a * b * b, a * b**3, a * a * b, a * a * b * b], 1)
    weights = np.linalg.solve(terms.T @ terms + 1e-3 * np.eye(8), terms.T @ (judged - base))
    return base + terms @ weights


def groups_of(indices: npt.NDArray[Any], person: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Indices sorted into one array a person, of people with at least two."""
    order = indices[np.argsort(person[indices], kind="stable")]
    groups = np.split(order, np.flatnonzero(person[order][1:] != person[order][:-1]) + 1)
    return [g for g in groups if len(g) > 1]


class Crops:
    """The prepared set of a folder.

    Attributes:
        images: uint8 memmap (N, S, S, 5). size: S. kind, person, file: (N,) text. age, gender, beta, judged:
        (N,) float, NaN where unknown; gender 1 is female. held_out: (N,) bool.
    """

    def __init__(self, folder: str | Path) -> None:
        rows = read_table(Path(folder) / TABLE_FILE, *COLUMNS)
        self.images: npt.NDArray[np.uint8] = np.load(Path(folder) / CROPS_FILE, mmap_mode="r")
        if self.images.shape[-1] != 5:
            raise AgeEditError(
                f"{folder} was prepared by another version of this program; run the prepare stage again."
            )
        if len(self.images) != len(rows):
            raise AgeEditError(
                f"{folder} holds {len(self.images)} crops and a table of {len(rows)}; "
                "run the prepare stage again."
            )
        self.size = self.images.shape[1]
        self.kind = _texts(rows, "kind")
        self.person = _texts(rows, "person")
        self.file = _texts(rows, "file")
        self.age = _numbers(rows, "age")
        self.gender = _numbers(rows, "gender")
        self.beta = _numbers(rows, "beta")
        self.judged = _numbers(rows, "judged")
        self.held_out = _texts(rows, "held_out") == "1"
        self._smooth_pair_ages()

    def _smooth_pair_ages(self) -> None:
        """Give the pictures of pairs their smoothed ages; without a picture at beta 0 a person has none."""
        pair = np.flatnonzero(self.kind == "pair")
        base = {self.person[i]: self.judged[i] for i in pair if self.beta[i] == 0}
        pair = np.array([i for i in pair if self.person[i] in base], int)
        if len(pair):
            ages_at_zero = np.array([base[self.person[i]] for i in pair])
            self.age[pair] = smooth_ages(ages_at_zero, self.beta[pair], self.judged[pair])

    def load(
        self, indices: Sequence[int], device: "torch.device | str"
    ) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
        """Pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1, as tensors."""
        from agedit.training.images import batch_of  # `prepare` and its workers need no PyTorch

        return batch_of(self.images, indices, device)

    def people(self, held_out: bool = False) -> list[npt.NDArray[Any]]:
        """Index arrays, one for each person with at least two ages of the pairs."""
        is_wanted = (self.kind == "pair") & (self.held_out == held_out) & ~np.isnan(self.age)
        return groups_of(np.flatnonzero(is_wanted), self.person)

    def targets(self, held_out: bool = False) -> list[npt.NDArray[Any]]:
        """Index arrays, one for each real photo that inputs were made of (see `back_translation`).

        It, then they.
        """
        made = self.file[self.kind == "made"]
        is_wanted = np.isin(self.kind, ("photo", "made")) & np.isin(self.file, made)
        groups = groups_of(np.flatnonzero(is_wanted & (self.held_out == held_out)), self.file)
        return [group[np.argsort(self.kind[group] == "made", kind="stable")] for group in groups]

    def photos(self, held_out: bool = False) -> npt.NDArray[np.intp]:
        """Indices of the labelled photos."""
        return np.flatnonzero((self.kind == "photo") & (self.held_out == held_out))


def _texts(rows: list[dict[str, str]], column: str) -> npt.NDArray[np.str_]:
    return np.array([row[column] for row in rows])


def _numbers(rows: list[dict[str, str]], column: str) -> npt.NDArray[np.float64]:
    return np.array([float(row[column]) if row[column] else np.nan for row in rows])
