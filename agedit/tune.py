"""S4 on this device: times real edits of a reference photo, and keeps what it learns in the device's profile."""

import math
import os
import time
from pathlib import Path

from agedit import profile
from agedit.editor import AgeEditor
from agedit.errors import AgeEditError
from agedit.photo import encode_photo, load_photo
from agedit.runtime import give_back_memory
from agedit.selector import MARGIN, Selector, Times, Watch, answer
from agedit.submodel import work
from agedit.turns import Turns

REFERENCE = Path(__file__).resolve().parent.parent / "assets/portraits/london_001.jpg"
SHOWN = 1024  # longer side, in pixels, of what a visitor waits for; the download may take longer


def profiles_folder():
    return Path(os.environ.get("AGEDIT_PROFILES", profile.FOLDER))


def thread_counts(cores):
    """Numbers of threads worth trying: all usable cores, then halves."""
    counts = [cores]
    while counts[-1] > 1:
        counts.append((counts[-1] + 1) // 2)
    return counts


class Tuner:
    """Chooses a sub-model, and the number of threads, for a waiting budget.

    What is timed is what the visitor waits for: shift, generate, blend and encode, on a portrait. A budget whose answer
    is already in the profile costs nothing. `lock` is held for one run at a time, so that edits get in between.
    """

    def __init__(self, engine, folder=None, lock=None):
        self.engine, self.lock = engine, lock or Turns()
        self.times, self.tried, self.notes = {}, [], []
        self._editor, self._last, self._turn = None, None, 0
        self.device = profile.identity(engine.threads, engine.weights.hash, engine.runtime)
        self.path = profile.path_for(self.device, folder or profiles_folder())
        try:
            if self.path.exists():
                self.device = profile.adopt_threads(self.path, self.device, engine.threads_fixed)
                known = profile.read(self.path, self.device)
                engine.use_threads(self.device["threads"])
                self.times = {k: v for k, v in known.items() if k in engine.weights.candidates}
        except AgeEditError as error:
            self.notes.append(str(error))
        except OSError:  # a folder that may not be searched: nothing to reuse
            pass

    def choose(self, budget, fresh=False, tell=None):
        """The best sub-model within `budget` ms, timing what must be timed.

        Args:
            fresh: time everything again. tell: called with each entry of `tried`.

        Returns:
            {"submodel": {r, c}, "fits", "p50_ms", "p90_ms", "budget_ms", "threads", "tried", "profile", "seconds", "notes"}.
        Raises AgeEditError for a budget that is not a positive number.
        """
        check_budget(budget)
        start, before = time.perf_counter(), None if fresh else self._state()
        known = {} if fresh else self.times
        if not known and not self.engine.threads_fixed:
            self._choose_threads()
        selector = self._selector(known, tell)
        candidate, fits = selector.choose(budget / MARGIN)
        self.times, notes, self.notes = selector.times, [] if fresh else self.notes, []
        notes += self._keep(before)
        self.tried = [e | {"submodel": dict(zip("rc", e["submodel"]))} for e in selector.tried]
        chosen = self.times[candidate]
        return self._result(candidate, fits, chosen.p50, chosen.p90, budget, notes) | {
            "seconds": round(time.perf_counter() - start, 3),
            "tried": self.tried,
        }

    def complete(self):
        """Time what no choice has asked for yet, for a quiet moment: budgets to come are then answered by measurement."""
        before, selector = self._state(), self._selector(self.times)
        selector.complete()
        self.times = selector.times
        self.notes += self._keep(before)

    def rest(self, budget):
        """Let go of what timing held: the portrait, 40 MB, and the sub-models that the answer to `budget` does without; its own are warm then."""
        needed = self._needed(budget)
        self.engine.keep_submodels(needed)
        for candidate in reversed(needed):
            self.time_once(candidate)
        with self.lock:
            self._editor = self._last = None
            give_back_memory()

    def _needed(self, budget):
        """[(r, c)]: the answer to `budget` while a slider moves, and the best, for when it was let go."""
        found = self.answer(budget)
        chosen = [(found["submodel"]["r"], found["submodel"]["c"])] if found else []
        return list(dict.fromkeys(chosen + self.engine.weights.order[:1]))

    def _selector(self, known, tell=None):
        return Selector(
            self.engine.weights.order,
            work,
            self._run,
            times=known,
            tell=tell,
            hold=Between(self),
            passing=self.engine.passing,
        )

    def _keep(self, before):
        """Write the profile if the times differ from `before`; returns what went wrong as sentences."""
        if self._state() != before:
            try:
                profile.write(self.path, self.device, self.times)
            except AgeEditError as error:
                return [str(error)]
        return []

    def answer(self, budget, slow=1.0):
        """The same from what is known already, at once; None before anything was timed.

        slow: how much slower than its profile the device is now (`selector.Watch.drift`).
        """
        check_budget(budget)
        found = answer(self.engine.weights.order, work, self.times, budget / MARGIN, slow)
        if found is None:
            return None
        return self._result(found["candidate"], found["fits"], found["p50"], found["p90"], budget, []) | {
            "measured": found["measured"]
        }

    def guess(self, budget, best=False):
        """The same while nothing is known: the smallest, which nothing promises, or the best; its times are 0, unknown."""
        candidate = self.engine.weights.order[0] if best else self.engine.weights.candidates[0]
        return self._result(candidate, True, 0.0, 0.0, budget, []) | {"measured": False}

    def verify(self, budget):
        """A few runs of the answer to `budget` and of the best: True when what the profile says still holds.

        They stay loaded, so the first edit of a visitor opens nothing.
        """
        if self.answer(budget) is None:
            return False
        for candidate in self._needed(budget):
            if candidate in self.times:
                now = Times([self.time_once(candidate) for _ in range(9)][2:])
                if abs(math.log(now.p50 / max(self.times[candidate].p50, 1e-3))) > math.log(
                    1 + Watch.TOLERANCE
                ):
                    return False
        return True

    def _result(self, candidate, fits, p50, p90, budget, notes):
        if not fits:
            notes = notes + [
                f"Nothing meets {budget:g} ms on this device; the smallest sub-model runs, in about {p90:.0f} ms."
            ]
        return {
            "submodel": dict(zip("rc", candidate)),
            "fits": fits,
            "p50_ms": round(p50, 2),
            "p90_ms": round(p90, 2),
            "budget_ms": budget,
            "threads": self.engine.threads,
            "profile": str(self.path),
            "notes": notes,
        }

    def _choose_threads(self):
        """The count with which a middling sub-model is quickest, timed in turns; a tie goes to more threads."""
        counts = thread_counts(self.device["cores"])
        middle = self.engine.weights.candidates[len(self.engine.weights.candidates) // 2]
        runs = {n: Times() for n in counts}
        for turn in range(7):
            for n in counts:
                with self.lock:  # edits in between run as they did
                    live = self.engine.threads
                    self.engine.use_threads(n)
                    try:
                        runs[n].runs.append(self.time_once(middle))
                    finally:
                        self.engine.use_threads(live)
        best = min(counts, key=lambda n: Times(runs[n].runs[2:]).p50 * (1 if n == counts[0] else 1.05))
        self.engine.use_threads(best)
        self.engine.drop_other_threads()
        self.device = self.device | {"threads": best}

    def _state(self):
        return {k: tuple(t.runs) for k, t in self.times.items()}

    def time_once(self, submodel):
        """Milliseconds of one edit as a visitor waits for it."""
        with Between(self):  # its wait is nobody's time
            start = time.perf_counter()
            self._run(submodel)
            return (time.perf_counter() - start) * 1e3

    def _run(self, submodel):
        with self.lock:
            if self._editor is None:
                self._editor = AgeEditor(self.engine)
                self._editor.set_photo(load_photo(REFERENCE))
            self._editor.prepare(0, submodel)
            self._turn += 1
            edit = self._editor.edit(10 + self._turn % 20, submodel=submodel, limit=SHOWN)
            encode_photo(edit.picture, "JPEG")
            self._last = edit

    def read_last(self):
        """What the page does between two edits: the age network reads the face."""
        if self._last is not None:
            self._editor.age(self._last)


class Between:
    """Entered before each timed run: takes the lock, and leaves the processor's caches as a visitor's edit finds them."""

    def __init__(self, tuner):
        self.tuner = tuner

    def __enter__(self):
        self.tuner.lock.__enter__()
        try:
            self.tuner.read_last()
        except BaseException:
            self.tuner.lock.__exit__(None, None, None)
            raise

    def __exit__(self, *error):
        self.tuner.lock.__exit__(*error)


def check_budget(budget):
    if not (isinstance(budget, (int, float)) and 0 < budget < 1e7):
        raise AgeEditError("The waiting budget must be a positive number of milliseconds, such as 100.")
