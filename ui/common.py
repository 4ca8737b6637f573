"""What the tabs share: errors in plain words, one queue for everything that computes."""

import functools

from pathlib import Path

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from agedit import AgeEditError
from ui.words import plainly, t

BUDGETS = (10, 1000, 150)  # ms: lowest, highest, default
ONE = {"concurrency_id": "edit", "concurrency_limit": 1}  # edits must not spoil each other's times
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def _message(error):
    return gr.Error(plainly(LocalContext.request.get(None), str(error)), duration=12, print_exception=False)


def said(function):
    """AgeEditErrors become a message on the page, in the visitor's language; what was there stays."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except AgeEditError as error:
            raise _message(error) from None

    return wrapped


class Slider(gr.Slider):
    """A slider whose number box may hold anything while somebody types: the value is brought into the range."""

    is_template = True  # drawn by the front end's own slider

    def preprocess(self, payload):
        value = self.value if payload is None else payload
        return super().preprocess(min(max(value, self.minimum), self.maximum))


def budget_slider(name, **layout):
    """How long an edit may take; one on each tab that needs it. name: elem_id."""
    return Slider(*BUDGETS, step=5, label=t("budget"), elem_id=name, buttons=[], **layout)


def untouched(*folders):
    """For an Image's `preprocess`: the path of the file as it was uploaded, so that `agedit.load_photo` reads it and says
    plainly what is wrong with it. Files outside the upload folder and `folders` are refused, whatever a client names."""

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


def said_in_turns(function):
    """The same for a function that yields."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            yield from function(*args, **kwargs)
        except AgeEditError as error:
            raise _message(error) from None

    return wrapped
