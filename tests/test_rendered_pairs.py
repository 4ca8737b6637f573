"""People that are looked at once and drawn at other ages in memory, with a teacher that shows portraits
instead of inventing faces.
"""

import cv2
import numpy as np
import pytest
import torch
from conftest import PORTRAITS

from agedit import AgeEditError, load_photo
from agedit.align import align
from agedit.blend import MASK_SIZE, Masker
from agedit.faces import FaceFinder
from agedit.paths import weights_folder
from agedit.training import identities, rendered_pairs
from agedit.training.data import is_held_out
from agedit.training.loader import BatchLoader
from agedit.training.losses import Judges
from agedit.training.mobile_stylegan import unfold_haar

SIZE = rendered_pairs.DRAWING


def portrait(k):
    return cv2.resize(load_photo(PORTRAITS[k])[:1000, :1000], (SIZE, SIZE), interpolation=cv2.INTER_AREA)


class Album:
    """A teacher whose w is the number of a portrait.

    `late` beyond it shifts the picture down by a pixel each.
    """

    def __init__(self, *_, **__):
        pass

    def to(self, *_):
        return self

    def person(self, rng, psi):
        return np.full((1, 512), rng.integers(3), np.float32)

    def draw(self, w, offset):
        return portrait(int(w[0, 0]))

    def __call__(self, w, late):
        pictures = []
        for k, moved in zip(w[:, 0].int().tolist(), (late - w)[:, 0].round().int().tolist(), strict=True):
            pictures.append(torch.tensor(np.roll(portrait(k), moved, 0)).permute(2, 0, 1) / 127.5 - 1)
        return torch.stack(pictures)


@pytest.fixture
def looked_at(tmp_path, monkeypatch):
    """Four people of three portraits, found by the stage itself in this process, two in a file."""
    monkeypatch.setattr(cv2, "setNumThreads", lambda n: None)
    monkeypatch.setattr(identities, "PART", 2)
    monkeypatch.setattr(identities, "Teacher", Album)
    monkeypatch.setattr(identities, "get_context", lambda _: Here)
    monkeypatch.setattr(rendered_pairs, "Synthesis", Album)
    for count in (1, 4):  # it goes on where it was
        identities.find_identities("wheel", tmp_path / "people", count, 3, weights_folder())
    np.savez(tmp_path / "direction.npz", age_nogender=np.ones(512), grey=np.zeros(512))
    return identities.Identities(tmp_path / "people"), tmp_path / "direction.npz"


class Here:
    """A pool of one worker: this process."""

    @classmethod
    def Pool(cls, workers, start, args):  # noqa: N802 (multiprocessing's name)
        start(*args)
        return cls()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def imap(self, function, jobs, chunksize):
        return map(function, jobs)


def test_what_is_drawn_lies_where_the_first_picture_does(looked_at):
    found, direction = looked_at
    result = rendered_pairs.RenderedPairs(
        found, "wheel", direction, Judges(weights_folder()), "cpu", size=256, ages=3, together=3
    )
    assert len(found) == 4 and len(result.images) == len(result.age) == len(result.person) > 8
    first = {result.owner[k]: k for k in np.flatnonzero(result.beta == 0)}
    assert sorted(first) == [0, 1, 2, 3]
    x, mask, _hair = result.load(np.arange(len(result.images)), "cpu")
    for k, owner in enumerate(result.owner):
        picture = portrait(int(found.w[owner, 0]))
        face = FaceFinder(weights_folder()).find(picture)[0]
        wanted = torch.tensor(align(picture, face, 256)).permute(2, 0, 1) / 127.5 - 1
        inside = mask[k] > 0.5
        assert ((x[k] - wanted) * inside).abs().mean() < 0.05  # though drawn up to 7 pixels lower
        if result.beta[k] == 0:
            own = Masker.mask(
                Masker(weights_folder()).hair(align(picture, face, 256)), face, picture.shape[:2]
            )
            assert mask.shape[2:] == (MASK_SIZE, MASK_SIZE) and np.abs(mask[k, 0].numpy() - own).mean() < 0.02
            assert result.age[k] == pytest.approx(result.judged[k]) and 10 < result.age[k] < 80
    assert list(result.held_out) == [is_held_out(name) for name in result.person]
    groups = result.people()
    assert {tuple(g) for g in groups} == {
        tuple(np.flatnonzero(result.owner == o)) for o in set(result.owner[~result.held_out])
    }
    batch = BatchLoader([result], 3, 2, 0.0, np.random.default_rng(0), torch.device("cpu")).draw(128)
    assert batch.x.shape == (3, 3, 128, 128) and batch.pair.all() and batch.target.isfinite().all()


def test_a_changed_expression_is_left_out(looked_at, monkeypatch):
    found, direction = looked_at
    smile = np.zeros((rendered_pairs.FLOW, rendered_pairs.FLOW, 2), np.float32)
    smile[170:230, :, 1] = np.linspace(-12, 12, rendered_pairs.FLOW)[
        None
    ]  # one corner of the mouth up, the other down, and its middle stays ...
    smile[170:230, 110:146, 1] = -14  # ... or not
    monkeypatch.setattr(rendered_pairs, "moves", lambda picture, first: smile)
    result = rendered_pairs.RenderedPairs(
        found, "wheel", direction, Judges(weights_folder()), "cpu", size=256, ages=2
    )
    assert set(result.beta) == {0} and not result.people()


def test_no_people_no_training(tmp_path):
    with pytest.raises(AgeEditError, match="run the people stage"):
        identities.Identities(tmp_path)


def test_haar_is_undone():
    torch.manual_seed(0)
    picture = torch.randn(2, 3, 8, 8)
    a, b, c, d = (
        picture[:, :, ::2, ::2],
        picture[:, :, ::2, 1::2],
        picture[:, :, 1::2, ::2],
        picture[:, :, 1::2, 1::2],
    )
    mean, down, across, both = (
        (a + b + c + d) / 2,
        (a + b - c - d) / 2,
        (a - b + c - d) / 2,
        (a - b - c + d) / 2,
    )
    parts = torch.cat([mean, torch.stack([down, across, both], 2).flatten(1, 2)], 1)
    assert torch.allclose(unfold_haar(parts), picture, atol=1e-6)
