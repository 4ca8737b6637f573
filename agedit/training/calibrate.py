"""Stage `calibrate`: years -> alpha for each (r, c), apparent age and blur of the photo, and the quality of each (r, c), measured on
held-out photos with the app's own runtime; the results go into the manifest. Before that, the ranges for int8."""

from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from agedit.blend import add_change_to_crop
from agedit.engine import Engine, to_network
from agedit.runtime.ranges import measure_ranges
from agedit.submodel import cost
from agedit.tone import FOCUS, Tone, photo_blur
from agedit.training.batches import ALPHA_PER_YEAR
from agedit.training.data import Crops
from agedit.training.export import write_manifest
from agedit.training.losses import Perceptual
from agedit.training.second_judge import SecondJudge
from agedit.weights import RANGES, Weights, sha256

ASKED = (-50, -35, -20, -10, 10, 20, 30, 45, 65, 90)  # years by the scale of training
STRONGEST = {
    1: 72 * ALPHA_PER_YEAR,
    -1: 44 * ALPHA_PER_YEAR,
}  # |alpha| for older and younger: further out pictures break
LESS = {
    1: 0.25,
    -1: 0.4,
}  # power of the share of the slider by which fewer years may go less far than STRONGEST
YOUNGER = 1.25  # times as many years younger are asked of the fit as shall be given: photos that it did not see got 0.77 of them
JUMP = 1.5  # how much longer than the one before a step of the slider may be, in alpha
FURTHER = 1.25  # times STRONGEST is how far a sub-model may go to give what the full network gives
YEARS = list(range(-30, 41, 5))
AGES = (10, 20, 30, 40, 50, 60, 70)
BLURS = (0.0, FOCUS.most_blur / 2, FOCUS.most_blur)
SMALL = (
    0.4  # edge of a crop that is shrunk and enlarged again, of its own: about as soft as the labelled photos
)
YOUNGEST, OLDEST = 5, 85  # apparent ages that are asked for at most
CHILDREN = {
    "ages": [4, 12],
    "years": [15, max(YEARS)],
}  # most years that are added at an apparent age, and between them: children do not grow up here
QUALITY_YEARS = (-20, 30)
RANGED = (-10, 0, 10, 20)  # alphas at which ranges for int8 are measured, in both forms


class Shown:
    """What the app shows of a prepared crop, within the square: photo + m (G(f + alpha n) - G(f)).

    judges: functions of an RGB uint8 crop to years; what they see of an edit is averaged.
    """

    def __init__(self, engine, image, judges):
        self.engine, self.crop = engine, np.ascontiguousarray(image[:, :, :3])
        self.mask, self.hair = image[:, :, 3] / np.float32(255), image[:, :, 4] / np.float32(255)
        self.f, self.age, self.blur = (
            engine.encode(self.crop),
            engine.readout.age(self.crop)[0],
            photo_blur(self.crop),
        )
        self.judges, self.before = judges, [judge(self.crop) for judge in judges]
        self.base, self.tones = {}, {}

    def run(self, alpha, r, c):
        n = self.engine.weights.age_vector
        return self.engine.generate(self.f + np.float32(alpha) * n, self.engine.inputs(self.crop, r), r, c)

    def edit(self, alpha, r, c):
        if (r, c) not in self.base:
            self.base[r, c] = self.run(0, r, c)
        if r not in self.tones:
            self.tones[r] = Tone(self.crop, self.mask, self.hair, r, self.blur)
        return add_change_to_crop(
            self.crop, self.tones[r]((self.run(alpha, r, c) - self.base[r, c]) * 127.5), self.mask
        )

    def change(self, alpha, r, c):
        """Judged years."""
        after = self.edit(alpha, r, c)
        return float(np.mean([judge(after) - before for judge, before in zip(self.judges, self.before)]))


def small(image):
    """A prepared crop (S, S, 5) as of a smaller photo."""
    s = image.shape[0]
    rgb = cv2.resize(
        np.ascontiguousarray(image[:, :, :3]), None, fx=SMALL, fy=SMALL, interpolation=cv2.INTER_AREA
    )
    return np.dstack([cv2.resize(rgb, (s, s), interpolation=cv2.INTER_CUBIC), image[:, :, 3:]])


def terms(alpha, age, blur, invented=0):
    """A smooth surface through (0 alpha, 0 years): powers of alpha, each free to vary with the age, with the photo's blur (`tone.photo_blur`) and with
    whether the face was invented (1) or is real (0): at one alpha invented ones get fewer years, and the slider is for real ones."""
    a, b, soft, drawn = (np.asarray(v, float)[..., None] for v in (alpha, age, blur, invented))
    a, b, soft = a / STRONGEST[1], (b - 40) / 25, np.minimum(soft / FOCUS.most_blur, 1)
    return np.concatenate([a**k * v for k in (1, 2, 3) for v in (b**0, b, b**2, soft, drawn)], -1)


def surface(samples):
    """Ridge fit of the judged change to `samples` (alpha, apparent age before, blur, invented, judged change): the terms' weights."""
    *of, change = np.array(samples, float).T
    x = terms(*of)
    return np.linalg.solve(x.T @ x + 1e-4 * len(x) * np.eye(x.shape[1]), x.T @ change)


def invert(weights, age, blur, wanted=YEARS, full=None):
    """alpha for each of YEARS at an apparent age and a photo's blur: where the surface first reaches the change that is `wanted` for it.

    Of the full network STRONGEST at the most, and less for fewer years. Of a sub-model, where the alphas of the `full` network are given,
    up to FURTHER times STRONGEST, and at least 1 / FURTHER of these: where judges see no change there is one all the same.
    """
    result = np.zeros(len(YEARS))
    for k, y in enumerate(YEARS):
        sign = int(np.sign(y)) or 1
        end = STRONGEST[sign] * (FURTHER if full else 1)
        grid = np.linspace(0, end, 961)
        judged = np.maximum.accumulate(terms(sign * grid, age, blur) @ weights * sign)
        reached = np.flatnonzero(judged >= sign * wanted[k])
        # where the judge stops seeing a change the slider must still do something at every year, up to its end
        most = end * min(1, abs(y) / (max(YEARS) if y > 0 else -min(YEARS))) ** LESS[sign]
        found = grid[reached[0]] if len(reached) else most
        result[k] = sign * (max(found, abs(full[k]) / FURTHER) if full else min(found, most))
    zero = YEARS.index(0)  # more years, more change
    result[zero:], result[zero::-1] = (
        steady(np.maximum.accumulate(result[zero:])),
        -steady(np.maximum.accumulate(-result[zero::-1])),
    )
    return [round(float(v), 4) for v in result]


def steady(row):
    """alphas for more and more years, from 0 on, without a jump where the judges stop seeing more: no step is longer than JUMP times the last, or the mean one."""
    row = np.array(row, float)
    for k in range(2, len(row)):
        row[k] = min(row[k], row[k - 1] + JUMP * max(row[k - 1] - row[k - 2], row[k - 1] / (k - 1)))
    return row


def spread(crops, index, ages, n):
    """`n` of the crops `index`, their judged ages spread evenly over `ages` (lowest, highest)."""
    return list(
        dict.fromkeys(int(index[np.argmin(np.abs(crops.judged[index] - a))]) for a in np.linspace(*ages, n))
    )


def write_ranges(engine, crops, out):
    """Write RANGES into `out`, of every (r, c) over RGB `crops`, and its hash into the manifest (see `quantize`)."""
    found, weights = {}, engine.weights
    arrays = weights.part("generator")
    features = [engine.encode(crop) for crop in crops]
    for r, c in tqdm(weights.candidates, desc="ranges", unit="sub-model"):
        feeds = []
        for k, (crop, f) in enumerate(zip(crops, features)):
            for photos in [engine.inputs(crop, r)] + [engine.sketch(f, r)] * (k % 3 == 0):
                feeds += [{"f": f + np.float32(alpha) * weights.age_vector, **photos} for alpha in RANGED]
        found |= {
            f"{r}:{c:g}/{layer}": v.astype(np.float16)
            for layer, v in measure_ranges(arrays, r, c, feeds).items()
        }
    save_file(found, Path(out) / RANGES)
    weights.manifest["files"][RANGES] = sha256(Path(out) / RANGES)
    write_manifest(out, weights.manifest)


def calibrate(data, out, wheel, second_judge=None, photos=48):
    """Measure and write `calibration` and `quality` into the manifest of `out`.

    Every sub-model gets its own alpha by years, apparent age and the blur of the photo, so that all of them give the change that was asked, as far as the full one does.
    Quality of (r, c): mean LPIPS and squared error between its shown picture and the full network's, as large as the crops, and how far
    apart the two are judged. Years are the shipped age network's or, with the wheel of a `second_judge`, the mean of both: a network that
    sat in the losses sees more of an edit than others do.
    """
    engine = Engine(Weights(out))
    full = engine.weights.candidates[-1]
    crops = Crops(data)
    # real photos (the other half of them is for `evaluate`), mostly soft, and invented people, who are as sharp as today's cameras
    chosen = spread(crops, crops.photos(True)[::2], (10, 75), photos // 2)
    invented = np.array([i for g in crops.people(True) for i in g if crops.beta[i] == 0], int)
    invented = spread(crops, invented, (15, 60), photos // 2) if len(invented) else []
    chosen += invented
    write_ranges(engine, [np.ascontiguousarray(crops.images[i][:, :, :3]) for i in chosen[::4]], out)
    engine = Engine(Weights(out))
    judges = [lambda crop: engine.readout.age(crop)[0]] + (
        [SecondJudge(second_judge).age] if second_judge else []
    )
    # some of these soft too: or what blur does would be taken for what an invention does
    pictures = [crops.images[i] for i in chosen] + [small(crops.images[i]) for i in invented[::3]]
    faces = [Shown(engine, picture, judges) for picture in pictures]
    real = len(chosen) - len(invented)
    table, judged = {}, []
    places = [(age, blur) for blur in BLURS for age in AGES]
    wanted, own = (
        dict.fromkeys(places, [y * (YOUNGER if y < 0 else 1) for y in YEARS]),
        {},
    )  # of the others, what the full network, which comes first, gives at its own alphas
    for rc in tqdm(engine.weights.candidates[::-1], desc="calibrate", unit="sub-model"):
        samples = [
            (y * ALPHA_PER_YEAR, s.age, s.blur, float(k >= real), s.change(y * ALPHA_PER_YEAR, *rc))
            for k, s in enumerate(faces)
            for y in ASKED
            if YOUNGEST <= s.age + y <= OLDEST + 35
        ]
        weights = surface(samples)
        table[rc] = {place: invert(weights, *place, wanted[place], own.get(place)) for place in places}
        if rc == full:
            own = table[rc]
            wanted = {place: terms(row, *place) @ weights for place, row in own.items()}
            seen = {y: [d for a, *_, d in samples if a == y * ALPHA_PER_YEAR] for y in ASKED}
            judged = [[y, round(float(np.mean(v)), 1)] for y, v in seen.items() if v]
    manifest = engine.weights.manifest
    manifest["calibration"] = {
        "years": YEARS,
        "ages": list(AGES),
        "blurs": list(BLURS),
        "youngest": YOUNGEST,
        "oldest": OLDEST,
        "children": CHILDREN,
        "photos": len(faces),
        "judges": len(judges),
        "judged": judged,
        "submodels": [
            {"r": r, "c": c, "alpha": [[table[r, c][age, blur] for age in AGES] for blur in BLURS]}
            for r, c in engine.weights.candidates
        ],
    }
    perceptual, tensor = Perceptual(wheel), lambda p: torch.from_numpy(to_network(p, len(p)))
    rows = {rc: [] for rc in engine.weights.candidates}
    for shown in tqdm(faces[::3], desc="quality", unit="photo"):
        for years in QUALITY_YEARS:
            best = shown.edit(engine.weights.alpha(years, shown.age, shown.blur, *full), *full)
            age = engine.readout.age(best)[0]
            for rc in rows:
                picture = shown.edit(engine.weights.alpha(years, shown.age, shown.blur, *rc), *rc)
                with torch.no_grad():
                    distance = perceptual(tensor(picture), tensor(best)).item()
                rows[rc].append(
                    (
                        distance,
                        np.mean((picture / 255.0 - best / 255.0) ** 2),
                        abs(engine.readout.age(picture)[0] - age),
                    )
                )
    quality = {rc: np.mean(v, 0) for rc, v in rows.items()}
    order = sorted(rows, key=lambda rc: (quality[rc][0], -cost(*rc)["macs"]))
    manifest["quality_order"] = [list(rc) for rc in order]
    manifest["quality"] = [
        {
            "r": r,
            "c": c,
            "lpips": round(float(quality[r, c][0]), 4),
            "mse": round(float(quality[r, c][1]), 6),
            "age_difference": round(float(quality[r, c][2]), 2),
        }
        for r, c in order
    ]
    write_manifest(out, manifest)
    print("judged change by asked years, training's scale:", judged)
    print("quality:", manifest["quality"])
