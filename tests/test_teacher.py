"""Invented people: as many with a neutral face as asked for, the same ones each time, none twice."""

import csv

import cv2
import numpy as np
import pytest

from agedit.training import teacher


class Painter:
    """A teacher whose pictures are as bright as the first number of w.

    The bright ones are the neutral ones.
    """

    def __init__(self, *_):
        self.drawn = 0

    def person(self, rng, psi):
        return rng.uniform(0, 1, (1, 512))

    def draw(self, w, offset):
        self.drawn += 1
        return np.full((64, 64, 3), 200 * w[0, 0] + 10 * offset[0], np.uint8)


@pytest.fixture
def draw(monkeypatch, tmp_path):
    painter = Painter()
    monkeypatch.setattr(teacher, "Teacher", lambda *_: painter)
    monkeypatch.setattr(teacher, "NeutralFace", lambda weights: lambda picture: picture[0, 0, 0] > 160)
    np.savez(tmp_path / "d.npz", age_nogender=np.eye(512)[0])

    def run(people, folder="out", **options):
        painter.drawn = 0
        teacher.draw_pairs("wheel", tmp_path / "d.npz", tmp_path / folder, people, size=32, **options)
        rows = list(csv.DictReader((tmp_path / folder / "pairs.csv").open()))
        bases = [
            cv2.imread(str(tmp_path / folder / row["file"]))[0, 0, 0]
            for row in rows
            if float(row["beta"]) == 0
        ]
        return rows, np.array(bases), painter.drawn

    return run


def test_a_share_of_the_people_is_neutral(draw):
    rows, bases, _ = draw(8, neutral=0.5)
    assert len(rows) == 48 and len({row["person"] for row in rows}) == 8
    assert (bases[1::2] > 158).all() and (bases[::2] < 158).any()


def test_without_a_share_nobody_is_drawn_twice_and_a_run_goes_on(draw):
    _, bases, drawn = draw(3)
    assert drawn == 18
    rows, more, drawn = draw(5)
    assert drawn == 12 and len(rows) == 30 and (more[:3] == bases).all()
    assert (draw(5, "again")[1] == more).all()


def test_where_nobody_is_neutral_anybody_will_do(draw, monkeypatch):
    monkeypatch.setattr(teacher, "NeutralFace", lambda weights: lambda picture: False)
    rows, _, drawn = draw(1, neutral=1.0)
    assert len(rows) == 6 and drawn == teacher.TRIES + 5
