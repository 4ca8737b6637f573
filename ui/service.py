"""What the page talks to: one engine and one tuner for all visitors, and each visitor's own photo."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from agedit import AgeEditError, AgeEditor, Engine
from agedit.editor import Edit
from agedit.photo import Photo, edited_name, encode_like, encode_photo
from agedit.selection.drift import DriftWatch
from agedit.selection.fair_lock import FairLock
from agedit.selection.tuner import SHOWN, Tuner
from ui.files import Files, Forgotten, sessions
from ui.line import Line
from ui.photos import Saved, decode, stem

GAP = 8  # pixels between two pictures side by side
PATIENCE = 2000  # ms: a slider that was let go, and the download, get the best that takes no longer
WAIT = 5  # s that a first visitor waits for the device to be timed
PIXELS_HELD = 400_000_000  # of all visits' decoded photos together: 1.2 GB
FACE_PIXELS = 13_000_000  # what one prepared face, 40 MB at 512 px, counts as

Step = TypeVar("Step")


class Service:
    """One engine for all visitors; each visitor has a Visit of their own.

    Edits and timing runs hold `lock` one at a time, so neither spoils the other's times, and a visitor waits for one
    timing run at most.
    """

    def __init__(self, engine=None):
        self.lock = FairLock()
        self.engine = engine or Engine()
        self.tuner = Tuner(self.engine, lock=self.lock)
        self._tuning, self.generation = threading.Lock(), 0  # how often this device was timed
        self.sessions = sessions
        self.edits = Line()  # visitors who wait for an edit
        self.decoding = (
            Line()
        )  # visitors who wait for their photo to be read: one at a time, it takes much memory
        self.journeys = Line()
        self.comparisons = Line()
        self.held = Held(PIXELS_HELD)

    def one_by_one(self, visit: "Visit", steps: Iterator[Step]) -> Iterator[Step]:
        """Long work in steps, a turn of the lock for each, so that edits get in between; ends with the visit."""
        with visit.using_it():
            while True:
                visit.check()
                with self.lock:
                    step = next(steps, None)
                if step is None:
                    return
                yield step

    def choose(self, budget, slow=1.0):
        """The sub-model for a budget: at once when anything is known of this device, else after timing it.

        Where that is going on already and takes long, on a busy device, the visitor gets a guess meanwhile.
        slow: how much slower than timed this visitor's edits are (`drift.DriftWatch.pace`).
        """
        found = self.tuner.answer(budget, slow)
        if found is None:
            if not self._tuning.acquire(timeout=WAIT):
                return self.tuner.guess(budget, best=budget >= PATIENCE)
            try:
                found = self.tuner.answer(budget, slow) or self.tuner.choose(budget)
            finally:
                self._tuning.release()
        return found

    def tune(self, budget, fresh=True, tell=None):
        """Time this device again, one at a time: the choice first, then the rest, so that no budget's answer is a guess."""
        with self._tuning:
            return self._retune(budget, fresh, tell)

    def _retune(self, budget, fresh=True, tell=None):
        found = self.tuner.choose(budget, fresh=fresh, tell=tell)
        self.tuner.complete()
        self.tuner.rest(budget)
        self.generation += 1  # only now: what visits saw until here belongs to the old times
        return found

    def start(self, budget):
        """Check the profile with a few runs (the page is still opening: thrice), or make one; for a thread of its own."""
        try:
            with self._tuning:
                if any(self.tuner.verify(budget) for _ in range(3 if self.tuner.times else 1)):
                    self.tuner.complete()  # a profile that the command line wrote may know little
                    self.tuner.rest(budget)
                else:
                    self._retune(budget)
        except AgeEditError as error:
            self.tuner.notes.append(str(error))

    def check(self, watch, budget):
        """After live edits drifted, in a thread of its own: is it the device, or only a photo that costs more or less?"""
        if self._tuning.acquire(blocking=False):
            try:
                if self.tuner.verify(budget):
                    watch.accept()
                else:
                    self._retune(budget)
            except AgeEditError as error:
                self.tuner.notes.append(str(error))
            finally:
                self._tuning.release()


def pixels_of(photo: Photo) -> int:
    """How many RGB pixels a photo in memory is worth: one with transparency is held twice."""
    return photo.rgb.shape[0] * photo.rgb.shape[1] * (1 if photo.alpha is None else 2)


class Held:
    """Which visits hold a decoded photo, and that all of them together hold no more pixels than `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._gate = threading.Lock()
        self._visits: OrderedDict[int, Visit] = OrderedDict()  # by id, the longest unused first

    def __len__(self) -> int:
        return len(self._visits)

    def touch(self, visit: "Visit") -> None:
        """It was used just now."""
        with self._gate:
            if not visit.closed:
                self._visits[id(visit)] = visit
                self._visits.move_to_end(id(visit))

    def remove(self, visit: "Visit") -> None:
        with self._gate:
            self._visits.pop(id(visit), None)

    def make_room(self, newcomer: "Visit", pixels: int) -> None:
        """Put the photos aside that nobody used for longest until `pixels` more fit.

        Raises AgeEditError where all that is held is being worked on.
        """
        with self._gate:
            newcomer.reserved = pixels
            self._visits[id(newcomer)] = newcomer
            self._visits.move_to_end(id(newcomer))
            total = sum(visit.pixels for visit in self._visits.values())
            for key, visit in list(self._visits.items()):
                if total <= self.limit:
                    break
                if visit is newcomer or visit.using:
                    continue
                total -= visit.pixels
                visit.put_aside()
                del self._visits[key]
        if total > self.limit and total > pixels:
            raise AgeEditError("Too many photos are being worked on; try again in a minute.")


class Visit:
    """One visitor's photo: the editor, each face's years, and the files that the page shows.

    The decoded photo may be put aside while the visitor does nothing; it is read again when it is needed.
    opened: read the photo at once. Raises AgeEditError for one that cannot be used; nothing of it stays then.
    """

    def __init__(self, service: Service, path: str | Path, name: str = "", opened: bool = True) -> None:
        self.service = service
        self.path = str(path)
        self.name = name  # as the visitor calls the file; "" where nobody said
        self.files = Files()
        self.write = self.files.write
        self.closed = False
        self.using = 0  # how many handlers work on it at this moment
        self._counting = threading.Lock()
        self.reserved = 0  # pixels of a photo that is being opened
        self._editor: AgeEditor | None = None
        self._photo: Photo | None = None
        self._opening = threading.Lock()
        self.years: dict[int, float] = {}  # {face: years}, each face keeps its own
        self.rows: list[dict[str, Any]] = []  # the Compare tab's pictures
        self.compared: Any = None  # which edit they are of
        self.watch = DriftWatch()
        self.generation = service.generation
        self.done: tuple[Any, ...] | None = None  # what was asked for when the slider was let go
        self.ran = ""  # the last edit within the budget, in words
        self.notes = ""
        self.line = ""  # the sentence under the picture
        self.submodel: tuple[int, float] | None = None
        self.count = 0
        self.budget: float = PATIENCE
        if opened:
            try:
                self._open()
            except BaseException:
                self.delete()
                raise

    @property
    def editor(self) -> AgeEditor:
        """The photo's editor. Raises Forgotten after the end."""
        editor = self._editor
        if editor is None:
            editor = self._open()
        self.service.held.touch(self)
        return editor

    @property
    def pixels(self) -> int:
        """How many are in memory: the photo's, and as many as its prepared faces are worth."""
        editor = self._editor
        photo = self._photo
        if editor is None or photo is None:
            return self.reserved
        return pixels_of(photo) + FACE_PIXELS * len(editor._prepared)

    @property
    def photo(self) -> Photo:
        """As it was read. Raises Forgotten after the end."""
        photo = self._photo
        if photo is None:
            self._open()
            return self.photo
        return photo

    def _open(self) -> AgeEditor:
        with self._opening:
            if self._editor is not None:
                return self._editor
            with self.service.decoding.turn():
                photo = self.read()
            return self.find_faces(photo)

    def read(self) -> Photo:
        """The photo. Outside the engine's lock, but in the turn of `Service.decoding`: it takes memory."""
        self.check()
        photo = decode(self.path, self.name)
        self.service.held.make_room(self, pixels_of(photo) + FACE_PIXELS)
        if self.closed:  # meanwhile
            self.delete()
        self.check()
        return photo

    def find_faces(self, photo: Photo) -> AgeEditor:
        """Make the editor of a photo that was read."""
        editor = AgeEditor(self.service.engine)
        with self.service.lock:
            self.check()
            editor.set_photo(photo.rgb)
        self._photo = photo
        self._editor = editor
        self.reserved = 0
        if self.closed:  # meanwhile
            self.delete()
        self.check()
        self.service.held.touch(self)
        return editor

    def check(self) -> None:
        """Raises Forgotten after the end: whatever computes for a closed page stops here."""
        if self.closed:
            raise Forgotten

    @contextlib.contextmanager
    def using_it(self) -> Iterator[None]:
        """While somebody works on the photo it is not put aside."""
        with self._counting:
            self.using += 1
        try:
            yield
        finally:
            with self._counting:
                self.using -= 1

    def put_aside(self) -> None:
        """Forget what can be read or made again: nothing that the visitor did is lost."""
        self._editor = None
        self._photo = None
        self.reserved = 0

    def delete(self) -> None:
        """The end: no picture, no file and no number of it stays, and none comes back."""
        self.closed = True
        self._editor = None
        self._photo = None
        self.reserved = 0
        self.rows = []
        self.compared = None
        self.done = None
        self.years = {}
        self.service.held.remove(self)
        self.files.delete()

    def before(self) -> str:
        """Path of the photo as it is shown."""
        return self.files.once("before.jpeg", lambda: encode_photo(self.editor.view(SHOWN), "JPEG"))

    def original(self, face: int) -> str:
        """Path of the photo's own crop of a face."""
        return self.files.once(
            f"face-{face}.jpeg", lambda: encode_photo(self.editor.prepare(face).crop, "JPEG")
        )

    def faces(self, who: float | None) -> list[int]:
        """Face numbers of a choice on the page: None or -1 is everyone."""
        return list(range(len(self.editor.faces))) if who in (None, -1) else [int(who)]

    def face_at(self, x: float, y: float) -> int:
        """Number of the face nearest to a place in the photo as `before` shows it, in its pixels."""
        scale = self.editor.rgb.shape[1] / self.editor.view(SHOWN).shape[1]
        place = np.array([x, y]) * scale
        return int(np.argmin([np.hypot(*(face.points.mean(0) - place)) for face in self.editor.faces]))

    def choose(self, budget: float, strict: bool = False) -> dict[str, Any]:
        """The sub-model that keeps the budget for all faces that change: they run one after the other."""
        changed = 1 if strict else max(1, sum(v != 0 for v in self.years.values()))
        return self.service.choose(budget / changed, self.watch.pace)

    def ask(self, years: float, who: float | None) -> None:
        self.years |= dict.fromkeys(self.faces(who), years)

    def edit(
        self, budget: float, view: str = "photo", strict: bool = False, who: float | None = None
    ) -> dict[str, Any]:
        """{"before", "after": paths, "submodel", "ms", "choice", "result", "drift"} at the shown size."""
        if self.generation != self.service.generation:  # timed again since: what was seen is out of date
            self.generation = self.service.generation
            self.watch.clear()
        with self.using_it():
            pace = self.watch.pace
            choice = self.choose(budget, strict)
            submodel = choice["submodel"]["r"], choice["submodel"]["c"]
            face = self.faces(who)[0]
            result, after, data, ms = self._render(face, submodel, view, strict)
            if strict or view == "beside":
                data = self._composed(after, face, strict)
            before = self.original(face) if view == "face" or strict else self.before()
        if budget < PATIENCE:
            self.budget = budget
        one_face_changed = len(result.years) == 1 and any(result.years.values())
        drift = 1.0
        if one_face_changed and not strict and self.count > 1:
            drift = self._drift(choice["p50_ms"] / pace, ms)
        return {
            "before": before,
            "after": self.write(data, "after.jpeg"),
            "submodel": submodel,
            "ms": ms,
            "choice": choice,
            "result": result,
            "drift": drift,
        }

    def _render(
        self, face: int, submodel: tuple[int, float], view: str, strict: bool
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
        return result, after, data, ms

    def _composed(self, after: npt.NDArray[np.uint8], face: int, strict: bool) -> bytes:
        """A JPEG of the strict form as large as the photo's own crop, or of the photo and the edit side by side."""
        if strict:  # the same pixels on both sides of the divider
            width, height = self.editor.prepare(face).crop.shape[1::-1]
            larger = cv2.resize(after, (width, height), interpolation=cv2.INTER_CUBIC)
            return encode_photo(larger, "JPEG", synthetic=True)
        photo = self.editor.view(SHOWN)
        wide = after.shape[1] > 1.3 * after.shape[0]
        gap = np.full((GAP, photo.shape[1], 3) if wide else (photo.shape[0], GAP, 3), 255, np.uint8)
        both = (np.vstack if wide else np.hstack)([photo, gap, after])
        return encode_photo(both, "JPEG", synthetic=True)

    def _drift(self, expected_ms: float, took_ms: float) -> float:
        """How many times slower than timed edits are by now; where that is not once, the device is checked."""
        self.watch.observe(expected_ms, took_ms)
        if self.watch.drift != 1.0:
            threading.Thread(target=self.service.check, args=(self.watch, self.budget), daemon=True).start()
        return self.watch.drift

    def download(self, budget: float, mark: bool = True) -> tuple[Saved, Saved]:
        """The edit at the photo's own resolution as PNG and as JPEG, without EXIF, marked as synthetic."""
        with self.using_it():
            choice = self.choose(max(budget, PATIENCE))
            submodel = choice["submodel"]["r"], choice["submodel"]["c"]
            editor = self.editor
            photo = self.photo
            years = next(iter(self.years.values()), 0)
            with self.service.lock:
                self.check()
                result = editor.edit(dict(self.years), submodel=submodel)
            synthetic = bool(result.changes)
            files = []
            for ending, format in ((".png", "PNG"), (".jpg", "JPEG")):
                self.check()
                data = encode_like(photo, result.picture, format, synthetic, words=mark and synthetic)
                path = self.write(data, f"edit{ending}", kept=2)
                files.append(Saved(path, edited_name(stem(self.name), years, ending)))
        return files[0], files[1]
