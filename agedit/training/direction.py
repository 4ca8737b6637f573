"""Stage `direction`: the teacher's direction of age, made free of expression and gender.

Among the faces a teacher has seen the old smile less, so its direction of age narrows mouths and lowers their
corners, and a network that learns from its pairs makes people stern. Here the teacher draws people with the
late styles of others. What each measure does along W is a regression on these, and what the direction of age
does to expression and gender is taken out. It also makes dark hair brown and blond instead of grey, so a
second direction, for the older half alone, turns hair grey.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from agedit.errors import AgeEditError
from agedit.estimators import EXPRESSION_MEASURES, Estimators, expression_measures
from agedit.faces import FaceFinder
from agedit.masks import Masker
from agedit.runtime import open_session
from agedit.training.teacher import Painter, Style, Teacher, find_face

# Means over the hair of CIELAB's lightness, 0..100, and chroma.
HAIR = ("hair_light", "hair_colour")
MEASURES = ("years", "male", *EXPRESSION_MEASURES, *HAIR)
# Units of the measures: years, probability, distances between the eyes, lightness, chroma.
UNIT = np.array([10, 0.25, *[0.02] * len(EXPRESSION_MEASURES), 10, 5])
# The measures that age leaves alone.
FREED = slice(1, 2 + len(EXPRESSION_MEASURES))
# How far late styles move to another person's.
SHARE = 0.6
# Truncation.
PSI = 0.7
# People whose W is looked at.
SPREAD = 3000
# Steps of the direction at which its effect is taken.
OLDER = 4.0
YOUNGER = -3.0
# UNITs of HAIR that people gain up to OLDER.
GREY = np.array([1.8, -1.2])
# Pixels of 256 x 256 that are hair: of less nothing is said.
LEAST_HAIR = 1000
# People along whom an effect is measured.
TESTED = 32
# Share of a move that its effect is measured at.
PROBE = 0.25
# Singular values less than this share of the largest are not followed.
LEAST_SINGULAR = 0.05
# Ridge of the regression, a sample.
RIDGE = 0.3
# Share of the years that a direction without expression must keep.
LEAST_AGE = 0.3

# Values (9,) of MEASURES; directions (512,) or (k, 512) in W.
Measures = npt.NDArray[np.float64]
Direction = npt.NDArray[np.float64]
# A person's w, and its measures.
Person = tuple[Style, Measures]


class Measurer(Protocol):
    """Measures drawn people."""

    @property
    def teacher(self) -> Painter:
        """Who draws them."""
        ...

    def __call__(self, w: Style, offset: Style) -> Measures | None:
        """MEASURES (9,) of `w` drawn with `offset` (512,) in the late layers.

        None where no face or no hair is found.
        """
        ...


class Observer:
    """Measures drawn pictures."""

    def __init__(self, teacher: Painter, weights: Path) -> None:
        self.teacher = teacher
        self.finder = FaceFinder(weights)
        self.masker = Masker(weights)
        self.estimators = Estimators(lambda name: open_session(weights / name, 2))

    def __call__(self, w: Style, offset: Style) -> Measures | None:
        """MEASURES (9,) of `w` drawn with `offset` (512,) in the late layers.

        None where no face or no hair is found.
        """
        found = find_face(self.finder, self.teacher.draw(w, offset))
        if found is None:
            return None
        face, crop = found
        hair = self.masker.hair(crop)
        if hair.sum() < LEAST_HAIR:
            return None
        light, a, b = cv2.split(cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
        hair_light = (light * hair).sum() / hair.sum()
        hair_colour = (np.hypot(a, b) * hair).sum() / hair.sum()
        return np.array(
            [*self.estimators.age(crop), *expression_measures(face.points), hair_light, hair_colour]
        )


def gradients(observe: Measurer, people: int, styles: int, rng: np.random.Generator) -> Direction:
    """What moves each measure: (9, 512), rows of one unit of the measure by the teacher's own spread of W."""
    spread = np.concatenate([observe.teacher.person(rng, PSI) for _ in range(SPREAD)])
    root = np.linalg.cholesky(np.cov(spread.T) + 1e-4 * np.eye(spread.shape[1]))
    offsets_by_person = []
    measures_by_person = []
    for _ in tqdm(range(people), desc="styles of others", unit="person"):
        w = observe.teacher.person(rng, PSI)
        offsets = [SHARE * (observe.teacher.person(rng, PSI) - w)[0] for _ in range(styles)]
        seen = [(offset, found) for offset in offsets if (found := observe(w, offset)) is not None]
        if len(seen) < 2:  # only differences within one person count
            continue
        used = np.array([offset for offset, _ in seen])
        found = np.array([measures for _, measures in seen])
        offsets_by_person.append(used - np.mean(used, 0))
        measures_by_person.append((found - np.mean(found, 0)) / UNIT)
    x = np.linalg.solve(root, np.concatenate(offsets_by_person).T).T
    y = np.concatenate(measures_by_person)
    slopes = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
    moves = (root @ slopes).T
    return moves / np.linalg.norm(moves, axis=1, keepdims=True)


def effect(observe: Measurer, people: list[Person], offset: Direction) -> Measures:
    """Mean change of the measures, in UNITs, by `offset` (512,)."""
    changes = []
    for w, before in people:
        after = observe(w, offset)
        if after is not None:
            changes.append((after - before) / UNIT)
    return np.mean(changes, 0)


class AgeDirections(NamedTuple):
    """What `fit_direction` finds.

    Attributes:
        age: (512,), + is older. grey: (512,), to be added to it, on the older half alone, for grey hair.
        before, after: the measures' mean changes from YOUNGER to OLDER along the unit vector that age was,
        and along what it became before it was stretched to the same years.
    """

    age: Direction
    grey: Direction
    before: Measures
    after: Measures


def write_direction(
    wheel: str | Path, weights: Path, out: Path, start: Direction | None = None, people: int = 160
) -> None:
    """Write what `fit_direction` finds to the .npz `out`: `age_nogender`, `grey`, `before`, `after`.

    Args:
        wheel: the random-face wheel. weights: folder with the shipped judges. start, people: see
        `fit_direction`.
    """
    found = fit_direction(Observer(Teacher(wheel, out.parent / "teacher"), weights), start, people)
    np.savez(
        out,
        age_nogender=found.age.astype(np.float32),
        grey=found.grey.astype(np.float32),
        before=found.before,
        after=found.after,
    )


def _tell(name: str, change: Measures) -> None:
    """Print a change of the measures, given in UNITs."""
    print(name, dict(zip(MEASURES, np.round(change * UNIT, 3), strict=True)))


def fit_direction(
    observe: Measurer,
    start: Direction | None = None,
    people: int = 160,
    styles: int = 5,
    seed: int = 7,
) -> AgeDirections:
    """A direction of age that leaves expression and gender alone, and one that turns hair grey.

    Prints what they change.

    Args:
        start: (512,), a direction of age to make free; fitted too when absent.
        people, styles: how many are drawn for the regression, with how many late styles each.

    Raises AgeEditError when hardly any age is left.
    """
    rng = np.random.default_rng(seed)
    moves = gradients(observe, people, styles, rng)
    age = moves[0] if start is None else start / np.linalg.norm(start)
    tested: list[Person] = []
    for w in [observe.teacher.person(rng, PSI) for _ in range(TESTED)]:
        measures = observe(w, np.zeros_like(w[0]))
        if measures is not None:
            tested.append((w, measures))

    def from_young_to_old(direction: Direction) -> Measures:
        return effect(observe, tested, OLDER * direction) - effect(observe, tested, YOUNGER * direction)

    before = from_young_to_old(age)
    _tell("along the direction of age:", before)
    free, after = _free_of_expression(age, before, moves[FREED], from_young_to_old)
    if after[0] < LEAST_AGE * before[0]:
        raise AgeEditError("Little of the age was left without expression; draw more --people.")
    free = free * before[0] / after[0]

    def to_old(added: Direction) -> Measures:
        return effect(observe, tested, OLDER * (free + added))

    grey = _turns_grey(moves[1:], to_old)
    return AgeDirections(free, grey, before * UNIT, after * UNIT)


def _free_of_expression(
    age: Direction, before: Measures, others: Direction, effect_of: Callable[[Direction], Measures]
) -> tuple[Direction, Measures]:
    """A direction of age less what it does to expression and gender, and its effect.

    The regression gives ways to go (`others`); how far along each is measured, not trusted.
    """
    response = np.array([effect_of(move * PROBE) / PROBE for move in others])[:, FREED]
    free = age
    now = before
    found: list[tuple[float, Direction, Measures]] = []
    for _ in range(2):
        free = free - np.linalg.lstsq(response.T, now[FREED], rcond=LEAST_SINGULAR)[0] @ others
        now = effect_of(free)
        found.append((float(np.linalg.norm(now[FREED]) / now[0]), free, now))
        _tell("freed:", now)
    _, best, after = min(found, key=_first_of)
    return best, after


def _first_of(found: tuple[float, Any, Any]) -> float:
    return found[0]


def _turns_grey(moves: Direction, effect_of: Callable[[Direction], Measures]) -> Direction:
    """What turns hair grey up to OLDER, and changes nothing else but, perhaps, the years."""
    grey = np.zeros(moves.shape[1])
    now = effect_of(grey)
    before = now
    goal = np.array([*before[FREED], *GREY])
    _tell(f"to {OLDER:+g}:", before)
    response = np.array([(effect_of(move * PROBE) - before) / PROBE for move in moves])[:, 1:]
    for _ in range(2):
        grey = grey + np.linalg.lstsq(response.T, goal - now[1:], rcond=LEAST_SINGULAR)[0] @ moves
        now = effect_of(grey)
        _tell("with grey hair:", now)
    return grey
