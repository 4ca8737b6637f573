"""S61: faces of any size and at any angle, in photos of any shape, the same on every run; neighbours left
alone.
"""

import tracemalloc

import cv2
import numpy as np
import pytest
from conftest import PORTRAITS

from agedit import AgeEditError, AgeEditor, load_photo
from agedit.faces import SEARCH, FaceFinder
from agedit.masks import own_share


@pytest.fixture(scope="module")
def finder():
    return FaceFinder()


def portrait_of(index, edge):
    """A portrait whose longer side has `edge` pixels."""
    photo = load_photo(PORTRAITS[index])
    scale = edge / max(photo.shape)
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def turned(photo, degrees):
    """The photo turned on a larger grey canvas, and the matrix (2, 3) that turns its pixel centres."""
    height, width = photo.shape[:2]
    edge = int(np.ceil(np.hypot(height, width)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += (edge - width) / 2, (edge - height) / 2
    return cv2.warpAffine(photo, matrix, (edge, edge), borderValue=(128, 128, 128)), matrix


def expected_points(face, matrix):
    return cv2.transform((face.points - 0.5)[None], matrix)[0] + 0.5


def off(face, points):
    """Mean distance of a face's landmarks from where they should be, in frames."""
    return np.linalg.norm(face.points - points, axis=1).mean() / face.frame


@pytest.mark.parametrize("index", [0, 2, 8])
def test_a_face_is_found_the_right_way_up_at_any_angle(finder, index):
    photo = portrait_of(index, 450)
    upright = finder.find(photo)[0]
    for degrees in (20, 60, 90, 135, 180, 205, 270, 310):
        picture, matrix = turned(photo, degrees)
        faces = finder.find(picture)
        assert len(faces) == 1, degrees
        assert off(faces[0], expected_points(upright, matrix)) < 0.03, degrees


def test_an_upside_down_face_is_edited_upside_down(engine):
    photo = portrait_of(1, 500)
    upright = AgeEditor(engine)
    upright.set_photo(photo)
    inverted = AgeEditor(engine)
    inverted.set_photo(cv2.rotate(photo, cv2.ROTATE_180))
    first = upright.edit(30, submodel=(128, 0.25)).picture
    second = cv2.rotate(inverted.edit(30, submodel=(128, 0.25)).picture, cv2.ROTATE_180)
    changed = np.abs(first.astype(int) - photo).mean()
    assert changed > 0.5
    assert np.abs(first.astype(int) - second).mean() < 0.3 * changed


def test_faces_that_stand_and_lie_in_one_photo(finder):
    parts = [portrait_of(0, 420), cv2.rotate(portrait_of(2, 420), cv2.ROTATE_180)]
    parts.append(cv2.rotate(portrait_of(3, 420), cv2.ROTATE_90_CLOCKWISE))
    faces = finder.find(np.hstack([cv2.resize(part, (420, 420)) for part in parts]))
    angles = {}
    for face in faces:
        angles[int(face.centre[0] // 420)] = np.degrees(np.arctan2(-face.matrix[0, 1], face.matrix[0, 0]))
    assert len(faces) == 3
    assert abs(angles[0]) < 10
    assert abs(angles[1]) > 170
    assert abs(abs(angles[2]) - 90) < 10


def crowd(width, height, edge, count, seed):
    """`count` portraits of `edge` pixels on a noisy wall, none over another: the picture and their places (N,
    2).
    """
    rng = np.random.default_rng(seed)
    wall = rng.integers(90, 170, (height // 8, width // 8, 3), np.uint8)
    picture = cv2.resize(wall, (width, height), interpolation=cv2.INTER_LINEAR)
    columns = width // (edge + 20)
    rows = height // (edge + 20)
    places = []
    for cell in rng.choice(columns * rows, count, replace=False):
        x = int(cell % columns) * (edge + 20)
        y = int(cell // columns) * (edge + 20)
        person = portrait_of(int(rng.integers(8)), edge)
        picture[y : y + person.shape[0], x : x + person.shape[1]] = person
        places.append((x, y))
    return picture, np.array(places)


@pytest.mark.parametrize(("width", "height", "edge", "count"), [(6000, 4000, 240, 5), (4000, 5000, 170, 12)])
def test_small_faces_of_a_large_photo_are_all_found_once(finder, width, height, edge, count):
    picture, places = crowd(width, height, edge, count, seed=count)
    centres = np.array([face.centre for face in finder.find(picture)])
    inside = ((centres[:, None] > places) & (centres[:, None] < places + edge)).all(-1)
    assert len(centres) == count
    assert inside.sum(axis=0).tolist() == [1] * count
    assert inside.sum(axis=1).tolist() == [1] * count


def test_walls_and_headless_people_have_no_faces(finder):
    for seed in range(1):
        picture, _ = crowd(1000, 700, 300, 0, seed)
        with pytest.raises(AgeEditError, match="No face was found"):
            finder.find(picture)
    photo = portrait_of(4, 640)
    face = finder.find(photo)[0]
    x0, y0 = (face.points.min(0) - 0.25 * face.frame).astype(int)
    x1, y1 = (face.points.max(0) + 0.1 * face.frame).astype(int)
    photo[max(0, y0) : y1, max(0, x0) : x1] = photo[10, 10]
    with pytest.raises(AgeEditError, match="No face was found"):
        finder.find(photo)


def panorama(edge=600, width=17_000):
    picture = np.full((edge, width, 3), 170, np.uint8)
    person = portrait_of(5, edge)
    picture[: person.shape[0], -person.shape[1] :] = person
    return picture


def test_a_photo_gives_the_same_faces_on_every_run_and_in_any_order(finder):
    photos = [panorama(), portrait_of(0, 700), portrait_of(6, 300)]

    def faces_of(photo):
        return [(face.points.tobytes(), face.matrix.tobytes()) for face in finder.find(photo)]

    first = [faces_of(photo) for photo in photos]
    assert [len(faces) for faces in first] == [1, 1, 1]
    assert [faces_of(photo) for photo in photos[::-1]][::-1] == first
    assert finder.find(photos[0])[0].centre[0] > 16_400


def test_the_detector_sees_no_strip_so_slim_that_it_reads_what_it_never_wrote(finder, monkeypatch):
    sizes = []
    real = finder._detector

    def recorded(width, height):
        sizes.append((width, height))
        return real(width, height)

    monkeypatch.setattr(finder, "_detector", recorded)
    finder.find(panorama())
    with pytest.raises(AgeEditError):
        finder.find(np.zeros((900, 20, 3), np.uint8))
    assert max(max(size) for size in sizes) <= SEARCH.tile
    assert min(min(size) for size in sizes) >= 64


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 20_000), (65_500, 1), (10, 30_000), (17, 17), (20, 20_000), (12_000, 160), (1, 10**7)],
)
def test_any_shape_is_answered_plainly_and_in_little_memory(finder, shape):
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(AgeEditError, match="No face was found"):
            finder.find(photo)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize("times", [4, 8])
def test_landmarks_of_a_shrunk_photo_have_no_shift(finder, times):
    shifts = []
    for index in range(4):
        photo = portrait_of(index, 2048)
        height, width = (length // times * times for length in photo.shape[:2])
        photo = np.ascontiguousarray(photo[:height, :width])
        small = cv2.resize(photo, (width // times, height // times), interpolation=cv2.INTER_AREA)
        shift = finder.find(small)[0].points - finder.find(photo)[0].points / times
        shifts.append(shift.mean(0))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.25


def side_by_side(cut):
    """Two portraits whose hair touches; of the one on the right `cut` (0..1) is left in the frame, and it
    starts at x.
    """
    left = load_photo(PORTRAITS[0])[60:960, 230:730]
    right = load_photo(PORTRAITS[5])[60:960, 390:850]
    picture = np.hstack([left, right[:, : round(cut * right.shape[1])]])
    return np.ascontiguousarray(picture), left.shape[1]


@pytest.mark.parametrize("cut", [1.0, 0.5, 0.35])
def test_a_neighbour_is_left_alone_whole_or_cut_by_the_edge(engine, cut):
    picture, start = side_by_side(cut)
    editor = AgeEditor(engine)
    editor.set_photo(picture)
    index = int(np.argmin([face.centre[0] for face in editor.faces]))
    change = editor.edit(30, index, submodel=(128, 0.25)).picture.astype(int) - picture
    own = np.abs(change[:, : start - 60]).max(axis=2)
    other = np.abs(change[:, start + 60 :]).max(axis=2)
    assert (own > 20).mean() > 0.1
    assert other.max() == 0


def test_a_cut_head_is_a_neighbour_and_one_person_has_none(finder):
    picture, start = side_by_side(0.35)
    cut = finder.find(picture)[0].neighbours
    assert any(head.centre[0] > start for head in cut)
    for index in range(len(PORTRAITS)):
        assert finder.find(load_photo(PORTRAITS[index]))[0].neighbours == ()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_cut_head_is_a_neighbour_in_a_photo_that_lies_or_is_upside_down(finder, quarters):
    picture, _ = side_by_side(0.35)
    upright = finder.find(picture)[0].neighbours
    turned_left = finder.find(np.ascontiguousarray(np.rot90(picture, quarters)))[0].neighbours
    edges = [picture.shape[1], picture.shape[0]] * 2
    assert len(turned_left) == len(upright) >= 1
    for head, before in zip(turned_left, upright, strict=True):
        centre = before.centre
        for turn in range(quarters):  # to the left: what was right is up
            centre = np.array([centre[1], edges[turn] - centre[0]])
        assert np.linalg.norm(head.centre - centre) < 0.1 * before.frame
        assert abs(head.frame - before.frame) < 0.1 * before.frame


def test_without_others_all_hair_is_this_heads(finder):
    face = finder.find(portrait_of(0, 400))[0]
    assert (own_share(face, face, (), 64) == 1).all()
