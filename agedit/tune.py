"""S4 on this device: times real edits of a reference photo, and keeps what it learns in the device's profile."""
import os
import time
from pathlib import Path

from agedit import profile
from agedit.editor import AgeEditor
from agedit.errors import AgeEditError
from agedit.photo import encode_photo, load_photo
from agedit.selector import Selector
from agedit.submodel import cost

REFERENCE = Path(__file__).resolve().parent.parent / "assets/portraits/london_001.jpg"


def macs(submodel):
    return cost(*submodel)["macs"]


def profiles_folder():
    return Path(os.environ.get("AGEDIT_PROFILES", profile.FOLDER))


class Tuner:
    """Chooses a sub-model for a waiting budget.

    What is timed is what the visitor waits for: shift, generate, blend and encode, on a portrait of 1.2 megapixels.
    A budget whose answer is already in the profile costs nothing.
    """

    def __init__(self, engine, folder=None):
        self.engine = engine
        self.device = profile.identity(engine.threads, engine.weights.hash)
        self.path = profile.path_for(self.device, folder or profiles_folder())
        self.times, self.notes, self._editor, self._turn = {}, [], None, 0
        try:
            if self.path.exists():
                known = profile.read(self.path, self.device)
                self.times = {k: v for k, v in known.items() if k in engine.weights.candidates}
        except AgeEditError as error:
            self.notes.append(str(error))
        except OSError:                      # a folder that may not be searched: nothing to reuse
            pass

    def choose(self, budget, fresh=False, tell=None):
        """The best sub-model within `budget` ms.

        Returns:
            {"submodel": {r, c}, "fits", "p50_ms", "p90_ms", "budget_ms", "tried", "profile", "seconds", "notes"}.
        Raises AgeEditError for a budget that is not a positive number.
        """
        if not (isinstance(budget, (int, float)) and 0 < budget < 1e7):
            raise AgeEditError("The waiting budget must be a positive number of milliseconds, such as 100.")
        start, before = time.perf_counter(), None if fresh else self._state()
        selector = Selector(self.engine.weights.order, macs, self._run, times={} if fresh else self.times, tell=tell)
        (r, c), fits = selector.choose(budget)
        self.times, notes, self.notes = selector.times, [] if fresh else self.notes, []
        if self._state() != before:
            try:
                profile.write(self.path, self.device, self.times)
            except AgeEditError as error:
                notes.append(str(error))
        chosen = self.times[r, c]
        if not fits:
            notes.append(f"Nothing meets {budget:g} ms on this device; the smallest sub-model runs, in about {chosen.p90:.0f} ms.")
        return {"submodel": {"r": r, "c": c}, "fits": fits, "p50_ms": round(chosen.p50, 2), "p90_ms": round(chosen.p90, 2),
                "budget_ms": budget, "seconds": round(time.perf_counter() - start, 3), "profile": str(self.path),
                "tried": [e | {"submodel": dict(zip("rc", e["submodel"]))} for e in selector.tried], "notes": notes}

    def _state(self):
        return {k: tuple(t.runs) for k, t in self.times.items()}

    def _run(self, submodel):
        if self._editor is None:
            self._editor = AgeEditor(self.engine)
            self._editor.set_photo(load_photo(REFERENCE))
        self._editor.prepare(0, submodel)
        self._turn += 1
        edit = self._editor.edit(10 + self._turn % 20, submodel=submodel)
        encode_photo(edit.picture, "JPEG")
