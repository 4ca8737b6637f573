"""S6 with the shipped weights: exact at 0, older means older, only the face changes, bad requests lose
nothing.
"""

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest
from conftest import PORTRAITS

from agedit import AgeEditError, AgeEditor, load_photo
from agedit.align import align
from agedit.engine import Engine
from agedit.light import LUMA
from agedit.masks import own_features
from agedit.paths import weights_folder
from agedit.tone import HAIR, Tone, change_blur, photo_blur
from agedit.weights import Weights


@pytest.mark.processor
def test_zero_years_is_the_photo_bit_for_bit(engine, editor, portrait):
    for submodel in engine.weights.candidates:
        assert np.array_equal(editor.edit(0, submodel=submodel).picture, portrait)


def test_the_change_itself_is_zero_at_zero_years(engine, editor):
    """Not only a shortcut: G(f + alpha(0) n) - G(f) vanishes."""
    prepared = editor.prepare(0)
    for r, c in engine.weights.candidates:
        assert np.abs(prepared.generate(0, (r, c)) - prepared.base((r, c))).max() == 0
    assert all(
        engine.weights.alpha(0, age, blur, r, c) == 0
        for age in (5, 33, 80)
        for blur in (0, 1)
        for r, c in engine.weights.candidates
    )


@pytest.mark.processor
def test_older_means_older_on_the_portraits(engine):
    changes = {-20: [], 20: [], 40: []}
    for path in PORTRAITS:
        editor = AgeEditor(engine)
        editor.set_photo(load_photo(path))
        for years, values in changes.items():
            reading = editor.read(editor.edit(years))
            values.append(reading["age_after"] - reading["age_before"])
    assert all(v > 0 for v in changes[20]) and all(v > 0 for v in changes[40])
    mean = {years: float(np.mean(values)) for years, values in changes.items()}
    assert mean[-20] < -3 and mean[20] > 8 and mean[40] > mean[20] + 4, mean


@pytest.mark.processor
def test_the_person_stays_the_person(engine):
    for path in PORTRAITS[:3]:
        editor = AgeEditor(engine)
        editor.set_photo(load_photo(path))
        assert editor.read(editor.edit(20))["same_person"]


def test_nothing_outside_the_mask_moves(editor, portrait):
    changed, prepared = (editor.edit(40).picture != portrait).any(2), editor.prepare(0)

    def placed(v, face):
        return cv2.warpAffine(
            v, cv2.invertAffineTransform(face.to_crop(256)), portrait.shape[1::-1], flags=cv2.INTER_LINEAR
        )

    mask = np.maximum(
        placed(prepared.mask, prepared.face), placed(prepared.beyond.weight, prepared.beyond.face)
    )
    assert changed.any() and not changed[cv2.dilate(mask, np.ones((9, 9))) == 0].any()
    assert not changed[-20:].any() and not changed[:, :20].any()


def test_lips_irises_and_nose_stay_the_photos_own(editor, portrait):
    face = editor.faces[0]
    apart = np.abs(editor.edit(40).picture.astype(int) - portrait).max(2)

    def around(p, r):
        return apart[int(p[1]) - r : int(p[1]) + r + 1, int(p[0]) - r : int(p[0]) + r + 1].mean()

    irises = max(around(face.points[k], int(face.frame * 0.005)) for k in (468, 473))
    skin = around(face.points.mean(0), int(face.frame * 0.15))
    assert skin > 5 and irises < skin / 3
    own = own_features(cv2.transform(face.points[None], face.matrix)[0] * 256, 256)
    assert own.shape == (256, 256) and 0 <= own.min() and own.max() < 1 and 0.01 < (own > 0.5).mean() < 0.05
    lips = cv2.transform(face.points[None, [0, 17]], face.matrix)[0].mean(0) * 256
    assert own[int(lips[1]), int(lips[0])] > 0.7 and own[128 - 60, 128] == 0
    nose, cheek = (cv2.transform(face.points[None, [k]], face.matrix)[0, 0] * 256 for k in (4, 50))
    assert own[int(nose[1]), int(nose[0])] > 0.65 and own[int(cheek[1]), int(cheek[0])] < 0.02


def test_output_keeps_the_photos_own_resolution_and_the_photo_itself(editor, portrait):
    before = portrait.copy()
    assert editor.edit(30).picture.shape == portrait.shape
    assert np.array_equal(portrait, before)


def test_a_quick_look_is_the_same_edit_smaller(editor):
    large, small = editor.edit(30).picture, editor.edit(30, limit=550).picture
    assert max(small.shape) == 550
    again = cv2.resize(large, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(again.astype(int) - small).mean() < 2


@pytest.mark.parametrize("age", [3, 10, 33, 80])
def test_beyond_its_reach_an_edit_gets_no_stronger(engine, age):
    low, high = engine.weights.reach(age)
    for (r, c), blur in zip(engine.weights.candidates[::5], (0, 0.002, 0.004, 1), strict=False):

        def alpha(years):
            return engine.weights.alpha(years, age, blur, r, c)  # noqa: B023

        assert alpha(high + 10) == alpha(high) and alpha(low - 10) == alpha(low)
        assert (
            alpha(min(high, 40)) > alpha(min(high, 40) / 2) >= 0
            and alpha(max(low, -30)) <= alpha(max(low, -30) / 2) <= 0
        )


def tone_of(colour, r=128, hair=0.0):
    """The Tone of a plain photo, all of it face, `hair` of it hair."""
    crop = np.full((256, 256, 3), colour, np.uint8)
    return Tone(crop, np.ones((256, 256), np.float32), np.full((256, 256), hair, np.float32), r)


def test_a_change_is_light_and_dark_of_the_skins_own_colour():
    skin = np.float32((200, 150, 120))
    tan = np.zeros((128, 128, 3), np.float32)
    tan[:] = (10, -5, -20)
    assert (
        np.abs(tone_of(skin).skin.take_own_colour(tan)).max() < 3
    )  # the whole face keeps its colour and brightness
    assert np.allclose(tone_of(skin, hair=1).skin.take_own_colour(tan), tan, atol=1e-3)  # hair may turn grey
    wrinkle = np.zeros((128, 128, 3), np.float32)
    wrinkle[70] = (-20, -40, -60)  # an orange line
    kept = tone_of(skin).skin.take_own_colour(wrinkle)[70, 64]
    assert kept.max() < -28 and kept[0] < kept[1] < kept[2]  # stays dark, in the skin's proportions

    def red_over_blue(v):
        return v[0] / v[2]

    was, shown, drawn = (red_over_blue(v) for v in (skin, skin + kept, skin + wrinkle[70, 64]))
    assert abs(shown - was) < 0.3 * abs(drawn - was)
    assert not tone_of(skin, 64).skin.take_own_colour(np.zeros((64, 64, 3), np.float32)).any()


def test_greying_brows_do_not_darken_the_skin():
    crop, grey = np.full((256, 256, 3), (200, 150, 120), np.uint8), np.zeros((256, 256, 3), np.float32)
    crop[90:110, 60:200], grey[90:110, 60:200] = 40, 60  # a brow, and how it gets lighter
    whole = np.ones((256, 256), np.float32)
    kept = Tone(crop, whole, 0 * whole, 256).skin.take_own_colour(grey)
    assert kept[100, 128].min() > 30 and np.abs(kept[125]).max() < 1


def test_wrinkles_are_shadows_with_half_a_ridge_beside_them():
    wrinkle = np.zeros((128, 128, 3), np.float32)
    wrinkle[64], wrinkle[67] = -30, 30
    shown = tone_of((180, 140, 120)).skin.weaken_ridges(wrinkle)
    assert np.abs(shown[:66] - wrinkle[:66]).max() < 2 and 14 < shown[67, 64, 0] < 18
    assert np.array_equal(
        tone_of((180, 140, 120), hair=1).skin.weaken_ridges(wrinkle), wrinkle
    )  # hair has white strands
    assert np.allclose(
        tone_of((180, 140, 120)).skin.weaken_ridges(0 * wrinkle + 30), 30, atol=1e-3
    )  # a face may get lighter as a whole
    crop, whole = np.full((128, 128, 3), 150, np.uint8), np.ones((256, 256), np.float32)
    crop[67] = 110  # drawn younger a line of the photo's is filled
    assert np.allclose(Tone(crop, whole, 0 * whole, 128).skin.weaken_ridges(wrinkle)[67], 30, atol=1e-3)


def test_overexposed_skin_gets_less_of_what_is_faint():
    faint, deep = np.full((2, 128, 128, 3), -8, np.float32) * np.float32((1, 8))[:, None, None, None]
    white = tone_of((255, 250, 235))
    assert np.allclose(white.skin.spare_highlights(faint), faint / 3, atol=0.1) and np.allclose(
        white.skin.spare_highlights(deep), 0.8 * deep, atol=0.1
    )
    assert not white.skin.spare_highlights(0 * faint).any() and np.allclose(
        tone_of((255, 250, 235), hair=1).skin.spare_highlights(faint), faint, atol=0.1
    )
    assert np.array_equal(tone_of((220, 190, 170)).skin.spare_highlights(faint), faint)


def test_what_is_dark_outside_the_hair_stays_dark():
    lighter = np.full((128, 128, 3), 60, np.float32)
    assert (
        0 < tone_of((16, 16, 16)).skin.limit(lighter).max() < 20
    )  # the teacher's old take their glasses off
    for tone in (tone_of((16, 16, 16), hair=1), tone_of((180, 140, 120))):
        assert np.array_equal(tone.skin.limit(lighter), lighter)
    crop, whole = np.full((256, 256, 3), (200, 150, 120), np.uint8), np.ones((256, 256), np.float32)
    crop[90:110, 60:200] = 60  # a brow: drawn younger it is not painted black
    younger = Tone(crop, whole, 0 * whole, 256).skin.limit(np.full((256, 256, 3), -40, np.float32))
    assert np.allclose(younger[100, 128], -0.15 * 60 - 4, atol=0.5) and np.allclose(younger[200, 128], -40)


def test_a_change_is_no_crisper_than_its_photo():
    crop, whole = np.full((512, 512, 3), 90, np.uint8), np.ones((256, 256), np.float32)
    for k in range(100, 420, 40):
        crop[k : k + 20, 120:400] = 160  # edges in focus
    line = np.zeros((512, 512, 3), np.float32)
    line[256] = -40  # a crisp wrinkle
    depth, soft = [], [cv2.GaussianBlur(crop, (0, 0), sigma) if sigma else crop for sigma in (0, 2, 3)]
    for photo in soft:
        tone = Tone(photo, whole, 0 * whole, 512, photo_blur(photo))
        depth.append(-tone.soften(line).min())
        assert abs(tone.soften(line).sum() / line.sum() - 1) < 0.01  # the same light is taken away
        assert -tone(line).min() < 1.3 * depth[-1]  # and so it is shown
    assert depth[0] == 40 and 8 < depth[1] < 13 and 4 < depth[2] < depth[1] - 2
    blur = photo_blur(soft[1])
    assert 512 * blur == pytest.approx(np.sqrt(2**2 - 1.1**2), abs=0.4) and change_blur(
        blur, 512
    ) == pytest.approx(np.sqrt((512 * blur) ** 2 - 0.5**2))
    assert (
        change_blur(blur, 64) == 0 == photo_blur(np.full((512, 512, 3), 90, np.uint8))
    )  # 64 px are softer already; and nothing to see


def test_strands_are_the_photos_own_and_get_lighter_with_their_lock():
    crop, whole = np.full((256, 256, 3), 30, np.uint8), np.ones((256, 256), np.float32)
    crop[:, ::4] = 50  # dark hair, and every fourth column a bright strand

    def contrast(v):
        return np.ptp(v[100:150, 100:140].mean((0, 2)))

    for r in (64, 256):
        grey, noise = np.full((2, r, r, 3), 60, np.float32)
        noise[::2] += 40 * (r > 64)  # strands that the network would draw
        for change in (grey, noise):
            shown = Tone(crop, whole, whole, r).hair.relight_strands(change)
            assert shown.shape == (256, 256, 3) and contrast(crop + shown) > 1.4 * contrast(crop)
            assert np.ptp(shown.mean((1, 2))[50:200]) < 8 and abs(shown.mean() - change.mean()) < 2
            assert (
                np.abs(
                    Tone(crop, whole, 0 * whole, r).hair.relight_strands(change).mean((0, 1))
                    - change.mean((0, 1))
                ).max()
                < 0.1
            )
        assert not Tone(crop, whole, whole, r).hair.relight_strands(0 * grey).any()
    # strong ones get no stronger, as the shades of white hair are filled, and all keep their order up to
    # white
    crop[:, ::4] = np.linspace(60, 250, 64, dtype=np.uint8)[None, :, None]
    for lighter in (40, 90):
        shown = (
            crop
            + Tone(crop, whole, whole, 256).hair.relight_strands(np.full((256, 256, 3), lighter, np.float32))
        ) @ LUMA
        strands, dark = shown[128, 32:224:4], shown[128, 34:224:4]
        assert (np.diff(strands) > -1).all() and strands.max() <= max(HAIR.white, crop.max()) + 1
        strong = np.float32(crop[128, 32:224:4, 0]) - crop[128, 34:224:4, 0] > 2 * HAIR.strong
        assert strong.any() and ((strands - dark) < (np.float32(crop[128, 32:224:4, 0]) - 30))[strong].all()
    bald = Tone(crop, whole, 0 * whole, 256)
    assert np.array_equal(bald.hair.relight_strands(noise), noise)  # skin's lines are drawn


def test_single_strands_before_a_bright_wall_are_hair(engine):
    """London 045's hair stands off: at its rim what is dark is hair, and what is bright is not."""
    editor = AgeEditor(engine)
    editor.set_photo(load_photo(next(p for p in PORTRAITS if "045" in p.name)))
    prepared = editor.prepare(0)
    grey = cv2.cvtColor(
        cv2.resize(prepared.crop, (256, 256), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )
    inside = cv2.GaussianBlur((prepared.hair > 0.5).astype(np.float32), (0, 0), 4)
    rim = (inside > 0.1) & (inside < 0.9) & (np.arange(256)[:, None] > 20) & (np.arange(256)[:, None] < 90)
    assert prepared.mask[rim & (grey < 60)].mean() > 0.98 and prepared.mask[rim & (grey > 180)].mean() < 0.3


def test_the_strict_form_is_the_generated_face_alone(engine, editor):
    r, _c = engine.weights.order[0]
    base, old = (editor.edit(y, strict=True).picture for y in (0, 40))
    assert base.shape == (r, r, 3) and np.abs(base.astype(int) - old).mean() > 1
    crop = cv2.resize(align(editor.rgb, editor.faces[0], 256), (r, r), interpolation=cv2.INTER_AREA)
    other = AgeEditor(engine)
    other.set_photo(load_photo(PORTRAITS[1]))

    def distance(a, b):
        return np.abs(a.astype(int) - b).mean()

    # somebody in particular: nearer to this face than another's is, for the eye and for the identity network
    assert distance(base, crop) < 0.7 * distance(other.edit(0, strict=True).picture, crop)
    assert editor.read(editor.edit(0, strict=True))["identity_l2"] < 0.7


def test_each_face_keeps_its_own_age(engine, portrait):
    other = cv2.resize(load_photo(PORTRAITS[3]), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    both = np.full((1100, 1100 + other.shape[1], 3), 210, np.uint8)
    both[:, :1100] = portrait
    both[: other.shape[0], 1100:] = other
    editor = AgeEditor(engine)
    editor.set_photo(both)
    left, right = editor.edit(40, face=0).picture != both, editor.edit(40, face=1).picture != both
    assert left[:, :1100].any() and not left[:, 1100:].any()
    assert right[:, 1100:].any() and not right[:, :1100].any()
    everyone = editor.edit(40, face="all").picture != both
    assert everyone[:, :1100].any() and everyone[:, 1100:].any()


@pytest.mark.parametrize("years", [np.int64(20), np.int32(20), np.float32(20), np.float64(20)])
def test_years_may_be_numbers_of_numpy(editor, years):
    edit = editor.edit(years, submodel=(64, 0.25))
    assert np.array_equal(edit.picture, editor.edit(20, submodel=(64, 0.25)).picture)
    assert edit.years == {0: 20} and json.dumps(edit.years)


def test_bad_requests_say_so_and_lose_nothing(engine, editor, portrait):
    low, high = engine.weights.years_range
    for bad in (high + 1, low - 1, float("nan"), "20"):
        with pytest.raises(AgeEditError, match="out of range"):
            editor.edit(bad)
    with pytest.raises(AgeEditError, match="no face 3"):
        editor.edit(10, face=3)
    with pytest.raises(AgeEditError, match="no sub-model"):
        editor.edit(10, submodel=(100, 1.0))
    with pytest.raises(AgeEditError, match="No face"):
        editor.set_photo(np.full((300, 300, 3), 128, np.uint8))
    with pytest.raises(AgeEditError, match="RGB array"):
        editor.set_photo(portrait[..., 0])
    assert np.array_equal(editor.edit(0).picture, portrait)
    with pytest.raises(AgeEditError, match="no photo yet"):
        AgeEditor(engine).edit(10)


def test_a_face_too_small_is_refused(engine, portrait):
    small = np.full((500, 500, 3), 200, np.uint8)
    small[200:280, 200:280] = cv2.resize(portrait, (80, 80), interpolation=cv2.INTER_AREA)
    with pytest.raises(AgeEditError, match=r"too small|No face"):
        AgeEditor(engine).set_photo(small)


def test_a_face_turned_away_is_refused(engine, portrait):
    face = engine.find_faces(portrait)[0]
    face.yaw = 75.0
    assert "turned away" in face.reason_to_refuse()


def test_weights_missing_altered_or_damaged(tmp_path):
    with pytest.raises(AgeEditError, match="missing"):
        Weights(tmp_path)
    copy = tmp_path / "weights"
    shutil.copytree(weights_folder(), copy)
    data = bytearray((copy / "agedit.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "agedit.safetensors").write_bytes(data)
    with pytest.raises(AgeEditError, match="altered"):
        Weights(copy)
    for name in ("agedit.safetensors", "ranges.safetensors"):
        shutil.copytree(weights_folder(), copy, dirs_exist_ok=True)
        weights = Weights(copy)
        (copy / name).unlink()
        with pytest.raises(AgeEditError, match="replaced"):
            weights.ranges(64, 0.25) if name == "ranges.safetensors" else weights.part("generator")
        with pytest.raises(AgeEditError, match="incomplete"):
            Weights(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(AgeEditError, match="damaged"):
        Weights(copy)


def test_the_manifest_names_the_shipped_files():
    manifest = json.loads((weights_folder() / "manifest.json").read_text())
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((weights_folder() / name).read_bytes()).hexdigest() == expected
    svm = manifest["provenance"]["age_svm"]
    assert 0.5 < svm["balanced_accuracy"] < 1 and svm["held_out"] > 100
    assert sorted(map(tuple, manifest["quality_order"])) == sorted(Weights().candidates)


def test_one_weight_file_serves_every_sub_model(engine):
    fresh = Engine(engine.weights)
    f = np.zeros((1, 512), np.float32)
    for r, c in engine.weights.candidates:
        picture = fresh.generate(f, fresh.sketch(f, r), r, c)
        assert picture.shape == (r, r, 3) and np.isfinite(picture).all()


def test_hair_turns_grey_evenly():
    brown = np.float32((120, 85, 50))
    hair = tone_of(brown, 128, hair=1)
    half = np.broadcast_to(np.float32(0.5) * (brown.mean() - brown), (128, 128, 3))  # halfway to grey
    spots = np.random.default_rng(0).normal(0, 25, (64, 64, 3)).astype(np.float32).repeat(2, 0).repeat(2, 1)

    def saturation(change):
        return np.ptp(brown + change[32:96, 32:96], 2)

    drawn, shown = half + spots, hair.hair.fade_colour(half + spots)
    assert saturation(shown).std() < 0.3 * saturation(drawn).std() and abs(saturation(shown).mean() - 35) < 10
    assert (
        np.abs(cv2.transform(shown - drawn, np.float32([[0.299, 0.587, 0.114]]))).max() < 1
    )  # its light and dark stay
    assert (
        np.abs(tone_of(brown, 128).hair.fade_colour(drawn) - drawn).max() < 1e-3
    )  # skin is none of its business
