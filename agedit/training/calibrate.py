"""Stage `calibrate`: years -> alpha, and the quality of each (r, c), both measured on held-out photos with the app's
own runtime; the results go into the manifest."""
import numpy as np
import torch
from tqdm import tqdm

from agedit.blend import add_change_to_crop, keep_tone
from agedit.runtime import Engine, to_network
from agedit.submodel import cost
from agedit.training.data import Crops
from agedit.training.export import write_manifest
from agedit.training.generator import ALPHA_PER_YEAR
from agedit.training.losses import Perceptual
from agedit.weights import Weights

YEARS = (-60, -50, -40, -30, -20, -10, 10, 20, 30, 40, 50, 60)      # by the scale of training
QUALITY_YEARS = (-20, 30)
STRONGEST = 15.0            # |alpha|


class Shown:
    """What the app shows of a prepared crop: photo + m (G(f + alpha n) - G(f))."""

    def __init__(self, engine, image):
        self.engine, self.crop, self.mask = engine, np.ascontiguousarray(image[:, :, :3]), image[:, :, 3] / np.float32(255)
        self.f = engine.encode(self.crop)

    def edit(self, alpha, r, c):
        photo, n = to_network(self.crop, r), self.engine.weights.arrays["age_vector"]
        run = lambda a: self.engine.generate(self.f + np.float32(a) * n, photo, r, c)
        return add_change_to_crop(self.crop, keep_tone((run(alpha) - run(0)) * 127.5), self.mask)


def calibrate(data, out, wheel, photos=48, lowest=5, highest=88):
    """Measure and write `calibration` and `quality` into the manifest of `out`.

    The calibration inverts the mean judged change over photos whose goal lies between `lowest` and `highest` years.
    Quality of (r, c): mean LPIPS and squared error between its shown picture and the full network's, 256 px.
    """
    engine = Engine(Weights(out))
    full = engine.weights.candidates[-1]
    crops = Crops(data)
    index = crops.photos(True)[::2]                      # the other half is for `evaluate`
    ages = crops.judged[index]
    chosen = [index[np.argmin(np.abs(ages - a))] for a in np.linspace(12, 75, photos)]
    chosen = list(dict.fromkeys(chosen))
    changes = {y * ALPHA_PER_YEAR: [] for y in YEARS}
    perceptual, tensor = Perceptual(wheel), lambda p: torch.from_numpy(to_network(p, 256))
    rows = {rc: [] for rc in engine.weights.candidates}
    for number, i in enumerate(tqdm(chosen, desc="calibrate", unit="photo")):
        shown = Shown(engine, crops.images[i])
        before = engine.readout.age(shown.crop)[0]
        for alpha in changes:
            changes[alpha].append((before, engine.readout.age(shown.edit(alpha, *full))[0] - before))
        if number % 4:
            continue
        for alpha in (y * ALPHA_PER_YEAR for y in QUALITY_YEARS):
            best = shown.edit(alpha, *full)
            age = engine.readout.age(best)[0]
            for rc in rows:
                picture = shown.edit(alpha, *rc)
                with torch.no_grad():
                    distance = perceptual(tensor(picture), tensor(best)).item()
                rows[rc].append((distance, np.mean((picture / 255.0 - best / 255.0) ** 2),
                                 abs(engine.readout.age(picture)[0] - age)))
    curve = [(0.0, 0.0)]
    for alpha, values in changes.items():
        inside = [d for b, d in values if lowest <= b + d <= highest and lowest < b + alpha / ALPHA_PER_YEAR < highest]
        if len(inside) >= 8:
            curve.append((alpha, float(np.mean(inside))))
    curve.sort()
    alphas, judged = np.array(curve).T
    # monotone outward from 0, which must stay 0; a hair of slope keeps the inverse unique
    zero = int(np.flatnonzero(alphas == 0)[0])
    judged[zero:] = np.maximum.accumulate(np.maximum(judged[zero:], 0))
    judged[:zero + 1] = np.minimum.accumulate(np.minimum(judged[:zero + 1], 0)[::-1])[::-1]
    judged = judged + 1e-6 * alphas
    print("judged change by alpha:", [(a, round(j, 1)) for a, j in curve])
    manifest = engine.weights.manifest
    # beyond what was measured by the mean slope to that end, up to STRONGEST: further out the pictures break
    years = list(range(-30, 41, 5))
    inverse = np.array([y * alphas[0] / judged[0] if y < judged[0] else y * alphas[-1] / judged[-1] if y > judged[-1]
                        else np.interp(y, judged, alphas) for y in years]).clip(-STRONGEST, STRONGEST)
    inverse[years.index(0)] = 0.0
    manifest["calibration"] = {"years": years, "alpha": [round(float(a), 4) for a in inverse], "photos": len(chosen),
                               "judged": [[a, round(j, 2)] for a, j in curve]}
    quality = {rc: np.mean(v, 0) for rc, v in rows.items()}
    order = sorted(rows, key=lambda rc: (quality[rc][0], -cost(*rc)["macs"]))
    manifest["quality_order"] = [list(rc) for rc in order]
    manifest["quality"] = [{"r": r, "c": c, "lpips": round(float(quality[r, c][0]), 4), "mse": round(float(quality[r, c][1]), 6),
                            "age_difference": round(float(quality[r, c][2]), 2)} for r, c in order]
    write_manifest(out, manifest)
    print("quality:", manifest["quality"])
