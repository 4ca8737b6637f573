"""Stage `prepare`.

Photos and same-person pairs into aligned crops with masks (S11), ages and labels (S12).

What is done is kept in a folder `unfinished` beside the result, so that a run that was stopped goes on; the
finished `crops.npy` and `table.csv` replace older ones together, at the end.
"""

import csv
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from agedit.align import Face, align
from agedit.errors import AgeEditError
from agedit.estimators import SAME_EXPRESSION, Estimators, expression_measures
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.paths import weights_folder
from agedit.photo import load_photo
from agedit.runtime import open_session
from agedit.training.data import (
    COLUMNS,
    CROPS_FILE,
    PAIRS_FILE,
    TABLE_FILE,
    in_register,
    is_held_out,
    read_table,
    to_bytes,
)
from agedit.training.signals import STOPPED, stop_on_signal

# Jobs whose results are written at once: what a run that ends suddenly loses at most.
PART = 64
# Jobs that a worker gets at once.
CHUNK = 8
# How a CSV may name genders, and how the table does.
GENDERS = {"": "", "0": "0", "m": "0", "male": "0", "1": "1", "f": "1", "female": "1"}
# Years that a label may have.
AGE_LIMITS = (0, 120)


class Picture(NamedTuple):
    """A picture to prepare; age, gender and beta as the table writes them, "" where unknown."""

    kind: str
    folder: str
    file: str
    person: str
    age: str
    gender: str
    beta: str


# The pictures of one person, the base picture first: its alignment serves them all.
Job = list[Picture]


@dataclass
class Prepared:
    """A row of the table, and its crop, uint8 (S, S, 5)."""

    row: list[str]
    crop: npt.NDArray[np.uint8]


def _label(row: dict[str, str], path: str | Path) -> tuple[str, str]:
    """(age, gender) of a CSV row as the table wants them: years, and '0' male, '1' female or ''."""
    gender = GENDERS.get((row.get("gender") or "").strip().lower())
    try:
        age = float(row["age"])
    except (TypeError, ValueError):
        age = -1.0
    if not AGE_LIMITS[0] <= age <= AGE_LIMITS[1] or gender is None:
        raise AgeEditError(
            f"{path}: the row of {row['file']} needs an age from 0 to 120 and, if given, a gender "
            "0/male or 1/female; mend or remove it."
        )
    return str(age), gender


def find_jobs(
    photos: str | Path | None, labels: str | Path | None, pairs: Sequence[str | Path]
) -> Iterator[Job]:
    """What is to be prepared: each labelled photo, and each person of the pairs."""
    if photos and labels:
        for row in read_table(labels, "file", "age"):
            age, gender = _label(row, labels)
            yield [Picture("photo", str(photos), row["file"], row["file"], age, gender, "")]
    for folder in pairs:
        people: dict[str, list[dict[str, str]]] = {}
        for row in read_table(Path(folder) / PAIRS_FILE, "file", "person", "beta"):
            people.setdefault(row["person"], []).append(row)
        for person, rows in people.items():
            rows.sort(key=_distance_from_base)
            yield [Picture("pair", str(folder), row["file"], person, "", "", row["beta"]) for row in rows]


def _distance_from_base(row: dict[str, str]) -> float:
    return abs(float(row["beta"]))


class Worker:
    """Finds, aligns, masks and judges faces, in a process of its own.

    Args:
        size: pixels of a crop.
    """

    def __init__(self, size: int) -> None:
        cv2.setNumThreads(1)
        self.size = size
        self.finder = FaceFinder()
        self.masker = Masker()
        self.estimators = Estimators(lambda name: open_session(weights_folder() / name, 1))

    def prepare(self, job: Job) -> list[Prepared]:
        """What can be used of a person's pictures; nothing where the base picture cannot."""
        person = _Person(self)
        result = []
        for picture in job:
            try:
                prepared = person.prepare(picture)
            except AgeEditError:
                break
            if prepared:
                result.append(prepared)
            elif not result:
                break
        return result


class _Person:
    """The pictures of one person: all are aligned and masked as the base picture, the first, is."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.base: _Base | None = None
        self.gender = ""

    def prepare(self, picture: Picture) -> Prepared | None:
        """A picture's row and crop; None where the face, its size, expression or gender is not to be used.

        Raises AgeEditError where the picture cannot be read, or shows no face.
        """
        worker = self.worker
        photo = load_photo(_path_of(picture))
        is_first = self.base is None
        if is_first:
            face = worker.finder.find(photo)[0]
            if face.reason_to_refuse():
                return None
            self.base = _Base(face, photo.shape[0], expression_measures(face.points))
        assert self.base is not None
        if not is_first and not self._is_usable(photo):
            return None
        face = self.base.face
        crop = self._crop(picture, photo)
        hair = worker.masker.hair(crop)
        if self.base.mask is None:
            self.base.mask = np.asarray(worker.masker.mask(hair, face, photo.shape[:2]), np.float32)
        judged, male = worker.estimators.age(crop)
        gender = picture.gender or ("0" if male > 0.5 else "1")
        if is_first:
            self.gender = gender
        elif gender != self.gender:
            return None
        planes = [
            cv2.resize(
                to_bytes(np.asarray(plane, np.float32)),
                (worker.size, worker.size),
                interpolation=cv2.INTER_LINEAR,
            )
            for plane in (self.base.mask, hair)
        ]
        held_out = str(int(is_held_out(picture.person)))
        row = [picture.kind, picture.file, picture.person, picture.age, gender, picture.beta]
        return Prepared([*row, f"{judged:.2f}", held_out], np.dstack([crop, *planes]).astype(np.uint8))

    def _is_usable(self, photo: npt.NDArray[np.uint8]) -> bool:
        """Whether a later picture has the base picture's framing and expression.

        An age that smiles less would teach to frown.
        """
        assert self.base is not None
        if photo.shape[0] != self.base.height:
            return False
        found = self.worker.finder.find(photo)[0]
        return bool((abs(expression_measures(found.points) - self.base.expression) <= SAME_EXPRESSION).all())

    def _crop(self, picture: Picture, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The aligned crop, RGB (S, S, 3); of a pair in register with the base picture."""
        assert self.base is not None
        size = self.worker.size
        if picture.kind != "pair":
            return np.asarray(align(photo, self.base.face, size), np.uint8)
        # Bent at twice the size, so that it costs no sharpness.
        crop = np.asarray(align(photo, self.base.face, 2 * size), np.uint8)
        if self.base.crop is None:
            self.base.crop = crop
        else:
            crop = in_register(crop, self.base.crop)
        return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


@dataclass
class _Base:
    """A person's base picture.

    Its face, pixels from top to bottom, expression, and the crop of a pair at twice the size.
    """

    face: Face
    height: int
    expression: npt.NDArray[np.float64]
    crop: npt.NDArray[np.uint8] | None = None
    mask: npt.NDArray[np.float32] | None = None


def _path_of(picture: Picture) -> Path:
    """Where a picture lies: in its folder, or in the folder's subfolder images/."""
    path = Path(picture.folder) / picture.file
    return path if path.exists() else Path(picture.folder) / "images" / picture.file


# The worker of this process.
_worker: Worker | None = None


def _start_worker(size: int) -> None:
    global _worker  # noqa: PLW0603 (a pool's processes have no other place)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one decides
    _worker = Worker(size)


def _prepare_in_worker(job: Job) -> list[Prepared]:
    assert _worker is not None
    return _worker.prepare(job)


def run_jobs(jobs: Sequence[Job], workers: int, size: int) -> Generator[list[Prepared], None, None]:
    """What is found in each job, in order, by several processes.

    Raises AgeEditError when a process dies: for want of memory it is killed, and a pool would wait for it for
    ever.
    """
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (size,))
    try:
        yield from pool.map(_prepare_in_worker, jobs, chunksize=CHUNK)
    except BrokenProcessPool:
        raise AgeEditError(
            "A worker process ended; where nothing above says why, for want of memory. "
            "Give the same command again with fewer --workers; what was done is kept."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Unfinished:
    """What a run has done so far, in files of PART jobs each.

    Args:
        out: folder of the result. jobs, size: of the run; parts of other jobs or of another size are not
        used.
    """

    def __init__(self, out: Path, jobs: Sequence[Job], size: int) -> None:
        key = hashlib.sha256(json.dumps([size, PART, jobs]).encode()).hexdigest()[:16]
        self.root = out / "unfinished"
        self.folder = self.root / key
        if self.root.exists():
            for other in self.root.iterdir():
                if other != self.folder:
                    shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = 0
        while self._path(self.parts).exists():
            self.parts += 1

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.npz"

    def add(self, results: Sequence[Prepared], size: int) -> None:
        """Write the results of the next PART jobs, whole or not at all."""
        crops = np.zeros((len(results), size, size, 5), np.uint8)
        for k, prepared in enumerate(results):
            crops[k] = prepared.crop
        temporary = self.folder / "part.tmp.npz"
        np.savez(temporary, crops=crops, rows=json.dumps([prepared.row for prepared in results]))
        os.replace(temporary, self._path(self.parts))
        self.parts += 1

    def read(self) -> Iterator[tuple[list[list[str]], npt.NDArray[np.uint8]]]:
        """(rows, crops) of each part."""
        for part in range(self.parts):
            with np.load(self._path(part)) as found:
                yield json.loads(str(found["rows"])), found["crops"]

    def remove(self) -> None:
        shutil.rmtree(self.root)


def _publish(out: Path, unfinished: Unfinished, count: int, size: int) -> None:
    """Put the result in the place of an older one.

    Without a table there is no prepared folder: the table comes last.
    """
    crops = np.lib.format.open_memmap(out / "crops.tmp.npy", "w+", np.uint8, (count, size, size, 5))
    begin = 0
    with open(out / "table.tmp.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for rows, part in unfinished.read():
            writer.writerows(rows)
            crops[begin : begin + len(part)] = part
            begin += len(part)
    crops.flush()
    del crops
    (out / TABLE_FILE).unlink(missing_ok=True)
    os.replace(out / "crops.tmp.npy", out / CROPS_FILE)
    os.replace(out / "table.tmp.csv", out / TABLE_FILE)
    unfinished.remove()


def prepare(
    out: str | Path,
    photos: str | Path | None = None,
    labels: str | Path | None = None,
    pairs: Sequence[str | Path] = (),
    workers: int = 2,
    size: int = 256,
) -> int:
    """Align and judge everything once; goes on where an earlier run of the same pictures was stopped.

    Args:
        out: folder for `crops.npy` and `table.csv`.
        photos, labels: a folder and a CSV with `file,age[,gender]` (0 male, 1 female; judged when absent).
        pairs: folders with `pairs.csv` (`file,person,beta`). workers: processes. size: S, pixels of a crop.

    Returns:
        Number of crops. Pictures without a usable face, and those of a pair whose expression or gender is
        another than the base picture's, are left out and counted on the last line.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    jobs = list(find_jobs(photos, labels, pairs))
    total = sum(len(job) for job in jobs)
    if not total:
        raise AgeEditError("Nothing to prepare; give --photos with --labels, or --pairs.")
    unfinished = Unfinished(out, jobs, size)
    with stop_on_signal() as stopped:
        done = unfinished.parts * PART
        waiting: list[Prepared] = []
        results = run_jobs(jobs[done:], workers, size)
        bar = tqdm(results, initial=min(done, len(jobs)), total=len(jobs), desc="prepare", unit="person")
        for number, result in enumerate(bar, done + 1):
            waiting += result
            if number % PART == 0 or number == len(jobs):
                unfinished.add(waiting, size)
                waiting = []
            if stopped():
                results.close()
                raise SystemExit(STOPPED)
    count = sum(len(rows) for rows, _ in unfinished.read())
    if not count:
        unfinished.remove()
        raise AgeEditError(
            "No usable face in any of these pictures; check the folder, and that faces are visible."
        )
    _publish(out, unfinished, count, size)
    print(
        f"{count} crops, {total - count} pictures skipped "
        "(no usable face, or another expression or gender than the person's first)"
    )
    return count
