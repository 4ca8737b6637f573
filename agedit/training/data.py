"""Stage `prepare`: photos and same-person pairs into aligned crops with masks (S11), ages and labels (S12).

Writes `crops.npy`, uint8 (N, S, S, 5): RGB, the blend mask and the hair, and `table.csv`, one row a crop.
"""

import csv
import hashlib
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from agedit.align import align
from agedit.errors import AgeEditError
from agedit.estimators import SAME_EXPRESSION, Estimators, expression
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.paths import weights_folder
from agedit.photo import load_photo
from agedit.runtime import open_session

COLUMNS = ["kind", "file", "person", "age", "gender", "beta", "judged", "held_out"]
FLOW, FLOW_BLUR = (
    256,
    4,
)  # pixels at which two ages are brought into register, and the sigma that smooths their moves
_worker = {}


def is_held_out(person, share=0.08):
    """A fixed, order-free choice of the people who are never trained on."""
    return int(hashlib.sha256(str(person).encode()).hexdigest()[:8], 16) / 2**32 < share


def read_table(path, *required):
    """Rows of a CSV; raises AgeEditError when it or a column is missing."""
    if not Path(path).exists():
        raise AgeEditError(f"{path} is missing; training needs a CSV with the columns {', '.join(required)}.")
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    missing = [c for c in required if not rows or c not in rows[0]]
    if missing:
        raise AgeEditError(f"{path} has no column {', '.join(missing)}; add it.")
    return rows


def _label(row, path):
    """(age, gender) of a CSV row as the table wants them: years, and '0' male, '1' female or ''."""
    genders = {"": "", "0": "0", "m": "0", "male": "0", "1": "1", "f": "1", "female": "1"}
    gender = genders.get((row.get("gender") or "").strip().lower())
    try:
        age = float(row["age"])
    except (TypeError, ValueError):
        age = -1
    if not 0 <= age <= 120 or gender is None:
        raise AgeEditError(
            f"{path}: the row of {row['file']} needs an age from 0 to 120 and, if given, a gender "
            "0/male or 1/female; mend or remove it."
        )
    return age, gender


def _jobs(photos, labels, pairs):
    for row in read_table(labels, "file", "age") if photos else []:
        yield [("photo", Path(photos), row["file"], row["file"], *_label(row, labels), "")]
    for folder in pairs:
        people = {}
        for row in read_table(Path(folder) / "pairs.csv", "file", "person", "beta"):
            people.setdefault(row["person"], []).append(row)
        for person, rows in people.items():  # the base picture's alignment serves all of a person's pictures
            rows.sort(key=lambda r: abs(float(r["beta"])))
            yield [("pair", Path(folder), r["file"], person, "", "", r["beta"]) for r in rows]


def moves(picture, first):
    """Where in a picture of a pair lies what its person's first picture shows: float32 (FLOW, FLOW, 2), offsets (x, y) in FLOW-sized pixels.

    Two ages of the teacher's differ in where a nose ends, a brow or a jaw lies too. An edit adds light and dark to a photo, so a network
    that learned such a move drew ghosts: dark flanks of noses, double brows, rims along jaws. Dense inverse search optical flow (Kroeger
    et al. 2016) between both with their contrast evened out, smoothed so that a fold is not taken for a move.

    Args:
        picture, first: RGB uint8 (S, S, 3), aligned by one matrix.
    """

    def even(v):
        grey = cv2.cvtColor(
            cv2.resize(v, (FLOW, FLOW), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
        ).astype(np.float32)
        grey = cv2.GaussianBlur(grey, (0, 0), 1)
        detail = grey - cv2.GaussianBlur(grey, (0, 0), 10)
        strength = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 10)) + 6
        return np.clip(128 + 48 * detail / strength, 0, 255).astype(np.uint8)

    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setVariationalRefinementIterations(10)
    flow.setVariationalRefinementAlpha(40)
    return cv2.GaussianBlur(flow.calc(even(first), even(picture), None), (0, 0), FLOW_BLUR)


def in_register(picture, first):
    """A picture of a pair, RGB uint8 (S, S, 3), bent by `moves` so that what it shows lies where the first one has it; skin, hair and folds are
    left to differ."""
    s = picture.shape[0]
    at = np.stack(np.meshgrid(np.arange(s), np.arange(s)), -1).astype(np.float32)
    at += cv2.resize(moves(picture, first), (s, s), interpolation=cv2.INTER_CUBIC) * (s / FLOW)
    return cv2.remap(picture, at, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _start(size):
    cv2.setNumThreads(1)
    _worker.update(
        size=size,
        finder=FaceFinder(),
        masker=Masker(),
        readout=Estimators(lambda name: open_session(weights_folder() / name, 1)),
    )


def _prepare(job):
    face = mask = first = None
    result = []  # rows, crops, edges in pixels
    for kind, folder, file, person, age, gender, beta in job:
        for folder_try in (folder, folder / "images"):
            if (folder_try / file).exists():
                break
        try:
            photo = load_photo(folder_try / file)
            scale = photo.shape[0] / result[0][2] if result else 1  # pairs of one person share one framing
            if face is None:
                face = _worker["finder"].find(photo)[0]
                if face.reason_to_refuse():
                    return result
                neutral = expression(face.points)
            # an age that smiles less would teach to frown
            elif (
                scale != 1
                or (
                    abs(expression(_worker["finder"].find(photo)[0].points) - neutral) > SAME_EXPRESSION
                ).any()
            ):
                continue
            if kind == "pair":  # bent at twice the size: so it costs no sharpness
                crop = align(photo, face, 2 * _worker["size"])
                first, crop = (crop, crop) if first is None else (first, in_register(crop, first))
                crop = cv2.resize(crop, (_worker["size"],) * 2, interpolation=cv2.INTER_AREA)
            else:
                crop = align(photo, face, _worker["size"])
            hair = _worker["masker"].hair(crop)
        except AgeEditError:
            return result
        if mask is None:
            mask = _worker["masker"].mask(hair, face, photo.shape[:2])
        judged, male = _worker["readout"].age(crop)
        gender = gender or ("0" if male > 0.5 else "1")
        if result and gender != result[0][0][4]:
            continue
        planes = [
            cv2.resize(to_bytes(v), crop.shape[:2], interpolation=cv2.INTER_LINEAR) for v in (mask, hair)
        ]
        result.append(
            (
                [kind, file, person, age, gender, beta, f"{judged:.2f}", int(is_held_out(person))],
                np.dstack([crop, *planes]),
                photo.shape[0],
            )
        )
    return result


def to_bytes(mask):
    """A mask in 0..1 as uint8."""
    return (mask * 255 + 0.5).astype(np.uint8)


def prepare(out, photos=None, labels=None, pairs=(), workers=2, size=256):
    """Align and judge everything once.

    Args:
        out: folder for `crops.npy` and `table.csv`. photos, labels: a folder and a CSV with `file,age[,gender]`
        (0 male, 1 female; judged when absent). pairs: folders with `pairs.csv` (`file,person,beta`). size: S, pixels of a crop.

    Returns:
        Number of crops. Pictures without a usable face, and those of a pair whose expression or gender is another than the
        base picture's, are skipped and counted on the last line.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(photos, labels, pairs))
    total = sum(map(len, jobs))
    if not total:
        raise AgeEditError("Nothing to prepare; give --photos with --labels, or --pairs.")
    crops = np.lib.format.open_memmap(out / "crops.tmp.npy", "w+", np.uint8, (total, size, size, 5))
    n = 0
    with (
        open(out / "table.csv", "w", newline="") as f,
        get_context("spawn").Pool(workers, _start, (size,)) as pool,
    ):
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for result in tqdm(
            pool.imap(_prepare, jobs, chunksize=16), total=len(jobs), desc="prepare", unit="person"
        ):
            for row, crop, _ in result:
                writer.writerow(row)
                crops[n] = crop
                n += 1
    if not n:
        raise AgeEditError(
            "No usable face in any of these pictures; check the folder, and that faces are visible."
        )
    final = np.lib.format.open_memmap(out / "crops.npy", "w+", np.uint8, (n, size, size, 5))
    final[:] = crops[:n]
    (out / "crops.tmp.npy").unlink()
    print(
        f"{n} crops, {total - n} pictures skipped (no usable face, or another expression or gender than the person's first)"
    )
    return n


def smooth_ages(base, beta, judged):
    """Ages (N,) of pictures from their person's judged age at beta 0 and beta: the judge's noise on one picture averages out."""
    a, b = base / 50, beta / 4
    terms = np.stack([b, b * b, b**3, a * b, a * b * b, a * b**3, a * a * b, a * a * b * b], 1)
    weights = np.linalg.solve(terms.T @ terms + 1e-3 * np.eye(8), terms.T @ (judged - base))
    return base + terms @ weights


def groups_of(indices, person):
    """Indices sorted into one array a person, of people with at least two."""
    order = indices[np.argsort(person[indices], kind="stable")]
    groups = np.split(order, np.flatnonzero(person[order][1:] != person[order][:-1]) + 1)
    return [g for g in groups if len(g) > 1]


class Crops:
    """The prepared set: `images` uint8 memmap (N, S, S, 5) and the table's columns as arrays."""

    def __init__(self, folder):
        rows = read_table(Path(folder) / "table.csv", *COLUMNS)
        self.images = np.load(Path(folder) / "crops.npy", mmap_mode="r")
        if self.images.shape[-1] != 5:
            raise AgeEditError(
                f"{folder} was prepared by another version of this program; run the prepare stage again."
            )
        self.size = self.images.shape[1]
        number = lambda c: np.array([float(r[c]) if r[c] else np.nan for r in rows])
        self.kind = np.array([r["kind"] for r in rows])
        self.person = np.array([r["person"] for r in rows])
        self.file = np.array([r["file"] for r in rows])
        self.age, self.gender, self.beta, self.judged = map(number, ("age", "gender", "beta", "judged"))
        self.held_out = np.array([r["held_out"] == "1" for r in rows])
        pair = np.flatnonzero(self.kind == "pair")
        base = {self.person[i]: self.judged[i] for i in pair if self.beta[i] == 0}
        pair = np.array([i for i in pair if self.person[i] in base], int)
        if len(pair):
            self.age[pair] = smooth_ages(
                np.array([base[self.person[i]] for i in pair]), self.beta[pair], self.judged[pair]
            )

    def load(self, indices, device):
        """Pictures (B, 3, S, S) in -1..1, masks and hair (B, 1, S, S) in 0..1, as tensors."""
        from agedit.training.common import batch_of  # `prepare` and its workers need no PyTorch

        return batch_of(self.images, indices, device)

    def people(self, held_out=False):
        """Index arrays, one a person with at least two ages of the pairs."""
        return groups_of(
            np.flatnonzero((self.kind == "pair") & (self.held_out == held_out) & ~np.isnan(self.age)),
            self.person,
        )

    def photos(self, held_out=False):
        """Indices of the labelled photos."""
        return np.flatnonzero((self.kind == "photo") & (self.held_out == held_out))
