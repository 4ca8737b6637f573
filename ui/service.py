"""What all visitors share: one engine, one tuner, and the lines that they wait in."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from agedit import AgeEditError, Engine
from agedit.selection.drift import DriftWatch
from agedit.selection.fair_lock import FairLock
from agedit.selection.selector import Entry
from agedit.selection.tuner import Choice, Tuner
from ui.held import Held, Holder
from ui.line import Line
from ui.quiet import Quiet

PATIENCE = 2000
"""ms: a slider that was let go, and the download, get the best sub-model that takes no longer."""

WAIT = 5
"""Seconds that a program waits for the device to be timed."""

PIXELS_HELD = 400_000_000
"""Pixels of all visits' decoded photos together: 1.2 GB."""

CHECKS_AT_START = 3
"""How often a profile may fail its first check: the page is still opening and disturbs it."""

Step = TypeVar("Step")
Tell = Callable[[Entry], object]


class Service:
    """One engine for all visitors; each visitor has a `Visit` of their own.

    Edits and timing runs hold `lock` one at a time, so neither spoils the other's times, and a visitor waits
    for one timing run at most.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self.lock = FairLock()
        self.engine = engine or Engine()
        self.tuner = Tuner(self.engine, lock=self.lock)
        self.quiet = Quiet()
        self.tuner.pause = self.quiet.wait
        self.generation = 0  # how often this device was timed
        self.edits = Line()
        self.decoding = Line()  # reading a photo takes much memory: one at a time
        self.journeys = Line()
        self.comparisons = Line()
        self.held = Held(PIXELS_HELD)
        self._tuning = threading.Lock()

    def one_by_one(self, visit: Holder, steps: Iterator[Step]) -> Iterator[Step]:
        """Long work, a turn of the lock for each step, so that edits get in between; ends with the visit."""
        with visit.using_it():
            while True:
                visit.check()
                with self.lock:
                    step = next(steps, None)
                if step is None:
                    return
                yield step

    def choose(self, budget: float, slowdown: float = 1.0) -> Choice:
        """The sub-model for a budget in ms, from what is known of this device, else a cautious guess.

        At once: nobody who looks at the page waits for a device to be timed.

        Args:
            slowdown: how many times slower than timed this visitor's edits are (`DriftWatch.pace`).
        """
        found = self.tuner.answer(budget, slowdown)
        return found or self.tuner.guess(budget, best=budget >= PATIENCE)

    def choose_for_program(self, budget: float) -> Choice:
        """The sub-model for a budget in ms, after timing this device where it is not known.

        Where that is going on already and takes long, on a busy device, it is a guess.
        """
        found = self.tuner.answer(budget)
        if found is not None:
            return found
        with self.quiet.ignored():
            if not self._tuning.acquire(timeout=WAIT):
                return self.choose(budget)
            try:
                return self.tuner.answer(budget) or self.tuner.choose(budget)
            finally:
                self._tuning.release()

    def tune(self, budget: float, fresh: bool = True, tell: Tell | None = None) -> Choice:
        """Time this device again: the choice first, then the rest, so that no answer is a guess."""
        with self.quiet.ignored(), self._tuning:
            return self._retune(budget, fresh, tell)

    def _retune(self, budget: float, fresh: bool = True, tell: Tell | None = None) -> Choice:
        found = self.tuner.choose(budget, fresh=fresh, tell=tell)
        self.tuner.complete()
        self.tuner.rest(budget)
        self.generation += 1  # only now: what visits saw until here belongs to the old times
        return found

    def start(self, budget: float) -> None:
        """Check the profile with a few runs, or make one; for a thread of its own."""
        checks = CHECKS_AT_START if self.tuner.times else 1
        try:
            with self._tuning:
                if any(self.tuner.verify(budget) for _ in range(checks)):
                    self.tuner.complete()  # a profile that the command line wrote may know little
                    self.tuner.rest(budget)
                else:
                    self._retune(budget)
        except AgeEditError as error:
            self.tuner.notes.append(str(error))

    def check(self, watch: DriftWatch, budget: float) -> None:
        """After live edits drifted: is it the device, or only a photo that costs more or less?

        For a thread of its own; does nothing while the device is being timed.
        """
        if not self._tuning.acquire(blocking=False):
            return
        try:
            if self.tuner.verify(budget):
                watch.accept()
            else:
                self._retune(budget)
        except AgeEditError as error:
            self.tuner.notes.append(str(error))
        finally:
            self._tuning.release()
