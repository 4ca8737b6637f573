"""Casual photos: nothing but the person changes, in any light, and a mask stays a mask."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from conftest import PORTRAITS

from agedit import AgeEditor, Engine, load_photo
from agedit.align import OVAL, Face, align
from agedit.covering import uncovered
from agedit.light import ORDINARY, Light, light_of
from agedit.masks import MASK_SIZE, VIEWS, WIDE, Masker, centred, connected_to_face
from agedit.reports.background import BACKGROUND, BackgroundJudge

PHOTOS = Path(__file__).parent / "data" / "photos"
SMALL = (64, 0.25)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FACE = Face(np.full((478, 2), 200.0), 0.0, np.array([[0.01, 0, -1.5], [0, 0.01, -1.5]]))
"""Its reference square is 150 to 250 both ways, and all of its landmarks lie in the middle."""

Picture = npt.NDArray[np.uint8]


def portrait(number: int) -> Picture:
    return load_photo(next(path for path in PORTRAITS if f"{number:03}" in path.name))


def opened(engine: Engine, photo: Picture) -> AgeEditor:
    editor = AgeEditor(engine, SMALL)
    editor.set_photo(photo)
    return editor


def photo_hair(editor: AgeEditor) -> npt.NDArray[np.bool_]:
    """Where the aligned crop surely shows hair, (S, S)."""
    prepared = editor.prepare(0)
    size = len(prepared.crop)
    return cv2.resize(prepared.hair * prepared.mask, (size, size)) > 0.9


@pytest.fixture(scope="module")
def judge() -> BackgroundJudge:
    return BackgroundJudge()


@pytest.mark.parametrize("name", ["real_0041", "real_0066", "real_0281", "real_0007", "real_0037"])
def test_no_fog_beside_the_head(engine: Engine, judge: BackgroundJudge, name: str) -> None:
    photo = load_photo(PHOTOS / f"{name}.jpg")
    editor = opened(engine, photo)
    edit = editor.edit(30)
    share = judge.changed(photo, edit.picture, editor.faces[0].frame)
    assert share is not None and share < BACKGROUND.much / 2
    assert (cv2.absdiff(photo, edit.picture) > BACKGROUND.levels).any()
    if name != "real_0007":  # who is bald
        hair = photo_hair(editor)
        assert hair.sum() > 500
        lighter = (editor.crop(edit).astype(np.float32) - editor.prepare(0).crop)[hair] @ LUMA
        assert lighter.mean() > 10


def test_the_judge_counts_what_changes_in_the_background_alone(judge: BackgroundJudge) -> None:
    photo = portrait(134)
    background = judge.background(photo, 400)
    assert 0.2 < background.mean() < 0.8 and not background[550, 550] and background[100, 100]
    brighter = photo.copy()
    brighter[:, :550] = cv2.add(photo[:, :550], (20, 20, 20, 0))
    changed = judge.changed(photo, brighter, 400)
    assert changed == pytest.approx(background[:, :550].sum() / background.sum(), abs=0.05)
    within = np.where(background[:, :, None], photo, 0).astype(np.uint8)
    assert judge.changed(photo, within, 400) == 0
    assert judge.changed(photo, photo, 400) == 0


def test_hair_is_a_persons_and_hangs_together_with_the_face(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is hair to the hair network; a person is seen in the upper left, and in the right part."""
    masker = Masker(engine.weights.folder)
    everything = np.ones((MASK_SIZE, MASK_SIZE), np.float32)
    person = np.zeros_like(everything)
    person[:150, :150] = 1
    person[:, 200:] = 1
    monkeypatch.setattr(masker, "hair", lambda _: everything)
    monkeypatch.setattr(masker, "_person", lambda _: person)
    blank = np.zeros((MASK_SIZE, MASK_SIZE, 3), np.uint8)
    hair, wide = masker.own_hair(blank, dict.fromkeys((WIDE,), blank), FACE)
    assert wide[:140, :140].min() == 1 and hair[:160, :160].min() > 0.99
    assert not wide[160:, :190].any() and not hair[190:, 190:].any()
    assert not wide[:, 204:].any()  # a person, but another one


def test_hair_that_the_photo_shows_apart_from_the_face_is_anothers() -> None:
    hair = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    hair[100:156, 100:156] = 1
    wide = centred(hair, 1)
    wide[:, 220:] = 1
    own = connected_to_face(hair, wide, FACE)
    assert own[128, 128] == 1 and not own[:, 200:].any()


def test_ordinary_light_changes_nothing(engine: Engine) -> None:
    for number in (1, 45, 134):
        photo = portrait(number)
        face = engine.find_faces(photo)[0]
        crop = align(photo, face, 512)
        light = light_of(crop, align(photo, face.widened(WIDE), MASK_SIZE), face)
        assert light.ordinary and light.standard(crop) is crop
    change = np.ones((4, 4, 3), np.float32)
    assert ORDINARY.shown(change) is change


def test_light_is_taken_off_and_given_back() -> None:
    light = Light(np.array([0.5, 0.4, 0.25], np.float32))
    photo = np.full((2, 2, 3), (50, 40, 25), np.uint8)
    assert (light.standard(photo) == 100).all()
    assert np.allclose(light.shown(np.full((2, 2, 3), 10, np.float32)), (5, 4, 2.5))
    grey = Light(np.ones(3, np.float32), monochrome=True).shown(np.full((2, 2, 3), (9, 3, 0), np.float32))
    assert np.ptp(grey, 2).max() < 1e-5 and grey[0, 0, 0] == pytest.approx(9 * 0.299 + 3 * 0.587, abs=1e-4)


def test_an_underexposed_photo_is_edited_as_the_well_lit_one(engine: Engine, judge: BackgroundJudge) -> None:
    dark = load_photo(PHOTOS / "under3ev_134.jpg")
    bright = cv2.resize(portrait(134), dark.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    dim = opened(engine, dark)
    lit = opened(engine, bright)
    gain = float(dim.prepare(0).light.gain.mean())
    assert 0.3 < gain < 0.5 and lit.prepare(0).light.ordinary
    assert abs(dim.prepare(0).age - lit.prepare(0).age) < 4
    assert np.abs(dim.prepare(0).hair - lit.prepare(0).hair).mean() < 0.02
    edit = dim.edit(30)
    dim_hair = photo_hair(dim)
    lit_hair = photo_hair(lit)
    lighter = (edit.changes[0] @ LUMA)[cv2.resize(dim_hair.astype(np.uint8), (256, 256)) > 0].mean() / gain
    usual = (lit.edit(30).changes[0] @ LUMA)[cv2.resize(lit_hair.astype(np.uint8), (256, 256)) > 0].mean()
    assert lighter == pytest.approx(usual, rel=0.25)
    share = judge.changed(dark, edit.picture, dim.faces[0].frame)
    assert share is not None and share < 0.005
    assert np.array_equal(dim.edit(0).picture, dark)


def colour_of(pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Logarithms of red and blue over green of the mean of (N, 3)."""
    red, green, blue = np.log(np.asarray(pixels, float).mean(0))
    return np.array([red - green, blue - green])


def greyed(editor: AgeEditor) -> npt.NDArray[np.float64]:
    """`colour_of` what greying adds to the hair."""
    crop = editor.prepare(0).crop.astype(np.float32)
    after = editor.crop(editor.edit(40)).astype(np.float32)
    hair = photo_hair(editor)
    assert hair.sum() > 500 and (after - crop)[hair].mean() > 10
    return colour_of(after[hair])


@pytest.mark.parametrize("name", ["sepia", "warm_134"])
def test_hair_greys_as_grey_looks_in_warm_light(engine: Engine, name: str) -> None:
    photo = load_photo(PHOTOS / f"{name}.jpg")
    wall = colour_of(photo[20:80, 20:80].reshape(-1, 3))
    assert wall[1] < -0.1
    assert np.abs(greyed(opened(engine, photo)) - wall).max() < 0.07


def test_hair_greys_as_grey_looks_in_cold_light(engine: Engine) -> None:
    photo = portrait(134)
    cast = np.array([0.8, 0.95, 1.05])
    cold = np.clip(photo * cast, 0, 255).astype(np.uint8)
    wanted = np.log([cast[0] / cast[1], cast[2] / cast[1]])
    shift = greyed(opened(engine, cold)) - greyed(opened(engine, photo))
    assert np.abs(shift - wanted).max() < 0.06


def test_a_black_and_white_photo_stays_black_and_white(engine: Engine) -> None:
    grey = cv2.cvtColor(cv2.cvtColor(portrait(134), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    edit = opened(engine, grey).edit(30)
    assert (edit.picture != grey).any() and np.ptp(edit.picture, 2).max() <= 1


def masked(photo: Picture, face: Face, colour: tuple[int, int, int]) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """A portrait with its lower face painted over, and where."""
    outline = face.points[list(OVAL)]
    top = face.points[6][1] * 0.5 + face.points[4][1] * 0.5
    polygon = cv2.convexHull(np.maximum(outline, (0, top)).astype(np.int32))
    cloth = np.zeros(photo.shape[:2], np.uint8)
    cv2.fillPoly(cloth, [polygon], (1,))
    painted = photo.copy()
    painted[cloth > 0] = colour
    return painted, cv2.erode(cloth, np.ones((9, 9))) > 0


@pytest.mark.parametrize("colour", [(240, 240, 238), (28, 28, 32), (70, 110, 80), (120, 170, 205)])
def test_cloth_over_the_lower_face_is_told_from_skin(engine: Engine, colour: tuple[int, int, int]) -> None:
    photo = portrait(134)
    face = engine.find_faces(photo)[0]
    points = cv2.transform(face.points[None], face.matrix)[0] * 256
    painted, _cloth = masked(photo, face, colour)
    shows = uncovered(align(painted, face, 256), points)
    x, y = np.round(points[13]).astype(int)
    assert shows[y - 20 : y + 20, x - 20 : x + 20].max() < 0.05
    assert shows[: int(points[159][1]) - 8].min() > 0.95
    assert uncovered(align(photo, face, 256), points).min() == 1


def test_a_surgical_mask_stays_as_it_is_and_the_face_above_ages(engine: Engine) -> None:
    photo = load_photo(PHOTOS / "surgical_mask.jpg")
    editor = opened(engine, photo)
    apart = cv2.absdiff(photo, editor.edit(30).picture).max(2)
    blue = (photo[:, :, 2].astype(int) - photo[:, :, 0] > 25).astype(np.uint8)
    cloth = cv2.erode(cv2.morphologyEx(blue, cv2.MORPH_OPEN, np.ones((15, 15))), np.ones((5, 5))) > 0
    assert cloth.sum() > 5000 and apart[cloth].max() <= 2
    eyes = editor.faces[0].points[[33, 263]].mean(0).astype(int)
    assert apart[eyes[1] - 60 : eyes[1] + 10, eyes[0] - 60 : eyes[0] + 60].mean() > 4


def test_all_views_are_within_the_wide_square() -> None:
    assert max(VIEWS) == WIDE
