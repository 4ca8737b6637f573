"""Pairs whose target is a real photograph: what is made of it, how it is kept, how batches are drawn."""

import csv

import cv2
import numpy as np
import pytest
import torch
from conftest import PORTRAITS

from agedit import AgeEditError, Engine, load_photo, save_photo
from agedit.estimators import SAME_PERSON, identity
from agedit.paths import weights_folder
from agedit.training.back_translation import (
    LEAST_YEARS,
    OLD_FROM,
    YOUNG_TO,
    Face,
    Maker,
    back_translate,
    dyed,
    grey_of,
    is_grey,
    smoothed,
    sources,
    write_header,
)
from agedit.training.data import Crops, is_held_out
from agedit.training.loader import BatchLoader, evenly
from agedit.training.settings import ByLevel, Settings
from agedit.training.targets import mixed, octaves
from agedit.training.validation import shown_people


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Four portraits of three people, one of them without a usable face in a fifth picture."""
    root = tmp_path_factory.mktemp("real")
    people = ["a", "b", "c", "a"]
    with open(root / "labels.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["file", "person"])
        for k, (path, person) in enumerate(zip(PORTRAITS, people, strict=False)):
            photo = load_photo(path)
            edge = 480 / max(photo.shape[:2])
            save_photo(
                root / f"{k}.jpg", cv2.resize(photo, None, fx=edge, fy=edge, interpolation=cv2.INTER_AREA)
            )
            writer.writerow([f"{k}.jpg", person])
        save_photo(root / "none.png", np.full((200, 200, 3), 90, np.uint8))
        writer.writerow(["none.png", "d"])
    n = back_translate(
        root,
        root / "labels.csv",
        root / "ready",
        weights_folder(),
        inputs=4,
        size=256,
        workers=1,
        progress=lambda v, **_: v,
    )
    return root / "ready", n


def test_each_photo_is_the_target_of_what_was_made_of_it(made):
    folder, n = made
    crops = Crops(folder)
    assert (
        len(crops.images) == n and set(crops.kind) == {"photo", "made"} and (crops.kind == "photo").sum() == 4
    )
    assert not (folder / "crops.tmp.npy").exists()
    np.testing.assert_array_equal(crops.held_out, [is_held_out(p) for p in crops.person])
    groups = crops.targets() + crops.targets(True)
    assert groups and sum(len(g) - 1 for g in groups) == (crops.kind == "made").sum() >= 4
    engine = Engine()
    for photo, *inputs in groups:
        assert crops.kind[photo] == "photo" and crops.age[photo] == crops.judged[photo]
        way = -1 if crops.age[photo] >= OLD_FROM else 1
        assert way == -1 or crops.age[photo] <= YOUNG_TO
        for i in inputs:
            assert crops.file[i] == crops.file[photo]
            assert way * (crops.age[i] - crops.age[photo]) >= LEAST_YEARS
            apart = identity(*(engine.readout.embed(crops.images[k][:, :, :3].copy()) for k in (i, photo)))[0]
            assert 0 < apart < SAME_PERSON
            # nothing but what may change does
            changed = np.abs(crops.images[i][:, :, :3].astype(int) - crops.images[photo][:, :, :3]).max(2)
            elsewhere = (crops.images[photo][:, :, 3:] == 0).all(2)
            assert changed.max() > 20 and elsewhere.mean() > 0.1 and changed[elsewhere].max() <= 1
            np.testing.assert_array_equal(crops.images[i][:, :, 3:], crops.images[photo][:, :, 3:])


def test_batches_ask_for_the_real_photo(made):
    crops, rng = Crops(made[0]), np.random.default_rng(0)
    batches = BatchLoader([crops], 4, 1, 0.0, rng, torch.device("cpu"))
    rows = [batches._pair(256) for _ in range(60)]
    forth = [(a, b) for _, a, b in rows if crops.kind[b] == "photo"]
    back = [(a, b) for _, a, b in rows if crops.kind[b] == "made"]
    assert len(forth) > len(back)
    assert all(crops.kind[a] == "made" and crops.file[a] == crops.file[b] for a, b in forth)
    assert all(
        crops.age[a] > crops.age[b] for a, b in back
    )  # only for going younger what was made is the target
    b = batches.draw(128)
    assert b.x.shape == (4, 3, 128, 128) and b.pair.tolist() == [True] * 3 + [False]
    assert len(b.years.unique()) > 1
    assert batches.draw(128, judge_photos=False).pair.all()  # on a patch nothing is judged
    with pytest.raises(AgeEditError, match="too few pixels"):
        batches.draw(512)
    shown = shown_people(crops)
    assert all(crops.kind[a] == "made" and crops.kind[b] == "photo" for a, b in shown)


def test_no_group_is_drawn_more_than_another():
    weight = evenly([0, 0, 0, 0, 1], [5, 5, 5, 6, 5])
    assert weight[:4].sum() == pytest.approx(1) and weight[4] == pytest.approx(1)
    assert weight[3] > weight[0] and weight[:3].sum() > weight[3]  # rare ages more often, not as often


def test_d_is_left_out_where_it_counts_for_nothing():
    levels = ((128, False), (256, False), (256, True))
    assert all(Settings().hears_discriminator(*level) for level in levels)
    alone = Settings(features=0.0, adversarial=ByLevel(0.0, 0.0, 0.1))
    assert [alone.hears_discriminator(*level) for level in levels] == [False, False, True]
    assert alone.ever_hears_discriminator()
    assert not Settings(features=0.0, adversarial=ByLevel(0.0, 0.0, 0.0)).ever_hears_discriminator()


@pytest.fixture
def face():
    """A grey picture with a bright, finely wrinkled cheek below white hair."""
    rng = np.random.default_rng(0)
    crop = np.full((256, 256, 3), (190, 150, 130), np.uint8)
    crop[120:] = np.clip(crop[120:] + 12 * rng.standard_normal((136, 256, 1)), 0, 255)
    crop[60:100] = (205, 203, 200)
    hair = np.zeros((256, 256), np.float32)
    hair[60:100] = 1
    mask = np.ones((256, 256), np.float32)
    mask[:, :20] = 0
    return Face(crop, mask, hair, 60.0, 0.9)


def test_hair_that_is_grey(face):
    assert is_grey(face.crop, face.hair) is True
    for colour in ((200, 160, 110), (30, 28, 26)):  # blond, black
        crop = face.crop.copy()
        crop[60:100] = colour
        assert is_grey(crop, face.hair) is False
    assert is_grey(face.crop, 0 * face.hair) is None


def test_smoothing_and_dye_keep_to_their_places(face):
    smooth = smoothed(face.crop, face, np.random.default_rng(1))

    def rough(picture):
        return np.diff(grey_of(picture)[140:240, 60:], axis=1).std()

    assert rough(smooth) < 0.75 * rough(face.crop)
    dark = dyed(face.crop, face, np.random.default_rng(1))
    assert grey_of(dark)[65:95, 30:].mean() < 0.75 * grey_of(face.crop)[65:95, 30:].mean()
    for picture in (smooth, dark):
        np.testing.assert_array_equal(picture[:, :20], face.crop[:, :20])
    np.testing.assert_array_equal(smooth[62:98], face.crop[62:98])
    np.testing.assert_array_equal(dark[110:], face.crop[110:])


def test_a_target_whose_hair_tells_nothing_does_not_teach_about_hair(face, monkeypatch, tmp_path):
    maker = Maker(weights_folder(), None, 256, 0, 1)
    source = sources_of(tmp_path)
    for colour, taught in (((205, 203, 200), True), ((60, 40, 30), False)):
        crop = face.crop.copy()
        crop[60:100] = colour
        monkeypatch.setattr(maker, "face", lambda _, crop=crop: Face(crop, face.mask, face.hair, 60.0, 0.9))
        ((_, planes),) = maker.rows(source)
        assert (planes[65:95, 100, 3] > 0).all() == taught
        assert (planes[150:, 100, 3] == 255).all() and (planes[65:95, 100, 4] == 255).all()


def sources_of(folder):
    """The one source of a folder with one file."""
    (folder / "x.jpg").write_bytes(b"")
    (folder / "l.csv").write_text("file\nx.jpg\n")
    (source,) = sources(folder, folder / "l.csv")
    assert source.person == "x.jpg"
    return source


def test_a_missing_photo_is_named(tmp_path):
    (tmp_path / "l.csv").write_text("file\ngone.jpg\n")
    with pytest.raises(AgeEditError, match=r"gone\.jpg"):
        sources(tmp_path, tmp_path / "l.csv")


def test_nothing_usable(tmp_path):
    save_photo(tmp_path / "x.png", np.full((100, 100, 3), 90, np.uint8))
    (tmp_path / "l.csv").write_text("file\nx.png\n")
    with pytest.raises(AgeEditError, match="No usable face"):
        back_translate(tmp_path, tmp_path / "l.csv", tmp_path / "out", weights_folder(), workers=1)


def test_the_count_is_written_last(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (12, 4, 4, 5), np.uint8)
    with open(tmp_path / "x.npy", "wb") as f:
        write_header(f, 0, 4)
        f.write(pictures.tobytes())
        f.seek(0)
        write_header(f, 12, 4)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), pictures)


def test_octaves_of_a_change():
    change = torch.rand(2, 3, 32, 32)
    where = torch.ones(2, 1, 32, 32)
    torch.testing.assert_close(octaves(2 * change, where), 2 * octaves(change, where))
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1
    finest, *coarser = octaves(stripes, where[:1])[:, 0].tolist()
    assert finest > 20 * max(coarser)


def test_a_mix_of_two_runs(tmp_path):
    for name, value in (("a", 1.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        torch.save(
            {"ema": {"w": torch.full((2,), value), "not wanted": torch.ones(1)}},
            tmp_path / name / "generator.pt",
        )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    for other, share, expected in ((None, 1.0, 1.0), (b, 0.0, 3.0), (b, 0.5, 2.0), (b, 2.0, -1.0)):
        state = mixed(a, other, share, ["w"])
        assert state["w"].tolist() == [expected] * 2 and len(state) == 1
    with pytest.raises(AgeEditError, match="has no generator"):
        mixed(str(tmp_path), None, 1.0, ["w"])
