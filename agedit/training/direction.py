"""Stage `direction`: the teacher's direction of age, made free of expression and gender.

Among the faces a teacher has seen the old smile less, so its direction of age narrows mouths and lowers their corners, and
a network that learns from its pairs makes people stern. Here the teacher draws people with the late styles of others; what each
measure does along W is a regression on these, and what the direction of age does to expression and gender is taken out.
It also makes dark hair brown and blond instead of grey, so a second direction, for the older half alone, turns hair grey.
"""

import cv2
import numpy as np
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.estimators import EXPRESSION, Estimators, expression
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.runtime import open_session
from agedit.training.teacher import Teacher, face_in

HAIR = ("hair_light", "hair_colour")  # means over the hair of CIELAB's lightness, 0..100, and chroma
MEASURES = ("years", "male", *EXPRESSION, *HAIR)
SHARE, PSI, SPREAD = (
    0.6,
    0.7,
    3000,
)  # how far late styles move to another person's; truncation; people whose W is looked at
OLDER, YOUNGER = 4.0, -3.0  # steps of the direction at which its effect is taken
UNIT = np.array(
    [10, 0.25, *[0.02] * len(EXPRESSION), 10, 5]
)  # of the measures: years, probability, distances between the eyes
FREED = slice(1, 2 + len(EXPRESSION))  # the measures that age leaves alone
GREY = np.array([1.8, -1.2])  # UNITs of HAIR that people gain up to OLDER
LEAST_HAIR = 1000  # pixels of 256 x 256: of less nothing is said


class Observer:
    """Measures drawn pictures."""

    def __init__(self, teacher, weights):
        self.teacher, self.finder, self.masker = teacher, FaceFinder(weights), Masker(weights)
        self.readout = Estimators(lambda name: open_session(weights / name, 2))

    def __call__(self, w, offset):
        """MEASURES, float (9,), of `w` drawn with `offset` (512,) in the late layers; None where no face or no hair is found."""
        face, crop = face_in(self.finder, self.teacher.draw(w, offset))
        if face is None:
            return None
        hair = self.masker.hair(crop)
        if hair.sum() < LEAST_HAIR:
            return None
        light, a, b = cv2.split(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
        mean = lambda v: (v * hair).sum() / hair.sum()
        return np.array(
            [*self.readout.age(crop), *expression(face.points), mean(light), mean(np.hypot(a, b))]
        )


def gradients(observe, people, styles, rng):
    """What moves each measure: (9, 512), rows of one unit of the measure by the teacher's own spread of W."""
    spread = np.concatenate([observe.teacher.person(rng, PSI) for _ in range(SPREAD)])
    root = np.linalg.cholesky(np.cov(spread.T) + 1e-4 * np.eye(spread.shape[1]))
    x, y = [], []
    for _ in tqdm(range(people), desc="styles of others", unit="person"):
        w = observe.teacher.person(rng, PSI)
        offsets = [SHARE * (observe.teacher.person(rng, PSI) - w)[0] for _ in range(styles)]
        seen = [(o, m) for o in offsets if (m := observe(w, o)) is not None]
        if len(seen) > 1:  # only differences within one person count
            x.append(np.array([o for o, _ in seen]) - np.mean([o for o, _ in seen], 0))
            y.append((np.array([m for _, m in seen]) - np.mean([m for _, m in seen], 0)) / UNIT)
    x, y = np.linalg.solve(root, np.concatenate(x).T).T, np.concatenate(y)
    slopes = np.linalg.solve(x.T @ x + 0.3 * len(x) * np.eye(x.shape[1]), x.T @ y)
    moves = (root @ slopes).T
    return moves / np.linalg.norm(moves, axis=1, keepdims=True)


def effect(observe, people, offset):
    """Mean change of the measures, in UNITs, by `offset` (512,)."""
    found = [(a, b) for w, a in people if (b := observe(w, offset)) is not None]
    return np.mean([(b - a) / UNIT for a, b in found], 0)


def write_direction(wheel, weights, out, start=None, people=160):
    """Write what `fit_direction` finds to the .npz `out`: `age_nogender`, `grey`, `before`, `after`.

    wheel: the random-face wheel. weights: folder with the shipped judges; both it and `out` are pathlib paths.
    """
    direction, grey, before, after = fit_direction(
        Observer(Teacher(wheel, out.parent / "teacher"), weights), start, people
    )
    np.savez(
        out,
        age_nogender=direction.astype(np.float32),
        grey=grey.astype(np.float32),
        before=before,
        after=after,
    )


def fit_direction(observe, start=None, people=160, styles=5, seed=7):
    """A direction of age that leaves expression and gender alone, and one that turns hair grey; prints what they change.

    Args:
        observe: an `Observer`. start: (512,) a direction of age to make free; fitted too when absent.
        people, styles: how many are drawn for the regression, with how many late styles each.

    Returns:
        The direction (512,), + is older; what is to be added to it, on the older half alone, for grey hair (512,); and the measures' mean
        changes from YOUNGER to OLDER along the unit vector that age was, and along what it became before it was stretched to the same years.
    Raises AgeEditError when hardly any age is left.
    """
    rng = np.random.default_rng(seed)
    moves = gradients(observe, people, styles, rng)
    age = moves[0] if start is None else start / np.linalg.norm(start)
    ws = [observe.teacher.person(rng, PSI) for _ in range(32)]
    test = [(w, a) for w in ws if (a := observe(w, np.zeros_like(w[0]))) is not None]
    both = lambda v: effect(observe, test, OLDER * v) - effect(observe, test, YOUNGER * v)
    tell = lambda name, change: print(name, dict(zip(MEASURES, np.round(change * UNIT, 3))))
    before = now = both(age)
    tell("along the direction of age:", now)
    # the regression gives ways to go; how far along each is measured, not trusted
    others = moves[FREED]
    response = np.array([both(move / 4) * 4 for move in others])[:, FREED]
    found, free = [], age
    for _ in range(2):
        free = free - np.linalg.lstsq(response.T, now[FREED], rcond=0.05)[0] @ others
        now = both(free)
        found.append((np.linalg.norm(now[FREED]) / now[0], free, now))
        tell("freed:", now)
    _, free, after = min(found, key=lambda v: v[0])
    if after[0] < 0.3 * before[0]:
        raise AgeEditError("Little of the age was left without expression; draw more --people.")
    free = free * before[0] / after[0]
    # hair: the same, from 0 to OLDER, with a wish instead of zeros; the years may change
    older = lambda v: effect(observe, test, OLDER * (free + v))
    grey, now = np.zeros_like(free), older(0)
    goal = np.array([*now[FREED], *GREY])
    tell(f"to {OLDER:+g}:", now)
    response = np.array([(older(move / 4) - now) * 4 for move in moves[1:]])[:, 1:]
    for _ in range(2):
        grey = grey + np.linalg.lstsq(response.T, goal - now[1:], rcond=0.05)[0] @ moves[1:]
        now = older(grey)
        tell("with grey hair:", now)
    return free, grey, before * UNIT, after * UNIT
