"""Gradio's components, where the page wants a little more of them than they do."""

from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from ui.photos import Saved, Upload
from ui.settings import DEFAULT_BUDGET, HIGHEST_BUDGET, LOWEST_BUDGET
from ui.words import t

BUDGET_STEP = 5
"""Milliseconds."""


class PhotoInput(gr.Image):
    """Where a photo comes in.

    Handlers get an `Upload`; whether it is this visitor's, `Sessions.claim` knows.
    """

    is_template = True  # drawn by the front end's own image

    def preprocess(self, payload: Any) -> Any:
        """The `Upload` that the page names, or None."""
        return _upload(payload)


class FileInput(gr.UploadButton):
    """Where any other file comes in: a profile, or a pasted photo."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        """The `Upload` that the page names, or None."""
        return _upload(payload)


class SaveButton(gr.DownloadButton):
    """A button that saves a file, a `Saved`, under another name than it has here."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        """Nothing: no handler reads it."""
        return None

    def postprocess(self, value: Any) -> FileData | None:
        """The file and the name that the browser gives it."""
        if value is None:
            return None
        assert isinstance(value, Saved)
        return FileData(path=value.path, orig_name=value.name)


def _upload(payload: Any) -> Upload | None:
    if payload is None or not payload.path:
        return None
    return Upload(payload.path, payload.orig_name or "")


class Slider(gr.Slider):
    """A slider whose number box may hold anything while somebody types: values are brought into range."""

    is_template = True  # drawn by the front end's own slider

    def preprocess(self, payload: Any) -> Any:
        """A number within the slider's range; its own value where the box is empty."""
        value = self.value if payload is None else payload
        return super().preprocess(min(max(value, self.minimum), self.maximum))


def budget_slider(name: str, **layout: Any) -> Slider:
    """How long an edit may take, in ms; one on each tab that needs it.

    Args:
        name: the element's id.
        layout: such as `scale`.
    """
    return Slider(
        LOWEST_BUDGET,
        HIGHEST_BUDGET,
        DEFAULT_BUDGET,
        step=BUDGET_STEP,
        label=t("budget"),
        elem_id=name,
        buttons=[],
        **layout,
    )
