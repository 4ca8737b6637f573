"""Leave each rule of `agedit.tone` out, one at a time: what changes in the pictures and in the apparent age.

python tools/ablate_tone.py FOLDER [--years 30] [--sheet OUT.jpg]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from agedit import AgeEditError, AgeEditor, Engine, load_photo, save_photo
from agedit.reports.sheet import pictures_in
from agedit.tone import Tone

SUBMODEL = (256, 1.0)
CELL = 192
"""Edge of a face on the sheet, in pixels."""

RULES = (
    "skin.weaken_ridges",
    "skin.take_own_colour",
    "skin.spare_highlights",
    "skin.limit",
    "hair.fade_colour",
    "hair.relight_strands",
    "soften",
)

Array = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


def unchanged(change: Array) -> Array:
    """Stands for a rule that is left out."""
    return change


def without(tone: Tone, rule: str) -> None:
    """Take a rule, named as in RULES, out of this `tone`."""
    owner: object = tone
    *path, name = rule.split(".")
    for part in path:
        owner = getattr(owner, part)
    setattr(owner, name, unchanged)


class Face:
    """One photo's largest face and its generated change."""

    def __init__(self, engine: Engine, path: Path, years: float) -> None:
        self.estimators = engine.readout
        editor = AgeEditor(engine, SUBMODEL)
        editor.set_photo(load_photo(path))
        self.prepared = editor.prepare(0)
        base = self.prepared.base(SUBMODEL)
        self.change = (self.prepared.generate(years, SUBMODEL) - base) * 127.5
        self.age = self.apparent_age(self.prepared.crop)

    def apparent_age(self, crop: Picture) -> float:
        return self.estimators.age(crop)[0]

    def shown(self, rule: str | None = None) -> Picture:
        """The aligned face as it is shown, with `rule` left out."""
        p = self.prepared
        tone = Tone(p.seen, p.mask, p.hair, SUBMODEL[0], p.blur)
        if rule is not None:
            without(tone, rule)
        return p.shown(p.crop, p.light.shown(tone(self.change.copy())))


def report(rule: str, faces: list[Face], difference: Callable[[Face], float]) -> str:
    """A row of the table."""
    differences = [difference(face) for face in faces]
    years = [face.apparent_age(face.shown(rule)) - face.apparent_age(face.shown()) for face in faces]
    return f"| `{rule}` | {np.mean(differences):.2f} | {np.max(differences):.2f} | {np.mean(years):+.2f} |"


def sheet(faces: list[Face]) -> Picture:
    """A row for the photos, one for the edits, and one for each rule left out."""
    rows = [[f.prepared.crop for f in faces], [f.shown() for f in faces]]
    rows.extend([f.shown(rule) for f in faces] for rule in RULES)
    small = [[cv2.resize(c, (CELL, CELL), interpolation=cv2.INTER_AREA) for c in row] for row in rows]
    return np.vstack([np.hstack(row) for row in small])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--years", type=float, default=30)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    engine = Engine()
    faces = []
    for path in pictures_in(arguments.folder):
        try:
            faces.append(Face(engine, path, arguments.years))
        except AgeEditError as error:
            print(f"{path.name}: {error}")
    print(f"{len(faces)} faces, {arguments.years:+g} years")
    print("| left out | mean difference, levels of 255 | largest mean | years more by the shipped judge |")
    print("| --- | --- | --- | --- |")
    for rule in RULES:

        def difference(face: Face, rule: str = rule) -> float:
            return float(np.abs(face.shown(rule).astype(np.int16) - face.shown()).mean())

        print(report(rule, faces, difference))
    if arguments.sheet:
        save_photo(arguments.sheet, sheet(faces), synthetic=True)


if __name__ == "__main__":
    main()
