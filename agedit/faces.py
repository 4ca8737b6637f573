"""S61: find the faces of a photo, of any size and at any angle, and place landmarks on them.

YuNet looks at the photo shrunk, at several scales and in tiles, so that neither time nor memory grows with a
photo's shape. It sees a turned head too, with a lower score and with an upright face's landmarks; so each
head that it proposes is looked at once more alone, turned by steps of a full circle, and the turn with the
best score is the one that puts it upright. MediaPipe's face mesh then places the landmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import EYE_MOUTH, TEMPLATE, Face, Neighbour, pixel_centres, similarity, warp
from agedit.compat import mediapipe_solutions
from agedit.errors import AgeEditError
from agedit.paths import weights_folder

Photo = npt.NDArray[np.uint8]
Heads = list["Head"]

DETECTOR_MODEL = "face_detection_yunet.onnx"
"""File of the face detector in the weights folder."""

MOST_FACES = 20  # of one photo, the largest: a crowd must not keep everybody else waiting
NO_FACE = "No face was found; use a photo where a face is clearly visible from the front."
MESH_INPUT = 256  # pixels of the crop in which the mesh is placed
MESH_MARGIN = 1.6  # edge of that crop, in longer edges of the detector's box


@dataclass(frozen=True)
class Search:
    """How a photo is searched; scores are in 0..1.

    A "box" is the detector's, some 4/7 of a face's `Face.frame` wide.
    """

    coarse: int = 640  # pixels of the first look's longer side
    fine: int = 1600  # pixels of a closer look's longer side, where the first saw nothing
    step: float = 5.0  # between the scales of looks
    seen: int = 14  # pixels of a box's width that the detector needs
    box: int = 36  # pixels across the box of the smallest face that can be edited (align.MIN_FRAME)
    share: float = 1 / 8  # beside a face, others that are smaller than this share of it are background
    tile: int = 1024  # pixels of a look's longer side that are looked at together, for the memory's sake
    overlap: int = 128  # pixels that neighbouring tiles share; a larger box is one of a coarser look
    pad: int = 64  # pixels of a tile's least side; below 33 OpenCV's network reads memory it never wrote
    least: int = 16  # pixels of a photo's shorter side; a slimmer one shows no face
    candidate: float = 0.4  # score of a head that is worth a look of its own
    face: float = 0.7  # score of a face
    same: float = 0.3  # overlap, intersection over union, from which on two boxes are one head
    slimmest: int = 1000  # longer side of a photo in shorter ones; a slimmer one shows no face
    most: int = 100  # heads that are looked at, those with the best scores


@dataclass(frozen=True)
class Beside:
    """How heads are found that nobody edits, so that hair of theirs is left alone."""

    coarse: int = 320  # pixels of the photo's longer side
    margin: float = 0.25  # of that side, mirrored left and right: half a face at the edge becomes a whole one
    whole: float = 0.5  # score of a head in the photo
    mirrored: float = 0.7  # score of a head that the photo's edge cuts
    frame: float = 1.75  # edge of a face's template square, in widths of the detector's box
    apart: float = 0.35  # frames between the centres of two heads at least, or they are one


@dataclass(frozen=True)
class Turning:
    """How the look at one head decides which way up it is."""

    input: int = 160  # pixels of the crop
    margin: float = 2.0  # its edge, in longer edges of the box
    upright: float = 0.91  # no head turned by over 50 degrees reached it (40 people, every 30 degrees)
    ahead: float = 0.03  # by which it is above that of the same head upside down
    astray: float = 0.25  # edges of the crop from its centre at most, or it is another head


SEARCH = Search()
TURNING = Turning()
BESIDE = Beside()


@dataclass(frozen=True)
class Head:
    """A box of the detector.

    centre, side: (2,) and the longer side, in photo pixels. angle: of the head, in radians, clockwise.
    score: 0..1.
    """

    centre: npt.NDArray[np.float64]
    side: float
    angle: float
    score: float


class FaceFinder:
    """YuNet proposes faces of any size, MediaPipe's face mesh places 478 landmarks on each.

    Not thread-safe: MediaPipe graphs keep state between calls.
    """

    def __init__(self, models: str | Path | None = None) -> None:
        path = Path(models or weights_folder()) / DETECTOR_MODEL
        if not path.exists():
            raise AgeEditError(f"The face detector is missing at {path}; fetch the weights folder again.")
        self.detector_model = str(path)
        self.mesh = mediapipe_solutions().face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
        )

    def find(self, rgb: Photo) -> list[Face]:
        """The faces of RGB uint8 (H, W, 3), at most MOST_FACES, largest first.

        Raises AgeEditError when there is none.
        """
        shorter, longer = sorted(rgb.shape[:2])
        if shorter >= SEARCH.least and longer <= SEARCH.slimmest * shorter:
            for look in (self._boxes, self._boxes_of_tight_crop, self._boxes_of_turned):
                boxes = look(rgb)
                faces = self._faces(rgb, self._heads(rgb, boxes))
                if faces:
                    neighbours = self._neighbours(rgb, boxes, faces)
                    for face in faces:
                        face.neighbours = neighbours
                    return faces
        raise AgeEditError(NO_FACE)

    def _boxes(self, rgb: Photo) -> npt.NDArray[np.float32]:
        """What may be heads, in photo pixels: (N, 15), x, y, width, height, five points, score.

        A first look at the photo as a whole; closer ones where faces smaller than it can see may matter.
        """
        longer = max(rgb.shape[:2])
        scale = min(1.0, SEARCH.coarse / longer)
        boxes = self._look(rgb, scale)
        sure = boxes[boxes[:, 14] >= SEARCH.face]
        largest = float(sure[:, 2].max()) if len(sure) else 0.0
        finest = SEARCH.seen / max(SEARCH.box, SEARCH.share * largest)
        if not len(sure):
            finest = max(finest, SEARCH.fine / longer)
        finest = min(finest, 1.0)
        while scale < finest:
            scale = min(scale * SEARCH.step, finest)
            boxes = np.vstack([boxes, self._look(rgb, scale)])
        return boxes

    def _boxes_of_tight_crop(self, rgb: Photo) -> npt.NDArray[np.float32]:
        """As `_boxes`, for a crop tighter than the detector likes: it gets some surroundings."""
        longer = max(rgb.shape[:2])
        scale = min(1.0, 0.6 * SEARCH.coarse / longer)
        small = _shrunk(rgb, scale)
        pad = max(small.shape[:2]) // 3
        padded = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        boxes = self._detect(padded)
        boxes[:, [0, 1, 4, 5, 6, 7]] -= pad
        boxes[:, :14] /= scale
        return boxes

    def _boxes_of_turned(self, rgb: Photo) -> npt.NDArray[np.float32]:
        """As `_boxes`, with the photo on its side: of heads that lie; the points are not theirs."""
        boxes = self._boxes(np.ascontiguousarray(np.rot90(rgb)))
        x, y, width, height = boxes[:, :4].T.copy()
        boxes[:, 0] = rgb.shape[1] - y - height
        boxes[:, 1] = x
        boxes[:, 2] = height
        boxes[:, 3] = width
        boxes[:, 4:14] = 0
        boxes[:, 14] = np.minimum(boxes[:, 14], SEARCH.face - 0.01)  # only a look of its own makes it a face
        return boxes

    def _look(self, rgb: Photo, scale: float) -> npt.NDArray[np.float32]:
        """Boxes, in photo pixels, in the photo shrunk to `scale`, tile by tile."""
        small = _shrunk(rgb, scale)
        found = [np.zeros((0, 15), np.float32)]
        for x0, x1 in _tiles(small.shape[1]):
            for y0, y1 in _tiles(small.shape[0]):
                boxes = self._detect(small[y0:y1, x0:x1])
                boxes[:, 0:14:2] += x0
                boxes[:, 1:14:2] += y0
                boxes[:, 2] -= x0
                boxes[:, 3] -= y0
                cut = _cut_off(boxes, (x0, y0, x1, y1), small.shape)
                found.append(boxes[~cut])
        boxes = np.vstack(found)
        boxes[:, :14] /= scale
        return boxes

    def _detect(self, picture: MatLike) -> npt.NDArray[np.float32]:
        """Boxes, (N, 15), in pixels of a small picture, RGB uint8 (h, w, 3)."""
        height, width = picture.shape[:2]
        below = max(0, SEARCH.pad - height)
        right = max(0, SEARCH.pad - width)
        if below or right:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        # opened anew each time, in 5 ms: what it has computed in stays allocated, 44 MB for 640 pixels
        detector = self._detector(picture.shape[1], picture.shape[0])
        return _detections(detector, picture)

    def _detector(self, width: int, height: int) -> cv2.FaceDetectorYN:
        return cv2.FaceDetectorYN.create(
            self.detector_model, "", (width, height), SEARCH.candidate, SEARCH.same, 5000
        )

    def _heads(self, rgb: Photo, boxes: npt.NDArray[np.float32]) -> Heads:
        """The heads behind boxes, each once and with the way up that it has."""
        if not len(boxes):
            return []
        kept = cv2.dnn.NMSBoxes(
            boxes[:, :4].tolist(), boxes[:, 14].tolist(), SEARCH.candidate, SEARCH.same, top_k=0
        )
        detector = self._detector(TURNING.input, TURNING.input)
        heads = (self._head(rgb, boxes[i], detector) for i in kept[: SEARCH.most])
        return [head for head in heads if head]

    def _head(self, rgb: Photo, box: npt.NDArray[np.float32], detector: cv2.FaceDetectorYN) -> Head | None:
        """One head the right way up, or None where a look at it alone, from all sides, shows no face.

        A box that is sure and upright stays as it is.
        """
        proposed = _head_of(box)
        sure = proposed.score >= SEARCH.face
        straight = Turned(detector, rgb, proposed, 0.0)
        upright = straight.look(0)
        if upright.score >= max(TURNING.upright, straight.look(2).score + TURNING.ahead):
            return proposed if sure else upright
        oblique = Turned(detector, rgb, proposed, np.pi / 4)
        looks = [upright, *(straight.look(quarter) for quarter in (1, 2, 3))]
        looks += [oblique.look(quarter) for quarter in range(4)]
        best = max(looks, key=lambda head: head.score)
        if sure and (best.score < SEARCH.face or best is upright):
            return proposed
        return best if best.score >= SEARCH.face else None

    def _faces(self, rgb: Photo, heads: Heads) -> list[Face]:
        """The faces of heads, the MOST_FACES largest, largest first, each once."""
        largest = sorted(heads, key=lambda head: -head.side)[:MOST_FACES]
        meshed = [self._landmarks(rgb, head) for head in largest]
        faces: list[Face] = []
        for face in sorted(filter(None, meshed), key=lambda face: -face.frame):
            centre = face.points.mean(0)  # two boxes may end on one face: keep it once
            if all(np.linalg.norm(centre - other.points.mean(0)) > 0.25 * other.frame for other in faces):
                faces.append(face)
        return faces

    def _neighbours(
        self, rgb: Photo, boxes: npt.NDArray[np.float32], faces: list[Face]
    ) -> tuple[Neighbour, ...]:
        """Heads that are none of the faces: boxes without a face, and heads that the photo's edge cuts.

        Where the faces lie or stand on their heads, others beside them do so too.
        """
        proposed = [(box[14], _neighbour(box, 0, rgb.shape)) for box in boxes[boxes[:, 14] >= BESIDE.whole]]
        for quarters in sorted({_quarters(face) for face in faces}):
            upright = np.ascontiguousarray(np.rot90(rgb, quarters))
            beside = self._boxes_at_edge(upright)
            if quarters:
                whole = self._boxes(upright)
                beside = np.vstack([whole[whole[:, 14] >= BESIDE.whole], beside])
            proposed += [(box[14], _neighbour(box, quarters, upright.shape)) for box in beside]
        heads: list[Face | Neighbour] = list(faces)
        for _, head in sorted(proposed, key=lambda scored: -scored[0]):
            if all(_apart(head, other) for other in heads):
                heads.append(head)
        return tuple(head for head in heads if isinstance(head, Neighbour))

    def _boxes_at_edge(self, rgb: Photo) -> npt.NDArray[np.float32]:
        """As `_boxes`: heads that the photo's sides cut, in the photo with its margins mirrored beside it."""
        scale = min(1.0, BESIDE.coarse / max(rgb.shape[:2]))
        small = _shrunk(rgb, scale)
        width = small.shape[1]
        x = min(round(BESIDE.margin * max(small.shape[:2])), width)
        boxes = self._detect(cv2.copyMakeBorder(small, 0, 0, x, x, cv2.BORDER_REFLECT))
        boxes[:, 0] -= x
        start = boxes[:, 0]
        end = start + boxes[:, 2]
        centre = (start + end) / 2
        cut = (start < 0) | (end > width)
        near = (centre > -0.25 * boxes[:, 2]) & (centre < width + 0.25 * boxes[:, 2])
        boxes = boxes[cut & near & (boxes[:, 14] >= BESIDE.mirrored)]
        boxes[:, :14] /= scale
        return boxes

    def _landmarks(self, rgb: Photo, head: Head) -> Face | None:
        """The face of a head, or None where the mesh sees none."""
        crop_from_photo = _crop_of(head.centre, MESH_MARGIN * head.side, head.angle, MESH_INPUT)
        crop = warp(rgb, pixel_centres(crop_from_photo), MESH_INPUT)
        result = self.mesh.process(crop).multi_face_landmarks
        if not result:
            return None
        mesh = np.array([(p.x, p.y, p.z) for p in result[0].landmark]) * MESH_INPUT
        points = cv2.transform(mesh[None, :, :2], cv2.invertAffineTransform(crop_from_photo))[0]
        across = mesh[263] - mesh[33]
        yaw = float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))
        anchors = np.array([points[list(i)].mean(0) for i in EYE_MOUTH])
        return Face(points, yaw, similarity(anchors, TEMPLATE))


def _apart(head: Neighbour, other: Face | Neighbour) -> bool:
    """Whether two are the heads of two people."""
    distance = np.linalg.norm(head.centre - other.centre)
    return bool(distance > BESIDE.apart * max(head.frame, other.frame))


def _quarters(face: Face) -> int:
    """Quarter turns of the photo to the left, 0 to 3, after which a face stands upright or nearly so."""
    angle = np.arctan2(-face.matrix[0, 1], face.matrix[0, 0])  # radians, from the face to the photo
    return -round(float(angle) / (np.pi / 2)) % 4


def _neighbour(box: npt.NDArray[np.float32], quarters: int, shape: tuple[int, ...]) -> Neighbour:
    """The head in a box of a photo that was turned left by `quarters`, at its place in the photo.

    Args:
        shape: (H, W, ...) of the turned photo.
    """
    centre = box[:2] + box[2:4] / 2
    height, width = shape[:2]
    for _ in range(quarters):
        centre = np.array([height - centre[1], centre[0]])
        height, width = width, height
    return Neighbour(centre, BESIDE.frame * float(box[2]))


def _shrunk(rgb: Photo, scale: float) -> Photo:
    """RGB uint8 (H, W, 3) shrunk by areas, no side below one pixel."""
    height, width = rgb.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _tiles(length: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the tiles along `length` pixels: one where it is short, else overlapping ones."""
    if length <= SEARCH.tile:
        yield 0, length
        return
    stride = SEARCH.tile - SEARCH.overlap
    count = int(np.ceil((length - SEARCH.overlap) / stride))
    for start in np.linspace(0, length - SEARCH.tile, count).astype(int):
        yield int(start), int(start) + SEARCH.tile


def _cut_off(
    boxes: npt.NDArray[np.float32], tile: tuple[int, int, int, int], shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Which boxes reach a tile's edge that is not the picture's: (N,).

    A neighbouring tile, or a coarser look, has the whole head.
    """
    x0, y0, x1, y1 = tile
    low = boxes[:, :2] < (x0 + 1, y0 + 1)
    high = boxes[:, :2] + boxes[:, 2:4] > (x1 - 1, y1 - 1)
    low &= np.array([x0 > 0, y0 > 0])
    high &= np.array([x1 < shape[1], y1 < shape[0]])
    return (low | high).any(axis=1)


def _detections(detector: cv2.FaceDetectorYN, picture: MatLike) -> npt.NDArray[np.float32]:
    """(N, 15), those that are finite and lie, by their centres, within the picture."""
    found = detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    if found is None:
        return np.zeros((0, 15), np.float32)
    centres = found[:, :2] + found[:, 2:4] / 2
    sane = np.isfinite(found).all(axis=1) & (found[:, 2:4] > 0).all(axis=1)
    sane &= ((centres >= 0) & (centres <= picture.shape[1::-1])).all(axis=1)
    return found[sane].astype(np.float32, copy=False)


def _head_of(box: npt.NDArray[np.float32]) -> Head:
    """A box as it is, its angle that of the line between the eyes."""
    eyes = box[6:8] - box[4:6]
    return Head(box[:2] + box[2:4] / 2, max(box[2], box[3]), np.arctan2(eyes[1], eyes[0]), box[14])


def _crop_of(
    centre: npt.NDArray[np.floating], edge: float, angle: float, size: int
) -> npt.NDArray[np.float64]:
    """(2, 3) from the photo to a crop of `size` pixels: a square around `centre`, turned.

    Args:
        edge: of the square, in photo pixels.
        angle: in radians.
    """
    scale = size / edge
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, size / 2 - turn @ centre])


class Turned:
    """Looks at one head alone, turned by `turn` radians and then by quarters of a full circle."""

    def __init__(self, detector: cv2.FaceDetectorYN, rgb: Photo, head: Head, turn: float):
        self.detector = detector
        self.head = head
        self.turn = turn
        self.crop = warp(rgb, pixel_centres(self._crop_from_photo(0)), TURNING.input)

    def _crop_from_photo(self, quarter: int) -> npt.NDArray[np.float64]:
        turn = self.turn + quarter * np.pi / 2
        return _crop_of(self.head.centre, TURNING.margin * self.head.side, turn, TURNING.input)

    def look(self, quarter: int) -> Head:
        """What the detector sees after so many quarters: with score 0 where it sees no head in the middle."""
        size = TURNING.input
        boxes = _detections(self.detector, np.ascontiguousarray(np.rot90(self.crop, quarter)))
        away = np.linalg.norm(boxes[:, :2] + boxes[:, 2:4] / 2 - size / 2, axis=1)
        boxes = boxes[away < TURNING.astray * size]
        turn = self.turn + quarter * np.pi / 2
        if not len(boxes):
            return Head(self.head.centre, self.head.side, turn, 0.0)
        seen = _head_of(max(boxes, key=lambda box: box[14]))
        photo_from_crop = cv2.invertAffineTransform(self._crop_from_photo(quarter))
        centre = cv2.transform(seen.centre.reshape(1, 1, 2), photo_from_crop)[0, 0]
        side = seen.side * TURNING.margin * self.head.side / size
        return Head(centre, side, turn + seen.angle, seen.score)
