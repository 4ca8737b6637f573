"""Errors as a visitor of the page reads them: one plain sentence in their language."""

import functools
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from agedit import AgeEditError
from agedit.paths import weights_folder
from ui.compat import log_error, plain_sentence
from ui.uploads import NAME
from ui.words import plainly

P = ParamSpec("P")
R = TypeVar("R")

SECONDS_SHOWN = 12
"""How long a message stays."""

COMMAND = re.compile(r"\s+with --[a-z-]+|[;,]?\s+`[^`]*`[^.;]*")
"""What a visitor of the page cannot type."""

FOLDERS = re.compile(r"(?<![\w:/])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\;:,]+[\\/])+")
"""Of an absolute path, all but its name."""

OURS = (weights_folder(), Path(tempfile.gettempdir()), Path(get_upload_folder()), Path.home())
"""Folders that messages may name, also with spaces in them."""


def for_visitors(sentence: str) -> str:
    """An error of `agedit` without folders of this machine, commands, and made-up names."""
    plain = COMMAND.sub("", sentence)
    for folder in OURS:
        plain = plain.replace(f"{folder}{os.sep}", "/")
    return NAME.sub("The picture", FOLDERS.sub("", plain))


def message(error: Exception) -> gr.Error:
    """The sentence that a visitor sees for an error. One that nobody expected goes to the log."""
    if isinstance(error, AgeEditError):
        sentence = for_visitors(str(error))
    else:
        sentence = plain_sentence(error)
        log_error(error)
    request = LocalContext.request.get(None)
    return gr.Error(plainly(request, sentence), duration=SECONDS_SHOWN, print_exception=False)


def said(function: Callable[P, R]) -> Callable[P, R]:
    """A handler whose errors become a message on the page; what was there stays."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            raise message(error) from None

    return wrapped
