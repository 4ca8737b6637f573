"""One visitor's edits: each face's years, and the pictures that the page shows and saves."""

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from agedit.editor import Edit
from agedit.photo import edited_name, encode_like, encode_photo
from agedit.selection.drift import DriftWatch
from agedit.selection.times import Candidate
from agedit.selection.tuner import SHOWN, Choice, candidate_of
from ui.board import CROP_PLACE, Key, Ring, place_of
from ui.photos import Saved, stem
from ui.service import PATIENCE, Service
from ui.visitor_photo import VisitorPhoto

KEYS_KEPT = 24
"""Key pictures of a visit that stay: three sliders full."""

Format = Literal["PNG", "JPEG"]

ENDINGS: dict[Format, str] = {"PNG": ".png", "JPEG": ".jpg"}

EVERYONE = -1
"""The page's choice of all faces."""


@dataclass(frozen=True)
class Asked:
    """What the page asks for."""

    years: float
    budget: float
    """Milliseconds."""
    who: float | None
    """A face's number; None or -1 for everyone."""
    view: str
    """"photo" or "face"."""
    strict: bool
    """Only what the generator draws."""


class Shown(TypedDict):
    """An edit at the size at which the page shows it."""

    before: str
    """Path of the photo, or of its own crop of the face."""
    after: str
    """Path of the edit, likewise."""
    submodel: Candidate
    ms: float
    choice: Choice
    result: Edit
    drift: float
    """How many times slower than timed edits are by now; 1 where that cannot be told."""


class Visit(VisitorPhoto):
    """One visitor's photo and what was made of it.

    Args:
        opened: read the photo at once; of one that cannot be used, nothing stays (raises AgeEditError).
    """

    def __init__(self, service: Service, path: str | Path, name: str = "", opened: bool = True) -> None:
        super().__init__(service, path, name)
        self.write = self.files.write
        self.token = secrets.token_hex(32)  # names it on the page; a page loaded again takes it over by it
        self.drawing = ""  # which key pictures are there, or on their way
        self.years: dict[int, float] = {}  # by face: each keeps its own
        self.rows: list[dict[str, Any]] = []  # the Compare tab's pictures
        self.compared: tuple[float | None, int] | None = None  # which years and face they are of
        self.watch = DriftWatch()
        self.generation = service.generation
        self.done: Asked | None = None  # what was asked for when the slider was let go
        self.shown: Asked | None = None  # of which the page shows the best picture
        self.line = ""  # what is said of the last edit
        self.submodel: Candidate | None = None  # of the last edit
        self.count = 0  # edits so far
        self.budget: float = PATIENCE  # ms
        if opened:
            try:
                self.open()
            except BaseException:
                self.delete()
                raise

    def delete(self) -> None:
        """The end: no picture, no file and no number of it stays, and none comes back."""
        super().delete()
        self.rows = []
        self.compared = None
        self.done = None
        self.years = {}

    def before(self) -> str:
        """Path of the photo as it is shown."""
        return self.files.once("before.jpeg", lambda: encode_photo(self.editor.view(SHOWN), "JPEG"))

    def original(self, face: int) -> str:
        """Path of the photo's own crop of a face."""
        return self.files.once(
            f"face-{face}.jpeg", lambda: encode_photo(self.editor.prepare(face).crop, "JPEG")
        )

    def faces(self, who: float | None) -> list[int]:
        """Face numbers of a choice on the page: None or EVERYONE is all of them."""
        if who is None or who == EVERYONE:
            return list(range(len(self.editor.faces)))
        return [int(who)]

    def place(self, view: str, face: int) -> tuple[float, float, float, float]:
        """Where a face is in what is shown: x, y, width, height, as shares of the picture."""
        if view == "face":
            return CROP_PLACE
        return place_of(self.editor.faces[face], self.photo.rgb.shape)

    def rings(self, result: Edit) -> list[Ring]:
        """Every face on the picture; the ages of those that have one already."""
        editor = self.editor
        rings = []
        for face, found in enumerate(editor.faces):
            x, y, width, height = place_of(found, self.photo.rgb.shape)
            known = face in editor._prepared
            age = round(editor.age(result, face)) if known else None
            rings.append(Ring(x=x, y=y, w=width, h=height, age=age))
        return rings

    def key_set(self, asked: Asked) -> str:
        """Names the key pictures that fit an edit: those of one photo, face, form, size and company."""
        changing = self.faces(asked.who)
        others = sorted((face, years) for face, years in self.years.items() if face not in changing)
        text = f"{self.token} {asked.budget} {asked.who} {asked.view} {asked.strict} {others}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def key(self, years: float, asked: Asked, submodel: Candidate) -> Key:
        """The picture with the faces in hand changed by `years`, all others as they are."""
        changing = self.faces(asked.who)
        face = changing[0]
        is_crop = asked.view == "face" or asked.strict
        wanted = {face: years} if asked.strict else self.years | dict.fromkeys(changing, years)
        with self.service.lock:
            self.check()
            result = self.editor.edit(wanted, submodel=submodel, strict=asked.strict, limit=SHOWN)
            picture = self.editor.crop(result, face) if is_crop else result.picture
            age = self.editor.age(result, face)
        if asked.strict:
            data = self._composed(picture, face)
        else:
            data = encode_photo(picture, "JPEG", synthetic=bool(result.changes))
        path = self.write(data, "key.jpeg", kept=KEYS_KEPT)
        return Key(years=years, path=path, age=age)

    def choose(self, budget: float, strict: bool = False, faces: int = 0) -> Choice:
        """The sub-model that keeps the budget for all faces that change: they run one after the other.

        Args:
            faces: how many change; 0 for those that do now.
        """
        changed = 1 if strict else faces or max(1, sum(years != 0 for years in self.years.values()))
        return self.service.choose(budget / changed, self.watch.pace)

    def ask(self, years: float, who: float | None) -> None:
        """From now on these faces get these years."""
        self.years |= dict.fromkeys(self.faces(who), years)

    def edit(
        self, budget: float, view: str = "photo", strict: bool = False, who: float | None = None
    ) -> Shown:
        """The edit at the shown size, with the sub-model for `budget` ms."""
        if self.generation != self.service.generation:  # timed again since: what was seen is out of date
            self.generation = self.service.generation
            self.watch.clear()
        with self.using_it():
            pace = self.watch.pace
            choice = self.choose(budget, strict)
            submodel = candidate_of(choice)
            face = self.faces(who)[0]
            result, after, data, ms = self._render(face, submodel, view, strict)
            if strict:
                data = self._composed(after, face)
            before = self.original(face) if view == "face" or strict else self.before()
        if budget < PATIENCE:
            self.budget = budget
        one_face_changed = len(result.years) == 1 and any(result.years.values())
        drift = 1.0
        was_timed = choice.get("measured", True)
        if was_timed and one_face_changed and not strict and self.count > 1:
            drift = self._drift(choice["p50_ms"] / pace, ms)
        after_path = self.write(data, "after.jpeg")
        return Shown(
            before=before,
            after=after_path,
            submodel=submodel,
            ms=ms,
            choice=choice,
            result=result,
            drift=drift,
        )

    def _render(
        self, face: int, submodel: Candidate, view: str, strict: bool
    ) -> tuple[Edit, npt.NDArray[np.uint8], bytes, float]:
        """The edit, what of it is shown, the same encoded, and how many ms all that took."""
        editor = self.editor
        with self.service.lock:
            self.check()
            editor.prepare(face, submodel)
            start = time.perf_counter()
            wanted = {face: self.years.get(face, 0)} if strict else dict(self.years)
            result = editor.edit(wanted, submodel=submodel, strict=strict, limit=SHOWN)
            after = editor.crop(result, face) if view == "face" or strict else result.picture
            self.count += 1
            data = encode_photo(after, "JPEG", synthetic=True)
            ms = (time.perf_counter() - start) * 1e3
        if result.changes:
            count = len(result.changes)
            self.service.tuner.observe(submodel, ms / count, result.ms["generate"] / count)
        return result, after, data, ms

    def _composed(self, after: npt.NDArray[np.uint8], face: int) -> bytes:
        """A JPEG of the strict form as large as the photo's own crop."""
        width, height = self.editor.prepare(face).crop.shape[1::-1]
        larger = cv2.resize(after, (width, height), interpolation=cv2.INTER_CUBIC)
        return encode_photo(np.asarray(larger, np.uint8), "JPEG", synthetic=True)

    def _drift(self, expected_ms: float, took_ms: float) -> float:
        """How many times slower than timed edits are by now; unless that is once, the device is checked."""
        self.watch.observe(expected_ms, took_ms)
        if self.watch.drift != 1.0:
            threading.Thread(target=self.service.check, args=(self.watch, self.budget), daemon=True).start()
        return self.watch.drift

    def download(self, budget: float, mark: bool = True, format: Format = "PNG") -> Saved:
        """The edit at the photo's own resolution, without EXIF, marked as synthetic.

        Args:
            mark: also in words, in a corner.
        """
        with self.using_it():
            choice = self.choose(max(budget, PATIENCE))
            submodel = candidate_of(choice)
            editor = self.editor
            photo = self.photo
            years = next(iter(self.years.values()), 0)
            with self.service.lock:
                self.check()
                result = editor.edit(dict(self.years), submodel=submodel)
            synthetic = bool(result.changes)
            self.check()
            data = encode_like(photo, result.picture, format, synthetic, words=mark and synthetic)
            ending = ENDINGS[format]
            path = self.write(data, f"edit{ending}", kept=2)
        return Saved(path, edited_name(stem(self.name), years, ending))
