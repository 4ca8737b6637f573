"""S11/S61: one similarity into the template, its exact inverse, several faces, orientation."""

import cv2
import numpy as np
import pytest
from conftest import PORTRAITS
from PIL import Image

from agedit import AgeEditError, load_photo
from agedit.align import EYE_MOUTH, TEMPLATE, Face, align, similarity, unalign
from agedit.faces import MOST_FACES


def smooth_photo(size=600):
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 255, (size, size, 3), np.uint8), (0, 0), 12)


def face_at(angle, frame, centre):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / frame
    return Face(np.zeros((478, 2)), 0.0, np.column_stack([turn, 0.5 - turn @ centre]))


def test_similarity_recovers_a_known_transform():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]]) * 0.01
    points = np.array([[10.0, 20], [50, 22], [18, 70], [44, 73]])
    matrix = similarity(points, points @ turn.T + (0.3, 0.1))
    assert np.allclose(matrix, np.column_stack([turn, (0.3, 0.1)]))


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2])
def test_align_then_inverse_is_the_identity(angle):
    photo = smooth_photo()
    face = face_at(angle, 300.0, (290, 310))
    back = unalign(align(photo, face, 512), face, photo.shape[:2])
    inside = unalign(np.full((512, 512), 255, np.uint8), face, photo.shape[:2]) == 255
    inside = cv2.erode(inside.astype(np.uint8), np.ones((9, 9))) > 0
    assert inside.sum() > 50_000
    assert np.abs(back.astype(int) - photo)[inside].max() <= 3


def test_the_matrix_of_a_crop_keeps_pixel_centres():
    face = face_at(0.0, 256.0, (128, 128))  # the template is the photo itself
    assert np.allclose(face.to_crop(256), [[1, 0, 0], [0, 1, 0]])
    assert face.frame == pytest.approx(256)


def test_a_portrait_lands_on_the_template(engine, portrait):
    face = engine.find_faces(portrait)[0]
    again = engine.find_faces(align(portrait, face, 512))[0]
    anchors = np.array([again.points[list(i)].mean(0) for i in EYE_MOUTH]) / 512
    assert np.abs(anchors - TEMPLATE).max() < 0.03


def test_every_face_is_found_largest_first(engine, portrait):
    second = cv2.resize(load_photo(PORTRAITS[3]), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both = np.full((1100, 1100 + second.shape[1], 3), 200, np.uint8)
    both[:, :1100] = portrait
    both[: second.shape[0], 1100:] = second
    faces = engine.find_faces(both)
    assert len(faces) == 2 and faces[0].frame > faces[1].frame


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, None])
def test_exif_orientation_and_tilted_heads(engine, portrait, tmp_path, turn):
    upright = engine.find_faces(portrait)[0]
    if turn is None:  # a head tilted by 25 degrees
        m = cv2.getRotationMatrix2D((550, 550), 25, 0.8)
        tilted = cv2.warpAffine(portrait, m, (1100, 1100), borderMode=cv2.BORDER_REPLICATE)
        face = engine.find_faces(tilted)[0]
        expected = upright.frame * 0.8
    else:
        tag = {cv2.ROTATE_90_CLOCKWISE: 8, cv2.ROTATE_180: 3}[turn]
        image = Image.fromarray(cv2.rotate(portrait, turn))
        exif = image.getexif()
        exif[274] = tag
        image.save(tmp_path / "turned.png", exif=exif)
        loaded = load_photo(tmp_path / "turned.png")
        assert np.array_equal(loaded, portrait)
        return
    assert abs(face.frame / expected - 1) < 0.06
    assert abs(np.degrees(np.arctan2(face.matrix[0, 1], face.matrix[0, 0]))) == pytest.approx(25, abs=5)


def test_a_photo_without_a_face_is_refused_plainly(engine):
    with pytest.raises(AgeEditError, match="No face was found"):
        engine.find_faces(smooth_photo(300))


def test_of_a_crowd_the_largest_faces_are_taken(engine):
    small = [cv2.resize(load_photo(p), (180, 180), interpolation=cv2.INTER_AREA) for p in PORTRAITS[:6]]
    crowd = np.vstack([np.hstack(small)] * 5)
    crowd[:360, :360] = cv2.resize(load_photo(PORTRAITS[0]), (360, 360), interpolation=cv2.INTER_AREA)
    faces = engine.find_faces(crowd)
    assert 10 < len(faces) <= MOST_FACES and faces[0].frame > 1.5 * faces[1].frame
