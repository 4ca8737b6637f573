"""S4 on this device: times real edits of a reference photo and keeps the times in the device's profile."""

import math
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from agedit.editor import AgeEditor, Edit
from agedit.engine import Engine
from agedit.errors import AgeEditError
from agedit.paths import portraits_folder, profiles_folder
from agedit.photo import encode_photo, load_photo
from agedit.runtime.host import give_back_memory
from agedit.selection import profiles
from agedit.selection.budget import TIMING_MARGIN
from agedit.selection.cost_model import answer
from agedit.selection.drift import DriftWatch
from agedit.selection.fair_lock import FairLock
from agedit.selection.selector import Entry, Selector
from agedit.selection.times import Candidate, Times
from agedit.submodel import work

REFERENCE = portraits_folder() / "london_001.jpg"
"""The portrait whose edits are timed."""

SHOWN = 1024
"""Longer side, in pixels, of the picture that a visitor waits for; a download may take longer."""

MAX_BUDGET = 1e7
"""Every waiting budget is below this, in milliseconds."""

THREAD_RUNS = 7
"""Runs with each number of threads, those of THREAD_WARM_UP among them."""

THREAD_WARM_UP = 2
"""The first runs with each number of threads, which are not counted."""

FEWER_THREADS = 1.05
"""How much faster fewer threads must be to be preferred to all."""

VERIFY_RUNS = 9
"""Runs that check a known time, those of VERIFY_WARM_UP among them."""

VERIFY_WARM_UP = 2
"""The first of these runs, which are not counted."""


class SubmodelName(TypedDict):
    """A sub-model as JSON has it."""

    r: int
    c: float


class Choice(TypedDict):
    """The sub-model for a budget. Times in ms; 0 where nothing is known yet."""

    submodel: SubmodelName
    fits: bool
    p50_ms: float
    p90_ms: float
    budget_ms: float
    threads: int
    profile: str
    notes: list[str]
    measured: NotRequired[bool]
    seconds: NotRequired[float]
    tried: NotRequired[list[Entry]]


def submodel_name(candidate: Candidate) -> SubmodelName:
    """(128, 0.5) as {"r": 128, "c": 0.5}."""
    return {"r": candidate[0], "c": candidate[1]}


def candidate_of(choice: Choice) -> Candidate:
    """The (r, c) of a choice."""
    return choice["submodel"]["r"], choice["submodel"]["c"]


def thread_counts(cores: int) -> list[int]:
    """Numbers of threads worth trying: all usable cores, then halves."""
    counts = [cores]
    while counts[-1] > 1:
        counts.append((counts[-1] + 1) // 2)
    return counts


def check_budget(budget: float) -> None:
    """Raise AgeEditError unless `budget` is a positive number of milliseconds."""
    if not (isinstance(budget, numbers.Real) and 0 < budget < MAX_BUDGET):
        raise AgeEditError("The waiting budget must be a positive number of milliseconds, such as 100.")


class Tuner:
    """Chooses a sub-model, and the number of threads, for a waiting budget.

    What is timed is what the visitor waits for: shift, generate, blend and encode, on a portrait. A budget
    whose answer is already in the profile costs nothing.

    Args:
        engine: whose sub-models are timed.
        folder: of profiles; default `paths.profiles_folder`.
        lock: held for one run at a time, so that edits get in between.
    """

    def __init__(
        self, engine: Engine, folder: str | Path | None = None, lock: FairLock | None = None
    ) -> None:
        self.engine = engine
        self.lock = lock or FairLock()
        self.times: dict[Candidate, Times] = {}
        self.tried: list[Entry] = []
        self.notes: list[str] = []
        self.device: dict[str, Any] = profiles.identity(engine.threads, engine.weights.hash, engine.runtime)
        self.path = profiles.path_for(self.device, Path(folder or profiles_folder()))
        self.pause: Callable[[], object] = lambda: None
        """Called before each timed run, without the lock: returns when the run disturbs nobody."""
        self._live: dict[Candidate, tuple[float, float]] = {}
        self._editor: AgeEditor | None = None
        self._last_edit: Edit | None = None
        self._turn = 0
        self._read_profile()

    def choose(
        self, budget: float, fresh: bool = False, tell: Callable[[Entry], object] | None = None
    ) -> Choice:
        """The best sub-model within `budget` ms, timing what must be timed.

        Args:
            budget: ms.
            fresh: time everything again.
            tell: called with each entry of `tried`.

        Returns:
            A Choice with "seconds" and "tried". Raises AgeEditError for a budget that is not a positive
            number.
        """
        check_budget(budget)
        start = time.perf_counter()
        before = None if fresh else self._state()
        known = {} if fresh else self.times
        notes = [] if fresh else self.notes
        if not known and not self.engine.threads_fixed:
            self._choose_threads()
        selector = self._selector(known, tell)
        candidate, fits = selector.choose(budget / TIMING_MARGIN)
        self.times = selector.times
        self.notes = []
        notes = notes + self._save(before)
        self.tried = [entry | {"submodel": submodel_name(entry["submodel"])} for entry in selector.tried]
        chosen = self.times[candidate]
        choice = self._choice(candidate, fits, chosen.p50, chosen.p90, budget, notes)
        choice["seconds"] = round(time.perf_counter() - start, 3)
        choice["tried"] = self.tried
        return choice

    def complete(self) -> None:
        """Time what no choice has needed yet, for a quiet moment: later budgets are then answered by
        measurement.
        """
        before = self._state()
        selector = self._selector(self.times)
        selector.complete()
        self.times = selector.times
        self.notes += self._save(before)

    def rest(self, budget: float) -> None:
        """Free what timing held: the portrait (40 MB), and sub-models that the answer to `budget` does
        without.

        The answer's own sub-models are warm afterwards.
        """
        needed = self._needed(budget)
        self.engine.keep_submodels(needed)
        for candidate in reversed(needed):
            self.time_once(candidate)
        with self.lock:
            self._editor = None
            self._last_edit = None
            give_back_memory()

    def answer(self, budget: float, slowdown: float = 1.0) -> Choice | None:
        """The choice from what is known already, at once; None while too little is.

        Args:
            budget: ms.
            slowdown: how many times slower the device is now than in its profile (see `drift.DriftWatch`).
        """
        check_budget(budget)
        found = answer(self.engine.weights.order, work, self.times, budget / TIMING_MARGIN, slowdown)
        if found is None:
            return None
        choice = self._choice(found.candidate, found.fits, found.p50, found.p90, budget, [])
        choice["measured"] = found.measured
        return choice

    def observe(self, candidate: Candidate, ms: float, generate_ms: float) -> None:
        """A visitor's edit is a time too: `guess` goes by it until the device was timed.

        Args:
            ms: of the edit of one face; generate_ms: of its generator alone.
        """
        self._live[candidate] = (ms, generate_ms)

    def guess(self, budget: float, best: bool = False) -> Choice:
        """A choice while nothing was timed: the best that fits by what live edits took, each generator as
        slow as its work makes it. Without any edit the smallest, which nothing promises, or the best.

        Its times are 0 where nothing is known.
        """
        weights = self.engine.weights
        if not self._live:
            candidate = weights.best if best else weights.smallest
            return self._guessed(candidate, 0.0, budget)
        guesses = {candidate: self._guess_ms(candidate) for candidate in weights.order}
        fitting = [k for k, ms in guesses.items() if ms <= budget / TIMING_MARGIN]
        candidate = fitting[0] if fitting else min(weights.candidates, key=work)
        return self._guessed(candidate, guesses[candidate], budget)

    def _guess_ms(self, candidate: Candidate) -> float:
        """From the live edit whose work is nearest: a small one's fixed costs mislead."""
        nearest = min(self._live, key=lambda known: abs(math.log(work(known) / work(candidate))))
        ms, generate_ms = self._live[nearest]
        return ms + generate_ms * (work(candidate) / work(nearest) - 1)

    def _guessed(self, candidate: Candidate, ms: float, budget: float) -> Choice:
        choice = self._choice(candidate, True, ms, ms, budget, [])
        choice["measured"] = False
        return choice

    def verify(self, budget: float) -> bool:
        """Time the answer to `budget` and the best a few times: True when what the profile says still holds.

        They stay loaded, so that a visitor's first edit loads nothing.
        """
        if self.answer(budget) is None:
            return False
        known = [candidate for candidate in self._needed(budget) if candidate in self.times]
        return all(self._still_holds(candidate) for candidate in known)

    def time_once(self, submodel: Candidate) -> float:
        """Milliseconds of one edit as a visitor waits for it, without the wait for the lock."""
        with LockedRun(self):
            start = time.perf_counter()
            self._run(submodel)
            return (time.perf_counter() - start) * 1e3

    def read_last(self) -> None:
        """What the page does between two edits: the age network reads the face."""
        if self._editor is not None and self._last_edit is not None:
            self._editor.age(self._last_edit)

    def _read_profile(self) -> None:
        """Take over times and threads of this device's own profile; an unusable one is noted."""
        try:
            if not self.path.exists():
                return
            self.device = dict(profiles.adopt_threads(self.path, self.device, self.engine.threads_fixed))
            known = profiles.read(self.path, self.device)
        except AgeEditError as error:
            self.notes.append(str(error))
            return
        except OSError:  # a folder that may not be searched: nothing to reuse
            return
        self.engine.use_threads(self.device["threads"])
        self.times = {k: v for k, v in known.items() if k in self.engine.weights.candidates}

    def _needed(self, budget: float) -> list[Candidate]:
        """The answer to `budget` while a slider moves, and the best, for when it is released."""
        found = self.answer(budget)
        chosen = [candidate_of(found)] if found else []
        return list(dict.fromkeys([*chosen, self.engine.weights.best]))

    def _selector(
        self, known: Mapping[Candidate, Times], tell: Callable[[Entry], object] | None = None
    ) -> Selector:
        return Selector(
            self.engine.weights.order,
            work,
            self._run,
            times=known,
            tell=tell,
            hold=LockedRun(self),
            passing=self.engine.passing,
        )

    def _save(self, before: object) -> list[str]:
        """Write the profile if the times differ from `before`; what went wrong, as sentences."""
        if self._state() == before:
            return []
        try:
            profiles.write(self.path, self.device, self.times)
        except AgeEditError as error:
            return [str(error)]
        return []

    def _still_holds(self, candidate: Candidate) -> bool:
        runs = [self.time_once(candidate) for _ in range(VERIFY_RUNS)]
        now = Times(runs[VERIFY_WARM_UP:])
        before = max(self.times[candidate].p50, 1e-3)
        return abs(math.log(now.p50 / before)) <= math.log(1 + DriftWatch.TOLERANCE)

    def _choice(
        self, candidate: Candidate, fits: bool, p50: float, p90: float, budget: float, notes: Sequence[str]
    ) -> Choice:
        nothing_fits = (
            f"Nothing meets {budget:g} ms on this device; the smallest sub-model runs, in about {p90:.0f} ms."
        )
        return {
            "submodel": submodel_name(candidate),
            "fits": fits,
            "p50_ms": round(p50, 2),
            "p90_ms": round(p90, 2),
            "budget_ms": budget,
            "threads": self.engine.threads,
            "profile": str(self.path),
            "notes": list(notes) if fits else [*notes, nothing_fits],
        }

    def _choose_threads(self) -> None:
        """Use the number of threads that is fastest for a mid-sized sub-model; a tie goes to more threads."""
        counts = thread_counts(self.device["cores"])
        candidates = self.engine.weights.candidates
        middle = candidates[len(candidates) // 2]
        runs: dict[int, list[float]] = {n: [] for n in counts}
        for _ in range(THREAD_RUNS):
            for n in counts:
                runs[n].append(self._time_with_threads(middle, n))

        def penalised_p50(n: int) -> float:
            penalty = 1.0 if n == counts[0] else FEWER_THREADS
            return Times(runs[n][THREAD_WARM_UP:]).p50 * penalty

        best = min(counts, key=penalised_p50)
        self.engine.use_threads(best)
        self.engine.drop_other_threads()
        self.device = self.device | {"threads": best}

    def _time_with_threads(self, submodel: Candidate, threads: int) -> float:
        """`time_once` with another number of threads; edits before and after run as they did."""
        self.pause()
        with self.lock:
            live = self.engine.threads
            self.engine.use_threads(threads)
            try:
                return self.time_once(submodel)
            finally:
                self.engine.use_threads(live)

    def _state(self) -> dict[Candidate, tuple[float, ...]]:
        return {candidate: tuple(t.runs) for candidate, t in self.times.items()}

    def _run(self, submodel: Candidate) -> None:
        """One edit of the portrait, encoded as the page shows it; other years each time."""
        with self.lock:
            if self._editor is None:
                self._editor = AgeEditor(self.engine)
                self._editor.set_photo(load_photo(REFERENCE))
            self._editor.prepare(0, submodel)
            self._turn += 1
            edit = self._editor.edit(10 + self._turn % 20, submodel=submodel, limit=SHOWN)
            encode_photo(edit.picture, "JPEG")
            self._last_edit = edit


class LockedRun:
    """A context around one timed run, entered before its clock starts.

    It holds the tuner's lock, so that no visitor's edit falls into the run, and first reads the age of the
    last edit, as the page does between two edits: the run then finds the processor's caches as a visitor's
    edit finds them.
    """

    def __init__(self, tuner: Tuner) -> None:
        self.tuner = tuner

    def __enter__(self) -> None:
        if not self.tuner.lock.is_mine:
            self.tuner.pause()
        self.tuner.lock.__enter__()
        try:
            self.tuner.read_last()
        except BaseException:
            self.tuner.lock.__exit__(None, None, None)
            raise

    def __exit__(self, *error: object) -> None:
        self.tuner.lock.__exit__(*error)
