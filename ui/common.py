"""What the tabs share: errors in plain words, one queue for everything that computes."""
import functools

import gradio as gr

from agedit import AgeEditError

ONE = {"concurrency_id": "edit", "concurrency_limit": 1}        # edits must not spoil each other's times
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def said(function):
    """AgeEditErrors become a message on the page; what was there stays."""
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except AgeEditError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None
    return wrapped


def said_in_turns(function):
    """The same for a function that yields."""
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        try:
            yield from function(*args, **kwargs)
        except AgeEditError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None
    return wrapped
