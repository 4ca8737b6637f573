"""What a visitor is told while others are served first."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from agedit import AgeEditError
from ui.errors import message
from ui.files import Forgotten
from ui.line import Line, Place
from ui.sessions import sessions
from ui.words import say

PATIENT = 0.4
"""Seconds for which nobody is told that they wait."""

LOOKS_EVERY = 0.4
"""Seconds."""


def until_served(place: Place, request: gr.Request) -> Iterator[str]:
    """Wait for one's turn; yields a sentence whenever the number of those ahead has changed.

    Raises Forgotten when the page was closed meanwhile.
    """
    told = 0
    seconds = PATIENT
    while not place.wait(seconds):
        seconds = LOOKS_EVERY
        if sessions.has_ended(request.session_hash or ""):
            raise Forgotten
        ahead = place.ahead
        if ahead not in (0, told):
            told = ahead
            yield say(request, "busy", others=ahead)
    if sessions.has_ended(request.session_hash or ""):
        raise Forgotten


def in_turn(line: Callable[[Any], Line], outputs: int, sentence: int) -> Callable[..., Any]:
    """A handler (self, visit, ..., request) that is served in turn; the visitor is told how many are ahead.

    Args:
        line: the line of the handler's object.
        outputs: how many the handler returns.
        sentence: which of them the visitor reads meanwhile.

    AgeEditErrors become a message on the page, in the visitor's language; what was there stays.
    """

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        def row(text: Any) -> list[Any]:
            values: list[Any] = [gr.skip()] * outputs
            values[sentence] = text
            return values

        @functools.wraps(handler)
        def wrapped(self: Any, visit: Any, *values: Any) -> Iterator[Any]:
            request = values[-1]
            told = False
            earlier = "" if visit is None else visit.line
            try:
                with line(self).place() as place:
                    for text in until_served(place, request):
                        told = True
                        yield row(text)
                    answer = list(handler(self, visit, *values))
                if told and answer[sentence] == gr.skip():
                    answer[sentence] = earlier
                yield answer
            except Forgotten:  # nobody is there to read it, or another photo was chosen
                yield row(earlier if told else gr.skip())
            except AgeEditError as error:
                if told:
                    yield row(earlier)
                raise message(error) from None

        return wrapped

    return decorate
