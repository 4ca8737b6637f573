"""The slider and the picture: what happens while it is dragged, when it is let go, and at rest."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

import gradio as gr

from ui.errors import said
from ui.line import Line
from ui.service import PATIENCE, Service
from ui.visit import Asked, Shown, Visit
from ui.waiting import in_turn
from ui.words import say

CHILD = 12
"""Apparent age below which a face would grow in other ways than the networks draw."""

ShownRow = tuple[Any, Any, Any, Any]
"""(result, beside, line, years): what an edit puts on the page."""


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

    @said
    def tap(self, visit: Visit | None, event: gr.SelectData) -> Any:
        """A tap on the photo picks the face there."""
        if not usable(visit) or len(visit.editor.faces) < 2:
            return gr.skip()
        x, y = event.index
        return visit.face_at(x, y)

    @in_turn(_edits, outputs=4, sentence=2)
    def preview(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """While the slider is dragged."""
        asked = Asked(years, budget, who, view, strict)
        # a preview that waited while the slider was let go must not replace the full result
        if not usable(visit) or visit.done == asked:
            return [gr.skip()] * 4
        visit.ask(years, who)
        visit.done = None
        return self.show(visit, asked, False, request)

    @in_turn(_edits, outputs=6, sentence=2)
    def finish(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """When the slider was let go; the downloads wait for their own pictures."""
        if not usable(visit):
            return gr.skip(), gr.skip(), say(request, "choose_first"), gr.skip(), gr.skip(), gr.skip()
        asked = Asked(years, budget, who, view, strict)
        visit.ask(years, who)
        visit.done = asked
        shown = self.show(visit, asked, True, request)
        return *shown, gr.update(interactive=False), gr.update(interactive=False)

    @in_turn(_edits, outputs=4, sentence=2)
    def refine(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """The budget is for dragging; at rest the best picture follows, unless the slider has moved on."""
        asked = Asked(years, budget, who, view, strict)
        if not usable(visit) or visit.done != asked:
            return [gr.skip()] * 4
        best = visit.choose(PATIENCE, strict)["submodel"]
        if (best["r"], best["c"]) == visit.submodel:
            return [gr.skip()] * 4
        return self.show(visit, replace(asked, budget=PATIENCE), True, request)

    @in_turn(_edits, outputs=6, sentence=2)
    def switch(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """Another face was picked: the slider goes to its own age, and nothing else changes."""
        if not usable(visit):
            return [gr.skip()] * 6
        own_years = visit.years.get(visit.faces(who)[0], years)
        asked = Asked(own_years, budget, who, view, strict)
        visit.done = asked
        *shown, ages = self.show(visit, asked, True, request)
        slider = ages | {"value": own_years}
        return *shown, slider, gr.update(interactive=False), gr.update(interactive=False)

    def show(self, visit: Visit, asked: Asked, full: bool, request: gr.Request) -> ShownRow:
        """Edit, and say what ran and which age it shows.

        Args:
            full: measure the identity too; while dragging, the age alone.
        """
        view = "face" if asked.strict else asked.view
        with visit.using_it():
            face = visit.faces(asked.who)[0]
            shown = visit.edit(asked.budget, view, asked.strict, asked.who)
            ran = self._what_ran(visit, shown, asked.budget, request)
            before, after, text = self._measured(visit, shown, face, full, ran, request)
        text += visit.notes if asked.budget >= PATIENCE else notes(visit, shown, asked.budget, request)
        reach = visit.service.engine.weights.reach(before)
        limit = beyond_model(before, visit.years.get(face, 0), reach)
        if limit is not None:
            text += " " + say(request, limit)
        visit.line = text
        slider = gr.update(info=say(request, "looks", before=before, after=after))
        if view == "beside":
            return gr.update(visible=False), gr.update(value=shown["after"], visible=True), text, slider
        pair = (shown["before"], shown["after"])
        return gr.update(value=pair, visible=True), gr.update(visible=False), text, slider

    def _measured(
        self, visit: Visit, shown: Shown, face: int, full: bool, ran: str, request: gr.Request
    ) -> tuple[float, float, str]:
        """(apparent age of the photo, of the edit, the sentence that says what ran)."""
        with visit.service.lock:
            if not full:
                return visit.editor.prepare(face).age, visit.editor.age(shown["result"], face), ran
            reading = visit.editor.read(shown["result"], face)
        text = say(request, "identity", identity=reading["identity"], ran=ran)
        return reading["age_before"], reading["age_after"], text

    def _what_ran(self, visit: Visit, shown: Shown, budget: float, request: gr.Request) -> str:
        r, c = shown["submodel"]
        text = say(request, "ran", r=r, c=c, ms=shown["ms"])
        told = notes(visit, shown, budget, request)
        if budget >= PATIENCE:
            if told not in visit.notes:
                visit.notes += told
            return say(request, "ran_best", ran=visit.ran, best=text)
        visit.ran = text
        visit.notes = told
        visit.submodel = (r, c)
        return text
