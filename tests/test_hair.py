"""Hair beyond the reference square greys as the hair within does, and nothing else out there moves."""

import cv2
import numpy as np
import pytest
from conftest import PORTRAITS

from agedit import AgeEditor, load_photo
from agedit.align import Face, align, unalign
from agedit.hair import HairTone, OuterHair
from agedit.masks import MASK_SIZE, WIDE, connected_to_face
from agedit.reports.evaluate import outside

PHOTO, BROWN, LUMA = (400, 400), (120, 80, 50), np.float32((0.299, 0.587, 0.114))
FACE = Face(
    np.full((478, 2), 200.0), 0.0, np.array([[0.01, 0, -1.5], [0, 0.01, -1.5]])
)  # its square: 150 to 250 both ways
AWAY = Face(np.array([[200.0, 290.0]] * 478), 0.0, np.array([[0.01, 0, -1.5], [0, 0.01, -2.4]]))


def beyond(hair, others=(), within=1.0):
    """Of a photo with brown `hair` (400, 400) before a white wall."""
    rgb = np.full((*PHOTO, 3), 230, np.uint8)
    rgb[hair > 0] = BROWN

    wide = align(rgb, FACE.widened(WIDE), MASK_SIZE)[:, :, 2].astype(np.float32)
    wide = np.clip((200 - wide) / 100, 0, 1)
    inner = np.full((MASK_SIZE, MASK_SIZE), within, np.float32)
    wide *= connected_to_face(inner, wide, FACE)
    return rgb, OuterHair(rgb, FACE, np.zeros((MASK_SIZE, MASK_SIZE), np.float32), inner, wide, others)


def band(top, bottom, left=190, right=210):
    hair = np.zeros(PHOTO, np.float32)
    hair[top:bottom, left:right] = 1
    return hair


def test_only_what_hangs_together_with_the_hair_within_is_the_same_head():
    _, long = beyond(band(200, 280))
    placed = unalign(long.weight, long.face, PHOTO)
    assert long.exists and placed[255:275, 195:205].min() > 0.9 and placed[:, :180].max() == 0
    _, apart = beyond(band(256, 280))
    assert not apart.exists and not apart.weight.any()


def test_hair_nearer_to_another_face_is_not_touched():
    _, mine = beyond(band(200, 300), others=[AWAY])
    placed = unalign(mine.weight, mine.face, PHOTO)
    assert placed[200:235, 200].min() > 0.9 and placed[255:].max() == 0


def test_a_head_without_hair_within_has_none_beyond():
    assert not beyond(band(200, 280), within=0.0)[1].exists


@pytest.mark.parametrize("years", [0.9, -0.3])
def test_the_line_within_goes_on_beyond(years):
    """Hair of several browns whose light Y becomes Y + years (100 - Y / 2), and grey: so does what hangs out
    of the square.
    """
    rgb, hair = beyond(band(150, 280, 150, 250))
    crop = np.linspace(0.5, 1.5, 256)[:, None, None] * np.full((256, 1), 1) * np.float32(BROWN)
    light = crop @ LUMA
    hair.light, hair.colour = (
        cv2.resize(v.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)[hair.inner]
        for v in (light, crop - light[:, :, None])
    )
    change = (years * (100 - light / 2))[:, :, None] + 0.8 * (light[:, :, None] - crop)
    a, b, left = hair.tone(change.astype(np.float32))
    slope = (
        min(0, years) / -2
    )  # hair that gets lighter keeps its lit and shaded locks: its mean change goes on
    mean = years * (100 - hair.light.mean() / 2)
    assert b == pytest.approx(slope, abs=0.05)
    assert a + b * hair.light.mean() == pytest.approx(mean, abs=3)
    assert left == pytest.approx(0.2, abs=0.05)
    after = rgb.copy()
    hair.add(after, rgb, HairTone(a, b, left), hair.face)
    assert hair.tone(0 * change.astype(np.float32)) == (0, 0, 1)
    before, pixel = np.float32(BROWN), after[265, 200].astype(np.float32)
    y = before @ LUMA
    assert pixel @ LUMA == pytest.approx(y + a + b * y, abs=3) and np.ptp(pixel) < 0.3 * np.ptp(before)
    assert np.array_equal(after[:, :145], rgb[:, :145]) and np.array_equal(after[300:], rgb[300:])


def test_a_bun_greys_with_the_rest(engine):
    editor = AgeEditor(engine)
    editor.set_photo(load_photo(next(p for p in PORTRAITS if "001" in p.name)))
    bun = unalign(editor.prepare(0).beyond.weight, editor.prepare(0).beyond.face, editor.rgb.shape[:2]) > 0.9

    def colour(rgb):
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[bun].astype(float)

    def chroma(lab):
        return np.hypot(lab[:, 1] - 128, lab[:, 2] - 128).mean()

    edit = editor.edit(40)
    before, after = colour(editor.rgb), colour(edit.picture)
    assert (
        bun.sum() > 5000
        and chroma(after) < 0.6 * chroma(before)
        and after[:, 0].mean() > before[:, 0].mean() + 20
    )
    assert outside(editor, edit) == 0
    low, high = np.percentile(after[:, 0], (5, 95))
    assert high - low > 0.8 * np.ptp(np.percentile(before[:, 0], (5, 95)))  # curls stay curls
    small = editor.edit(40, limit=500)  # a quick look shows the same
    whole = cv2.resize(edit.picture, small.picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(whole.astype(int) - small.picture).mean() < 2
    large = AgeEditor(engine)  # more pixels than the change is worked out in
    large.set_photo(cv2.resize(editor.rgb, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC))
    edit, there = large.edit(40), cv2.erode(bun.astype(np.uint8), np.ones((9, 9))) > 0
    shrunk = cv2.resize(edit.picture, editor.rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert (
        np.abs(shrunk.astype(int) - editor.edit(40).picture)[there].mean() < 6 and outside(large, edit) == 0
    )
