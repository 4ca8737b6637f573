"""A program of its own that `light` runs: how long the package takes to load, and a photo's first edit.

    python -m agedit.bench.fresh_start PHOTO.jpg

Prints one JSON object (see `FreshStart`). Where `app.py` is in the working folder, loading it counts too.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import TypedDict

BUDGET = 150
"""Milliseconds: the waiting budget whose sub-models are warm before the photo arrives."""

YEARS = 20
"""Of the first edit."""


class FreshStart(TypedDict):
    """load_s: seconds to load and warm up. first_edit_s: seconds from the photo's file to its first edit.
    torch: whether it was imported.
    """

    load_s: float
    first_edit_s: float
    torch: bool


def measure(photo: str) -> FreshStart:
    """To be called once in a new process: imports here are part of what is timed."""
    start = time.perf_counter()
    from agedit import AgeEditor, load_photo
    from agedit.selection.tuner import Tuner

    editor = AgeEditor()
    if Path("app.py").is_file():
        importlib.import_module("app")
    tuner = Tuner(editor.engine)
    tuner.time_once(editor.submodel)
    tuner.rest(BUDGET)
    loaded = time.perf_counter()
    editor.set_photo(load_photo(photo))
    editor.edit(YEARS)
    edited = time.perf_counter()
    return {
        "load_s": round(loaded - start, 2),
        "first_edit_s": round(edited - loaded, 2),
        "torch": "torch" in sys.modules,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
