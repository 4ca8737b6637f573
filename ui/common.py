"""What the tabs share: errors in plain words, one queue for everything that computes."""

import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from agedit import AgeEditError
from agedit.paths import weights_folder
from ui.compat import WENT_WRONG, log_error
from ui.uploads import NAME
from ui.words import plainly, t

P = ParamSpec("P")
R = TypeVar("R")

BUDGETS = (10, 1000, 150)  # ms: lowest, highest, default
ONE = {"concurrency_id": "edit", "concurrency_limit": 1}  # edits must not spoil each other's times
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


COMMAND = re.compile(r"\s+with --[a-z-]+|[;,]?\s+`[^`]*`[^.;]*")  # what a visitor of the page cannot type
# of an absolute path, all but its name
FOLDERS = re.compile(r"(?<![\w:/])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\;:,]+[\\/])+")
OURS = (
    weights_folder(),
    Path(tempfile.gettempdir()),
    Path(get_upload_folder()),
    Path.home(),
)  # also with spaces in them


def for_visitors(sentence: str) -> str:
    """An error of `agedit`'s as a visitor may read it: without folders of this machine, commands, and
    made-up names.
    """
    plain = COMMAND.sub("", sentence)
    for folder in OURS:
        plain = plain.replace(f"{folder}{os.sep}", "/")
    return NAME.sub("The picture", FOLDERS.sub("", plain))


def _message(error: Exception) -> gr.Error:
    """The plain sentence that a visitor sees for an error, in their language."""
    sentence = for_visitors(str(error)) if isinstance(error, AgeEditError) else WENT_WRONG
    if not isinstance(error, AgeEditError):
        log_error(error)
    return gr.Error(plainly(LocalContext.request.get(None), sentence), duration=12, print_exception=False)


def said(function: Callable[P, R]) -> Callable[P, R]:
    """Errors become a message on the page, in the visitor's language; what was there stays."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise _message(error) from None

    return wrapped


def said_in_turns(function: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
    """The same for a function that yields."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        try:
            yield from function(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise _message(error) from None

    return wrapped


class Slider(gr.Slider):
    """A slider whose number box may hold anything while somebody types: the value is brought into the
    range.
    """

    is_template = True  # drawn by the front end's own slider

    def preprocess(self, payload):
        value = self.value if payload is None else payload
        return super().preprocess(min(max(value, self.minimum), self.maximum))


def budget_slider(name, **layout):
    """How long an edit may take; one on each tab that needs it. name: elem_id."""
    return Slider(*BUDGETS, step=5, label=t("budget"), elem_id=name, buttons=[], **layout)


def untouched(*folders):
    """For an Image's `preprocess`: the path of the file as it was uploaded, so that `agedit.load_photo` reads it
    and says plainly what is wrong with it.

    Files outside the upload folder and `folders` are refused, whatever a client names.
    """

    def preprocess(payload):
        if payload is None or not payload.path:
            return None
        path = Path(payload.path).resolve()
        if not any(path.is_relative_to(Path(f).resolve()) for f in (get_upload_folder(), *folders)):
            raise gr.Error(
                "That picture was not uploaded here; upload it and try again.", print_exception=False
            )
        return str(path)

    return preprocess
