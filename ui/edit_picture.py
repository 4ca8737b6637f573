"""The slider and the picture: what happens while it is dragged, when it is let go, and at rest."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

import gradio as gr

from ui.board import Board, told
from ui.errors import said
from ui.line import Line
from ui.service import PATIENCE, Service
from ui.visit import EVERYONE, Asked, Shown, Visit
from ui.waiting import in_turn
from ui.words import say

TOUCH_EVERY = 0.5
"""Seconds between two signs that somebody moves the slider."""

CHILD = 12
"""Apparent age below which a face would grow in other ways than the networks draw."""

ShownRow = tuple[Any, Any, Any]
"""(board, line, years): what an edit puts on the page."""


def usable(visit: Visit | None) -> TypeGuard[Visit]:
    """Whether there is a photo to edit."""
    return visit is not None and not visit.closed


def beyond_model(age: float, years: float, reach: tuple[float, float]) -> str | None:
    """The key of what is said where the networks cannot go on; None where they can.

    Args:
        age: the apparent one.
        reach: see `Weights.reach`.
    """
    youngest, oldest = reach
    is_child = age < CHILD
    if years < youngest:
        return "no_younger"
    if years > oldest:
        return "child_end" if is_child else "no_older"
    return "child" if is_child and years > 0 else None


def notes(visit: Visit, shown: Shown, budget: float, request: gr.Request) -> str:
    """What the visitor should know about the device, each sentence after a space."""
    found = []
    if not shown["choice"]["fits"]:
        found.append(say(request, "nothing_fits", budget=budget))
    drift = shown["drift"]
    if drift > 1:
        found.append(say(request, "drifted", times=drift, direction=say(request, "slower")))
    elif drift < 1:
        found.append(say(request, "drifted", times=1 / drift, direction=say(request, "faster")))
    return "".join(f" {sentence}" for sentence in found)


def _edits(handlers: "PictureHandlers") -> Line:
    return handlers.service().edits


def asking(handler: Callable[[Any, Visit | None, Asked, gr.Request], Any]) -> Callable[..., Any]:
    """A handler (self, visit, asked, request), to which Gradio hands the values of `Asked` one by one."""

    def with_values(
        self: Any,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        return handler(self, visit, Asked(years, budget, who, view, strict), request)

    # not functools.wraps: Gradio reads from the signature where the request goes
    with_values.__name__ = handler.__name__
    with_values.__doc__ = handler.__doc__
    return with_values


class PictureHandlers:
    """What follows when a visitor asks for another edit.

    Handlers get the visitor's `Visit`, None before the first photo, and the values of `visit.Asked`.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    @said
    def limits(self) -> Any:
        """The slider ends where the calibration does."""
        low, high = self.service().engine.weights.years_range
        return gr.update(minimum=low, maximum=high)

    async def drag(self) -> None:
        """While somebody moves the slider the device is not timed; asks no more often than that matters."""
        self.service().quiet.touch()
        await asyncio.sleep(TOUCH_EVERY)

    @in_turn(_edits, outputs=3, sentence=1)
    @asking
    def finish(self, visit: Visit | None, asked: Asked, request: gr.Request) -> Any:
        """When the slider rests: the best picture."""
        if not usable(visit):
            return gr.skip(), say(request, "choose_first"), gr.skip()
        if visit.done == visit.shown == asked:  # the slider was let go where it had rested
            return [gr.skip()] * 3
        visit.ask(asked.years, asked.who)
        visit.done = asked
        return self.show(visit, asked, PATIENCE, request)

    @in_turn(_edits, outputs=3, sentence=1)
    @asking
    def refine(self, visit: Visit | None, asked: Asked, request: gr.Request) -> Any:
        """A photo's first edit keeps the budget; the best picture follows, unless the slider has moved on."""
        if not usable(visit) or visit.done is None or visit.done == visit.shown:
            return [gr.skip()] * 3
        best = visit.choose(PATIENCE, visit.done.strict)["submodel"]
        if (best["r"], best["c"]) == visit.submodel:
            return [gr.skip()] * 3
        return self.show(visit, visit.done, PATIENCE, request)

    @in_turn(_edits, outputs=3, sentence=1)
    @asking
    def switch(self, visit: Visit | None, asked: Asked, request: gr.Request) -> Any:
        """Another face was picked: nothing changes, and the page puts the slider at that face's own age.

        It is the page that does, since the slider may have been moved before this answer comes.
        """
        if not usable(visit):
            return [gr.skip()] * 3
        own_years = visit.years.get(visit.faces(asked.who)[0], asked.years)
        visit.done = replace(asked, years=own_years)
        return self.show(visit, visit.done, PATIENCE, request)

    def show(self, visit: Visit, asked: Asked, budget: float, request: gr.Request) -> ShownRow:
        """Edit within `budget` ms, and say what ran and which age it shows."""
        visit.service.quiet.touch()
        view = "face" if asked.strict else asked.view
        with visit.using_it():
            face = visit.faces(asked.who)[0]
            shown = visit.edit(budget, view, asked.strict, asked.who)
            visit.submodel = shown["submodel"]
            with visit.service.lock:
                reading = visit.editor.read(shown["result"], face)
                rings = visit.rings(shown["result"]) if view == "photo" else []
            place = visit.place(view, face)
        if budget >= PATIENCE:
            visit.shown = asked
        years = visit.years.get(face, 0)
        low, high = visit.service.engine.weights.years_range
        board = Board(
            visit=visit.token,
            set=visit.key_set(asked),
            view=view,
            who=EVERYONE if asked.who is None else int(asked.who),
            before=shown["before"],
            after=shown["after"],
            years=years,
            own={str(key): value for key, value in visit.years.items()},
            now=reading["age_before"],
            then=reading["age_after"],
            **self._quality(visit, shown, request),
            note=self._limit(visit, reading["age_before"], years, request),
            place=place,
            faces=rings,
            low=low,
            high=high,
        )
        r, c = shown["submodel"]
        ran = say(request, "ran", r=r, c=c, ms=shown["ms"])
        visit.line = say(request, "identity", identity=reading["identity"], ran=ran)
        visit.line += notes(visit, shown, budget, request)
        ages = say(request, "looks", before=reading["age_before"], after=reading["age_after"])
        return told(board), visit.line, gr.update(info=ages)

    def _quality(self, visit: Visit, shown: Shown, request: gr.Request) -> dict[str, Any]:
        """The dot and its few words."""
        is_best = shown["submodel"] == visit.service.engine.weights.best
        if not visit.service.tuner.times:
            return {"best": is_best, "dot": "learning", "quality": say(request, "q_learning")}
        word = "q_best" if is_best else "q_quick"
        text = say(request, word, ms=shown["ms"])
        return {"best": is_best, "dot": "good" if is_best else "fair", "quality": text}

    def _limit(self, visit: Visit, age: float, years: float, request: gr.Request) -> str:
        limit = beyond_model(age, years, visit.service.engine.weights.reach(age))
        return "" if limit is None else say(request, limit)
