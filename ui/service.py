"""What the page talks to: one engine and one tuner for all visitors, and each visitor's own photo."""

import threading
import time

import cv2
import numpy as np

from agedit import AgeEditError, AgeEditor, Engine, load_photo
from agedit.mark import stamp
from agedit.photo import encode_photo
from agedit.selection.drift import DriftWatch
from agedit.selection.fair_lock import FairLock
from agedit.selection.tuner import SHOWN, Tuner
from ui.files import Files, Sessions

GAP = 8  # pixels between two pictures side by side
PATIENCE = 2000  # ms: a slider that was let go, and the download, get the best that takes no longer
WAIT = 5  # s that a first visitor waits for the device to be timed


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
        self.sessions = Sessions()

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


class Visit:
    """One visitor's photo: the editor, each face's years, and the files that the page shows."""

    def __init__(self, service, path):
        self.service, self.editor = service, AgeEditor(service.engine)
        self.files = Files()
        self.write = self.files.write
        with service.lock:
            self.editor.set_photo(load_photo(path))
        self.years = {}  # {face: years}, each face keeps its own
        self.rows, self.compared = [], None  # the Compare tab's pictures, and which edit they are of
        self.watch, self.generation = DriftWatch(), service.generation
        self.done = None  # what was asked for when the slider was let go
        self.ran, self.notes, self.submodel = "", "", None  # the last edit within the budget, in words
        self.count, self.budget = 0, PATIENCE

    def delete(self):
        """The page was closed: its files go, and what a page that comes back can make again."""
        self.files.delete()
        with self.service.lock:
            self.editor.forget()
        self.rows, self.compared = [], None

    def before(self):
        """Path of the photo as it is shown."""
        return self.files.once("before.jpeg", lambda: encode_photo(self.editor.view(SHOWN), "JPEG"))

    def original(self, face):
        """Path of the photo's own crop of a face."""
        return self.files.once(
            f"face-{face}.jpeg", lambda: encode_photo(self.editor.prepare(face).crop, "JPEG")
        )

    def faces(self, who):
        """Face numbers of a choice on the page: None or -1 is everyone."""
        return list(range(len(self.editor.faces))) if who in (None, -1) else [int(who)]

    def face_at(self, x, y):
        """Number of the face nearest to a place in the photo, in its own pixels."""
        return int(np.argmin([np.hypot(*(face.points.mean(0) - (x, y))) for face in self.editor.faces]))

    def choose(self, budget, strict=False):
        """The sub-model that keeps the budget for all faces that change: they run one after the other."""
        return self.service.choose(
            budget / (1 if strict else max(1, sum(v != 0 for v in self.years.values()))), self.watch.pace
        )

    def ask(self, years, who):
        self.years |= dict.fromkeys(self.faces(who), years)

    def edit(self, budget, view="photo", strict=False, who=None):
        """{"before", "after": paths, "submodel", "ms", "choice", "result", "drift", "waiting"} at the shown size.

        waiting: how many other edits stood in line before this one.
        """
        if self.generation != self.service.generation:  # timed again since: what was seen is out of date
            self.generation = self.service.generation
            self.watch.clear()
        pace, waiting = self.watch.pace, self.service.lock.waiting
        choice = self.choose(budget, strict)
        submodel = choice["submodel"]["r"], choice["submodel"]["c"]
        face = self.faces(who)[0]
        with self.service.lock:
            self.editor.prepare(face, submodel)
            start = time.perf_counter()
            wanted = {face: self.years.get(face, 0)} if strict else dict(self.years)
            result = self.editor.edit(wanted, submodel=submodel, strict=strict, limit=SHOWN)
            after = result.picture
            if view == "face" or strict:
                after = self.editor.crop(result, face)
            self.count += 1
            data = encode_photo(after, "JPEG", synthetic=True)
            ms = (time.perf_counter() - start) * 1e3
        if view == "face" or strict:
            if strict:  # the same pixels on both sides of the divider
                after = cv2.resize(
                    after, self.editor.prepare(face).crop.shape[1::-1], interpolation=cv2.INTER_CUBIC
                )
                data = encode_photo(after, "JPEG", synthetic=True)
        elif view == "beside":
            photo, wide = self.editor.view(SHOWN), after.shape[1] > 1.3 * after.shape[0]
            shape = (GAP, photo.shape[1], 3) if wide else (photo.shape[0], GAP, 3)
            data = encode_photo(
                (np.vstack if wide else np.hstack)([photo, np.full(shape, 255, np.uint8), after]),
                "JPEG",
                True,
            )
        before = self.original(face) if view == "face" or strict else self.before()
        drift, self.budget = 1.0, budget if budget < PATIENCE else self.budget
        if len(wanted) == 1 and not strict and self.count > 1 and any(wanted.values()):
            self.watch.observe(choice["p50_ms"] / pace, ms)
            drift = self.watch.drift
            if drift != 1.0:
                threading.Thread(
                    target=self.service.check, args=(self.watch, self.budget), daemon=True
                ).start()
        return {
            "before": before,
            "after": self.write(data, "after.jpeg"),
            "submodel": submodel,
            "ms": ms,
            "choice": choice,
            "result": result,
            "drift": drift,
            "waiting": waiting,
        }

    def download(self, budget, mark=True):
        """Path of the edit at the photo's own resolution: PNG without EXIF, marked as synthetic."""
        choice = self.choose(max(budget, PATIENCE))
        with self.service.lock:
            result = self.editor.edit(
                dict(self.years), submodel=(choice["submodel"]["r"], choice["submodel"]["c"])
            )
        picture = stamp(result.picture) if mark and result.changes else result.picture
        years = next(iter(self.years.values()), 0)
        return self.write(
            encode_photo(picture, "PNG", synthetic=bool(result.changes)),
            f"agedit_{years:+.0f}_years.png",
            "download",
            2,
        )
