"""Stage `calibrate` (S63): alpha for each number of years, and the quality of each (r, c).

Both are measured on held-out photos with the app's own runtime. alpha depends on the sub-model, on the
apparent age and on the blur of the photo. The results go into the manifest; before that, the ranges for int8.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from agedit.blend import add_change_to_crop
from agedit.engine import Engine, to_network
from agedit.errors import AgeEditError
from agedit.runtime.ranges import measure_ranges
from agedit.submodel import cost
from agedit.tone import FOCUS, Tone, photo_blur
from agedit.training.common import ALPHA_PER_YEAR
from agedit.training.data import Crops
from agedit.training.export import write_manifest
from agedit.training.losses import Perceptual
from agedit.training.second_judge import SecondJudge
from agedit.training.third_judge import ThirdJudge
from agedit.weights import RANGES, Weights, sha256

# Years by the scale of training at which each face is judged.
ASKED = (-50, -35, -20, -10, 10, 20, 30, 45, 65, 90)
# |alpha| at most, for older (1) and younger (-1): further out pictures break.
STRONGEST = {1: 72 * ALPHA_PER_YEAR, -1: 44 * ALPHA_PER_YEAR}
# Power of the share of the slider by which fewer years may go less far than STRONGEST.
LESS = {1: 0.25, -1: 0.4}
# Share of the years between real people that the judges' mean sees: 0.69 over labelled photos held out. An
# edit is to be seen as somebody of that age is.
SEEN = 0.7
# Going younger all years are to be seen: with fewer, hair stays half grey.
SEEN_YOUNGER = 1.0
# Judged years that a further step of alpha gives at least, going older; less only spoils the picture.
LEAST_GAIN = 0.7
# How much longer than the one before a step of the slider may be, in alpha.
JUMP = 1.5
# Times STRONGEST that a sub-model may go to give what the full network gives.
FURTHER = 1.25
# Nodes of the table: years, apparent ages, blurs (sigma as a share of the crop).
YEARS = list(range(-30, 41, 5))
AGES = (10, 20, 30, 40, 50, 60, 70)
BLURS = (0.0, FOCUS.most_blur / 2, FOCUS.most_blur)
# Alphas at which the judged change is looked up, from 0 to the strongest.
GRID = 961
# Edge of a crop that is shrunk and enlarged again, of its own: about as soft as the labelled photos.
SMALL = 0.4
# Apparent ages that are asked for at most, and how far beyond the judges are still believed.
YOUNGEST = 5
OLDEST = 85
BEYOND_OLDEST = 35
# Most years that are added at an apparent age, and between them: children do not grow up here.
CHILDREN = {"ages": [4, 12], "years": [15, max(YEARS)]}
# Years at which sub-models are compared with the full network.
QUALITY_YEARS = (-20, 30)
# Alphas at which ranges for int8 are measured, in both forms.
RANGED = (-10, 0, 10, 20)
# Apparent ages, lowest and highest, of the photos and of the invented people that are judged.
PHOTO_AGES = (10, 75)
INVENTED_AGES = (15, 60)
# Added to alphas that are equal for more years, so that they can be looked up.
ALMOST_EQUAL = 1e-6
# Ridge of the fit, a sample.
RIDGE = 1e-4
# Every so many: of the faces for ranges (and of these in the strict form), of the invented for a soft one,
# for quality.
RANGED_EVERY = 4
STRICT_EVERY = 3
SOFT_EVERY = 3
QUALITY_EVERY = 3

Submodel = tuple[int, float]
Picture = npt.NDArray[np.uint8]
Judge = Callable[[npt.NDArray[np.uint8]], float]


class TableNode(NamedTuple):
    """A node of the calibration's table: apparent age and the photo's blur. alpha is interpolated between."""

    age: float
    blur: float


# alphas for each of YEARS, by node.
AlphaTable = dict[TableNode, list[float]]
TABLE_NODES = [TableNode(age, blur) for blur in BLURS for age in AGES]


class ShownCrop:
    """What the app shows of a prepared crop, within the square: photo + m (G(f + alpha n) - G(f)).

    Args:
        image: uint8 (S, S, 5). judges: what they see of an edit is averaged.
    """

    def __init__(self, engine: Engine, image: npt.NDArray[np.uint8], judges: Sequence[Judge]) -> None:
        self.engine = engine
        self.crop = np.ascontiguousarray(image[:, :, :3])
        self.mask = image[:, :, 3] / np.float32(255)
        self.hair = image[:, :, 4] / np.float32(255)
        self.f = engine.encode(self.crop)
        self.age = engine.readout.age(self.crop)[0]
        self.blur = photo_blur(self.crop)
        self.judges = judges
        self.before = [judge(self.crop) for judge in judges]
        self.base: dict[Submodel, npt.NDArray[np.float32]] = {}
        self.tones: dict[int, Tone] = {}

    def generate(self, alpha: float, r: int, c: float) -> npt.NDArray[np.float32]:
        """G_{r,c}(f + alpha n), (r, r, 3) in -1..1."""
        shifted = self.f + np.float32(alpha) * self.engine.weights.age_vector
        return self.engine.generate(shifted, self.engine.inputs(self.crop, r), r, c)

    def edit(self, alpha: float, r: int, c: float) -> npt.NDArray[np.uint8]:
        """The edited crop, RGB (S, S, 3)."""
        if (r, c) not in self.base:
            self.base[r, c] = self.generate(0, r, c)
        if r not in self.tones:
            self.tones[r] = Tone(self.crop, self.mask, self.hair, r, self.blur)
        change = self.tones[r]((self.generate(alpha, r, c) - self.base[r, c]) * 127.5)
        return add_change_to_crop(self.crop, change, self.mask)

    def judged_change(self, alpha: float, r: int, c: float) -> float:
        """By how many years the judges see the edit aged."""
        after = self.edit(alpha, r, c)
        changes = [judge(after) - before for judge, before in zip(self.judges, self.before, strict=True)]
        return float(np.mean(changes))


def softened(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A prepared crop (S, S, 5) as of a smaller photo."""
    size = image.shape[0]
    rgb = np.ascontiguousarray(image[:, :, :3])
    small = cv2.resize(rgb, None, fx=SMALL, fy=SMALL, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.dstack([np.asarray(soft, np.uint8), image[:, :, 3:]])


class Sample(NamedTuple):
    """The judged change of one edit, in years, and what it depends on."""

    alpha: float
    age: float
    blur: float
    invented: float  # 1 for an invented face, 0 for a real one
    change: float


def terms(alpha: Any, age: Any, blur: Any, invented: Any = 0) -> npt.NDArray[np.float64]:
    """A smooth surface through (0 alpha, 0 years): powers of alpha that vary with age, blur and invention.

    At one alpha invented faces get fewer years, and the slider is for real ones.

    Args:
        alpha, age, blur (`tone.photo_blur`), invented: numbers or arrays (N,), see `Sample`.

    Returns:
        (..., 15).
    """
    a, b, soft, drawn = (np.asarray(v, float)[..., None] for v in (alpha, age, blur, invented))
    a = a / STRONGEST[1]
    b = (b - 40) / 25
    soft = np.minimum(soft / FOCUS.most_blur, 1)
    factors = (b**0, b, b**2, soft, drawn)
    return np.concatenate([a**power * factor for power in (1, 2, 3) for factor in factors], -1)


def fit_surface(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """Ridge fit of the judged change to the samples: the terms' weights (15,)."""
    *inputs, change = np.array(samples, float).T
    x = terms(*inputs)
    return np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ change)


def invert(
    weights: npt.NDArray[np.float64],
    age: float,
    blur: float,
    wanted: Sequence[float] = YEARS,
    full: Sequence[float] | None = None,
) -> list[float]:
    """alpha for each of YEARS at a node: where the surface first reaches the change that is wanted.

    Of the full network STRONGEST at the most, older no further than the judges see more, and less for fewer
    years. Of a sub-model up to FURTHER times STRONGEST, and at least 1 / FURTHER of the full network's: where
    judges see no change there is one all the same.

    Args:
        weights: of the surface. wanted: judged change for each of YEARS.
        full: of a sub-model, the full network's alphas.
    """
    result = np.zeros(len(YEARS))
    for k, years in enumerate(YEARS):
        sign = -1 if years < 0 else 1
        end = STRONGEST[sign] * (FURTHER if full else 1)
        grid = np.linspace(0, end, GRID)
        judged = np.maximum.accumulate(terms(sign * grid, age, blur) @ weights * sign)
        reached = np.flatnonzero(judged >= sign * wanted[k])
        if sign > 0 and not full:
            end = min(end, useful_end(grid, judged))
        # Where the judge stops seeing a change the slider must still do something at every year, up to its
        # end.
        last = max(YEARS) if years > 0 else -min(YEARS)
        most = end * min(1, abs(years) / last) ** LESS[sign]
        found = grid[reached[0]] if len(reached) else most
        if full:
            found = max(found, abs(full[k]) / FURTHER)
        else:
            found = min(found, most)
        result[k] = sign * found
    zero = YEARS.index(0)  # more years, more change
    older = steady(np.maximum.accumulate(result[zero:]))
    younger = -steady(np.maximum.accumulate(-result[zero::-1]))
    result[zero:] = older
    result[zero::-1] = younger
    return [round(float(alpha), 4) for alpha in result]


def useful_end(grid: npt.NDArray[np.float64], judged: npt.NDArray[np.float64]) -> float:
    """The alpha from which on the judges see less than LEAST_GAIN for a further step.

    Half of the range at least: a judge that sees nothing does not end the slider.

    Args:
        grid: |alpha| from 0 on. judged: years, not falling.
    """
    gaining = np.flatnonzero(np.diff(judged) >= LEAST_GAIN * np.diff(grid))
    last = grid[gaining[-1] + 1] if len(gaining) else 0.0
    return float(max(last, grid[-1] / 2))


def wanted_years() -> list[float]:
    """The judged change that each of YEARS stands for."""
    return [years * (SEEN_YOUNGER if years < 0 else SEEN) for years in YEARS]


def steady(row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """alphas for more and more years, from 0 on, without a jump where the judges stop seeing more.

    No step is longer than JUMP times the last, or than JUMP times the mean one.
    """
    row = np.array(row, float)
    for k in range(2, len(row)):
        last_step = row[k - 1] - row[k - 2]
        mean_step = row[k - 1] / (k - 1)
        row[k] = min(row[k], row[k - 1] + JUMP * max(last_step, mean_step))
    return row


def spread(crops: Crops, index: npt.NDArray[np.integer[Any]], ages: tuple[int, int], count: int) -> list[int]:
    """At most `count` of the crops `index`, their judged ages spread evenly over `ages` (lowest, highest)."""
    judged = crops.judged[index]
    chosen = [int(index[np.argmin(np.abs(judged - age))]) for age in np.linspace(*ages, count)]
    return list(dict.fromkeys(chosen))  # each once, in order


def write_ranges(engine: Engine, crops: Sequence[npt.NDArray[np.uint8]], out: str | Path) -> None:
    """Write RANGES into `out`, of every (r, c) over RGB `crops`, and its hash into the manifest (see
    `runtime.int8`).
    """
    weights = engine.weights
    arrays = weights.part("generator")
    features = [engine.encode(crop) for crop in crops]
    found = {}
    for r, c in tqdm(weights.candidates, desc="ranges", unit="sub-model"):
        feeds = []
        for k, (crop, f) in enumerate(zip(crops, features, strict=True)):
            forms = [engine.inputs(crop, r)]
            if k % STRICT_EVERY == 0:
                forms.append(engine.sketch(f, r))
            for photos in forms:
                feeds += [{"f": f + np.float32(alpha) * weights.age_vector, **photos} for alpha in RANGED]
        for layer, values in measure_ranges(arrays, r, c, feeds).items():
            found[f"{r}:{c:g}/{layer}"] = values.astype(np.float16)
    save_file(found, Path(out) / RANGES)
    weights.manifest["files"][RANGES] = sha256(Path(out) / RANGES)
    write_manifest(out, weights.manifest)


@dataclass
class Faces:
    """The faces that are judged: real photos first, then invented people, some of these soft too."""

    shown: list[ShownCrop]
    real: int

    def samples(self, submodel: Submodel) -> list[Sample]:
        """The judged change of each face at each of ASKED that the judges can be believed at."""
        result = []
        for k, face in enumerate(self.shown):
            for years in ASKED:
                if YOUNGEST <= face.age + years <= OLDEST + BEYOND_OLDEST:
                    alpha = years * ALPHA_PER_YEAR
                    change = face.judged_change(alpha, *submodel)
                    result.append(Sample(alpha, face.age, face.blur, float(k >= self.real), change))
        return result


def choose_faces(crops: Crops, more: Sequence[Crops], photos: int) -> tuple[list[Picture], list[Picture]]:
    """Real photos and invented people, as prepared crops (S, S, 5).

    Of the real ones the held-out half that `evaluate` leaves, mostly soft, and those of `more` that are not
    held out. The invented are as sharp as today's cameras.
    """
    real = [crops.images[i] for i in spread(crops, crops.photos(True)[::2], PHOTO_AGES, photos // 2)]
    for other in more:
        real += [other.images[i] for i in spread(other, other.photos(False), PHOTO_AGES, photos // 2)]
    own_age = [i for group in crops.people(True) for i in group if crops.beta[i] == 0]
    if not own_age:
        return real, []
    invented = spread(crops, np.array(own_age, int), INVENTED_AGES, photos // 2)
    return real, [crops.images[i] for i in invented]


@dataclass
class Calibration:
    """alphas of every sub-model, and the mean judged change by years at training's scale, of the full
    network.
    """

    tables: dict[Submodel, AlphaTable]
    judged: list[list[float]]


def follow(
    new: Sequence[float], before: Sequence[float], other: Sequence[float], limits: Mapping[int, float]
) -> list[float]:
    """Alphas of a sub-model that stand to another's `new` ones as they did when both were judged alike.

    Args:
        new: alphas for each of YEARS. before: those that they replace. other: the sub-model's own up to now.
        limits: |alpha| at most, by sign.
    """
    zero = YEARS.index(0)
    result = np.zeros(len(YEARS))
    for sign, years in ((1, slice(zero, None)), (-1, slice(zero, None, -1))):
        places = np.abs(before[years]) + ALMOST_EQUAL * np.arange(len(before[years]))
        values = np.abs(other[years])
        wanted = np.abs(new[years])
        found = np.interp(wanted, places, values)
        beyond = wanted > places[-1]
        found[beyond] = values[-1] * wanted[beyond] / places[-1]
        # Where the judges saw no more, what the old tables say of each other is chance.
        found = np.clip(found, wanted / FURTHER, wanted * FURTHER)
        result[years] = sign * np.minimum(found, limits[sign])
    return [round(float(alpha), 4) for alpha in result]


def follow_alphas(engine: Engine, submodel: Submodel, measured: AlphaTable) -> dict[Submodel, AlphaTable]:
    """Tables of all sub-models when only one was measured anew: `follow` at every node.

    Raises AgeEditError where the present table has other nodes.
    """
    table = engine.weights.manifest["calibration"]
    nodes = [table["years"], table["ages"], table["blurs"]]
    if nodes != [YEARS, list(AGES), list(BLURS)]:
        raise AgeEditError("The weights were calibrated at other nodes; calibrate every sub-model anew.")
    before = engine.weights.calibration.alphas
    tables: dict[Submodel, AlphaTable] = {}
    for other in engine.weights.candidates:
        room = 1.0 if other == engine.weights.full else FURTHER
        limits = {sign: room * most for sign, most in STRONGEST.items()}
        tables[other] = {}
        for k, node in enumerate(TABLE_NODES):
            blur, age = divmod(k, len(AGES))
            old = before[submodel][blur][age]
            own = before[other][blur][age]
            new = measured[node]
            tables[other][node] = list(new) if other == submodel else follow(new, old, own, limits)
    return tables


def measure_alphas(engine: Engine, faces: Faces, only: Submodel | None = None) -> Calibration:
    """Alphas by which every sub-model gives the change that was asked, as far as the full network does.

    only: the one that is judged; the others follow it.
    """
    if only:
        samples = faces.samples(only)
        weights = fit_surface(samples)
        to_see = wanted_years()
        table = {node: invert(weights, node.age, node.blur, to_see) for node in TABLE_NODES}
        return Calibration(follow_alphas(engine, only, table), _mean_changes(samples))
    full = engine.weights.full
    tables: dict[Submodel, AlphaTable] = {}
    judged: list[list[float]] = []
    wanted: dict[TableNode, Sequence[float]] = dict.fromkeys(TABLE_NODES, wanted_years())
    own: AlphaTable = {}
    for submodel in tqdm(engine.weights.candidates[::-1], desc="calibrate", unit="sub-model"):
        samples = faces.samples(submodel)
        weights = fit_surface(samples)
        tables[submodel] = {
            node: invert(weights, node.age, node.blur, wanted[node], own.get(node)) for node in TABLE_NODES
        }
        if submodel == full:
            # It comes first; of the others is wanted what it gives at its own alphas.
            own = tables[full]
            wanted = {node: list(terms(row, *node) @ weights) for node, row in own.items()}
            judged = _mean_changes(samples)
    return Calibration(tables, judged)


def _mean_changes(samples: Sequence[Sample]) -> list[list[float]]:
    """[years at training's scale, mean judged change] for each of ASKED that was judged."""
    result = []
    for years in ASKED:
        changes = [sample.change for sample in samples if sample.alpha == years * ALPHA_PER_YEAR]
        if changes:
            result.append([years, round(float(np.mean(changes)), 1)])
    return result


def measure_quality(
    engine: Engine, faces: Sequence[ShownCrop], perceptual: Perceptual
) -> list[dict[str, float]]:
    """How far each (r, c) is from the full network, best first.

    LPIPS, squared error (of 0..1) and judged years between both.
    """
    candidates = engine.weights.candidates
    full = engine.weights.full
    rows: dict[Submodel, list[tuple[float, float, float]]] = {submodel: [] for submodel in candidates}
    for face in tqdm(faces, desc="quality", unit="photo"):
        for years in QUALITY_YEARS:
            best = _edit_by_years(engine, face, years, full)
            age = engine.readout.age(best)[0]
            for submodel in candidates:
                picture = _edit_by_years(engine, face, years, submodel)
                with torch.no_grad():
                    distance = perceptual(_tensor(picture), _tensor(best)).item()
                error = float(np.mean((picture / 255.0 - best / 255.0) ** 2))
                rows[submodel].append((distance, error, abs(engine.readout.age(picture)[0] - age)))
    means = {submodel: np.mean(values, 0) for submodel, values in rows.items()}

    def best_first(submodel: Submodel) -> tuple[float, float]:
        return means[submodel][0], -cost(*submodel).macs

    result = []
    for r, c in sorted(candidates, key=best_first):
        lpips, mse, age_difference = (float(v) for v in means[r, c])
        result.append(
            {
                "r": r,
                "c": c,
                "lpips": round(lpips, 4),
                "mse": round(mse, 6),
                "age_difference": round(age_difference, 2),
            }
        )
    return result


def _edit_by_years(engine: Engine, face: ShownCrop, years: int, submodel: Submodel) -> npt.NDArray[np.uint8]:
    return face.edit(engine.weights.alpha(years, face.age, face.blur, *submodel), *submodel)


def _tensor(picture: npt.NDArray[np.uint8]) -> torch.Tensor:
    """RGB (S, S, 3) as (1, 3, S, S) in -1..1."""
    return torch.from_numpy(to_network(picture, len(picture)))


def calibrate(
    data: str | Path,
    out: str | Path,
    wheel: str | Path,
    second_judge: str | Path | None = None,
    photos: int = 48,
    more: Sequence[str | Path] = (),
    third_judge: str | Path | None = None,
    only: Submodel | None = None,
) -> None:
    """Measure and write `calibration` and `quality` into the manifest of `out`.

    Args:
        data: a prepared folder. wheel: the perceptual trunk's. photos: faces that are judged, about.
        second_judge, third_judge: packages of other age judges; years are the mean of all then, as a network
        that sat in the losses sees more of an edit than others do.
        more: prepared folders of photos as people take them, that no stage learned from.
        only: the one sub-model that is judged, where the others were judged before with these networks; the
        ranges stay, too.
    """
    real, invented = choose_faces(Crops(data), [Crops(folder) for folder in more], photos)
    chosen = real + invented
    if not only:
        ranged = [np.ascontiguousarray(picture[:, :, :3]) for picture in chosen[::RANGED_EVERY]]
        write_ranges(Engine(Weights(Path(out))), ranged, out)
    engine = Engine(Weights(Path(out)))

    def shipped_judge(crop: npt.NDArray[np.uint8]) -> float:
        return engine.readout.age(crop)[0]

    judges: list[Judge] = [shipped_judge]
    if second_judge:
        judges.append(SecondJudge(second_judge).age)
    if third_judge:
        judges.append(ThirdJudge(third_judge).age)
    # Some invented people soft too: what blur does would be taken for what an invention does.
    pictures = chosen + [softened(picture) for picture in invented[::SOFT_EVERY]]
    faces = Faces([ShownCrop(engine, picture, judges) for picture in pictures], len(real))
    found = measure_alphas(engine, faces, only)
    manifest = engine.weights.manifest
    manifest["calibration"] = {
        "years": YEARS,
        "ages": list(AGES),
        "blurs": list(BLURS),
        "youngest": YOUNGEST,
        "oldest": OLDEST,
        "children": CHILDREN,
        "photos": len(faces.shown),
        "judges": len(judges),
        "judged": found.judged,
        "submodels": [
            {"r": r, "c": c, "alpha": _by_blur_and_age(found.tables[r, c])}
            for r, c in engine.weights.candidates
        ],
    }
    write_manifest(out, manifest)
    engine = Engine(Weights(Path(out)))  # with the new table
    manifest = engine.weights.manifest
    quality = measure_quality(engine, faces.shown[::QUALITY_EVERY], Perceptual(wheel))
    manifest["quality_order"] = [[row["r"], row["c"]] for row in quality]
    manifest["quality"] = quality
    write_manifest(out, manifest)
    print("judged change by asked years, training's scale:", found.judged)
    print("quality:", quality)


def _by_blur_and_age(table: AlphaTable) -> list[list[list[float]]]:
    return [[table[TableNode(age, blur)] for age in AGES] for blur in BLURS]
