"""The pictures that the slider is made of: one face, every ten years, drawn from the middle out."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from agedit import AgeEditError
from agedit.selection.tuner import candidate_of
from ui.board import Key, Keys, told
from ui.edit_picture import usable
from ui.errors import message
from ui.files import Forgotten
from ui.service import Service
from ui.visit import Asked, Visit
from ui.words import say

STEP = 10
"""Years between two of them."""


def stops(low: float, high: float) -> list[float]:
    """Years of the key pictures: every STEP from one end to the other, today among them."""
    younger = [-years for years in range(STEP, int(-low) + 1, STEP)]
    older = range(STEP, int(high) + 1, STEP)
    every = {float(years) for years in (*younger, 0, *older)} | {float(low), float(high)}
    return sorted(every)


def middle_out(years: list[float], start: float) -> list[float]:
    """Today first, which costs nothing, then those nearest to where the slider stands."""
    return sorted(years, key=lambda y: (y != 0, abs(y - start)))


class KeyPictures:
    """Draws them after an edit, while nobody waits for anything else."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service
        self._gate = threading.Lock()

    def draw(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Iterator[Any]:
        """Yields `board.Keys`, one more picture each time. Ends when others are wanted, or the visit does."""
        if not usable(visit):
            yield gr.skip()
            return
        asked = Asked(years, budget, who, view, strict)
        name = visit.key_set(asked)
        with self._gate:
            if visit.drawing == name:  # they are there, or on their way
                yield gr.skip()
                return
            visit.drawing = name
        try:
            yield from self._drawn(visit, asked, name, request)
        except Forgotten:
            yield gr.skip()
        except AgeEditError as error:
            visit.drawing = ""
            raise message(error) from None

    def _drawn(self, visit: Visit, asked: Asked, name: str, request: gr.Request) -> Iterator[Any]:
        years = stops(*visit.service.engine.weights.years_range)
        choice = visit.choose(asked.budget, asked.strict, faces=len(visit.faces(asked.who)))
        keys: list[Key] = []
        with visit.using_it():
            for value in middle_out(years, asked.years):
                with visit.service.edits.turn():
                    if visit.drawing != name:
                        return
                    keys.append(visit.key(value, asked, candidate_of(choice)))
                is_last = len(keys) == len(years)
                seconds = len(years) * asked.budget / 1e3
                ready = say(request, "ready_in", seconds=seconds) if is_last else ""
                yield told(Keys(visit=visit.token, set=name, stops=years, keys=keys, ready=ready))
