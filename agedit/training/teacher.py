"""Draw the same invented person at several ages with MobileStyleGAN (training data, stage `teacher`).

The weights come in the PyPI wheel `random-face==2021.7.21.1` (code Apache-2.0, weights derived from
StyleGAN2-FFHQ: non-commercial). The age direction is added to the late layers only, so the pixels of one
person's pictures stay in register and only the age differs.
"""

import csv
import zipfile
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from agedit.align import align
from agedit.errors import AgeEditError
from agedit.estimators import EXPRESSIONS, Estimators
from agedit.faces import FaceFinder
from agedit.runtime import floating, open_session, openvino_core

FIRST_AGED_LAYER = 6  # of 23 modulated layers; earlier ones move pose, head shape and glasses
STEPS = (
    (-3.5, -1.8),
    (-1.8, -0.7),
    (1.0, 2.6),
    (2.6, 4.8),
    (4.8, 7.5),
)  # ranges of beta beside the person's own 0
TRIES = (
    40  # people who are drawn until one's face is neutral; one in five is, and after this many any will do
)


def read_directions(path):
    """(aged, grey), float32 (512,) each, of the .npz of the `direction` stage; grey is zeros where it has none."""
    found = np.load(path)
    aged = found["age_nogender"].astype(np.float32)
    return aged, found["grey"].astype(np.float32) if "grey" in found else 0 * aged


def draw_steps(rng, ages):
    """`ages` - 1 steps of the direction beside the person's own 0, each in another range of STEPS."""
    ranges = STEPS if ages > len(STEPS) else [STEPS[k] for k in rng.permutation(len(STEPS))[: ages - 1]]
    return [rng.uniform(*s) for s in ranges]


class Teacher:
    """MobileStyleGAN for FFHQ at 1024 px under OpenVINO.

    Args:
        wheel: path of the `random-face` wheel. cache: folder to unpack the two networks into. threads: 0 for all.
    """

    def __init__(self, wheel, cache, threads=0):
        core = openvino_core()  # first: without its telemetry
        import openvino as ov

        cache = Path(cache)
        with zipfile.ZipFile(wheel) as z:
            for name in ("MappingNetwork", "SynthesisNetwork"):
                for ext in ("xml", "bin"):
                    part = z.getinfo(f"random_face/data/{name}.{ext}")
                    if (
                        not (cache / part.filename).exists()
                        or (cache / part.filename).stat().st_size != part.file_size
                    ):
                        z.extract(part, cache)
        folder = cache / "random_face/data"
        self.mapping = core.compile_model(folder / "MappingNetwork.xml", "CPU")
        model = core.read_model(folder / "SynthesisNetwork.xml")
        # As shipped all 23 layers read one w; give the late layers an input of their own.
        style = model.get_parameters()[0]
        users = sorted(
            (i for i in style.output(0).get_target_inputs() if i.get_node().get_type_name() == "MatMul"),
            key=lambda i: int(i.get_node().friendly_name.split("_")[1].split("/")[0]),
        )
        if len(users) != 23:
            raise ValueError(f"expected 23 modulated layers in the teacher, found {len(users)}")
        late = ov.opset13.parameter([1, 512], np.float32, name="late_style")
        for user in users[FIRST_AGED_LAYER:]:
            user.replace_source_output(late.output(0))
        model.add_parameters([late])
        model.validate_nodes_and_infer_types()
        self.synthesis = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": floating(), "INFERENCE_NUM_THREADS": threads}
        )
        z = np.random.default_rng(0).standard_normal((2000, 1, 512)).astype(np.float32)
        self.w_mean = np.mean([self.mapping(v)[0] for v in z], axis=0)

    def person(self, rng, psi):
        """One `w`, shape (1, 512), truncated by psi."""
        w = self.mapping(rng.standard_normal((1, 512)).astype(np.float32))[0]
        return self.w_mean + psi * (w - self.w_mean)

    def draw(self, w, offset):
        """RGB uint8 (1024, 1024, 3) of `w` with `offset` (512,) added to the late layers."""
        y = self.synthesis([w, (w + offset).astype(np.float32)])[0][0]
        return (np.clip(y.transpose(1, 2, 0) * 0.5 + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)


def face_in(finder, picture):
    """(align.Face, its aligned crop of 256 px) of a drawn picture at half its size; (None, None) where no face is found."""
    picture = np.ascontiguousarray(picture[::2, ::2])
    try:
        face = finder.find(picture)[0]
    except AgeEditError:
        return None, None
    return face, align(picture, face, 256)


class Calm:
    """Whether the face in a drawn picture is neutral, as the shipped expression network sees it."""

    def __init__(self, weights):
        self.finder, self.readout = (
            FaceFinder(weights),
            Estimators(lambda name: open_session(Path(weights) / name, 1)),
        )

    def __call__(self, picture):
        face, crop = face_in(self.finder, picture)
        return face is not None and EXPRESSIONS[self.readout.mood(crop).argmax()] == "neutral"


def draw_pairs(wheel, direction, out, people, seed=1, size=384, neutral=0.0, weights=None, ages=6):
    """Write `people` x `ages` pictures (beta 0 and one of each range in STEPS, or of some of them) and `pairs.csv`; resumes.

    direction: .npz with `age_nogender` (512,), + is older, and, where it has one, `grey` (512,), added on the older half. size: edge in
    pixels. neutral: share of the people whose face must be neutral (three of four of the teacher's smile); `weights` is the folder with the
    network that says so.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    aged, grey = read_directions(direction)
    table = out / "pairs.csv"
    done = set()
    if table.exists():
        done = {row["person"] for row in csv.DictReader(table.open())}
    teacher, calm = Teacher(wheel, out / "teacher"), Calm(weights) if neutral else None
    with table.open("a", newline="") as f:
        writer = csv.writer(f)
        if not done:
            writer.writerow(["file", "person", "beta"])
        for i in tqdm(range(people), desc="teacher", unit="person"):
            person = f"t{seed}_{i:06d}"
            if person in done:
                continue
            rng = np.random.default_rng([seed, i])
            for _ in range(TRIES):
                w = teacher.person(rng, rng.uniform(0.55, 0.85))
                base = teacher.draw(w, 0 * aged)
                if int((i + 1) * neutral) == int(i * neutral) or calm(base):
                    break
            rows = []
            for k, beta in enumerate([0.0, *draw_steps(rng, ages)]):
                picture = teacher.draw(w, beta * aged + max(beta, 0) * grey) if k else base
                picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
                name = f"{person}_{k}.jpg"
                cv2.imwrite(str(out / name), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
                rows.append([name, person, f"{beta:.4f}"])
            writer.writerows(rows)
            f.flush()
