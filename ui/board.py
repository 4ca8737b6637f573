"""What the stage and the strip of `stage.js` and `strip.js` are told: small dictionaries in HTML that nobody
reads.
"""

from typing import Any, TypedDict
from urllib.parse import quote

import numpy as np
import orjson

from agedit.align import Face

HEAD = 1.5
"""Edge of the square around a face on the page, in widths of its landmarks."""

SMALL = 0.14
"""Of the picture's shorter side: a face that is smaller opens zoomed."""

CROP_PLACE = (0.16, 0.1, 0.68, 0.86)
"""Where the head is in an aligned crop: x, y, width, height, as shares of it."""


class Ring(TypedDict):
    """One face on the picture; places as shares of the picture's width and height."""

    x: float
    y: float
    w: float
    h: float
    age: int | None
    """Apparent age as the face is shown; None before anybody asked."""


class Board(TypedDict):
    """An edit as the stage shows it."""

    visit: str
    set: str
    """Names the key pictures that belong to this edit."""
    view: str
    who: int
    """-1: everyone."""
    before: str
    after: str
    years: float
    own: dict[str, float]
    """Years by face."""
    now: float
    """Apparent age in the photo."""
    then: float
    """Apparent age in the edit."""
    best: bool
    quality: str
    """In words."""
    dot: str
    """"good", "fair" or "learning"."""
    note: str
    place: tuple[float, float, float, float]
    """Of the face in hand: x, y, width, height, as shares of the picture."""
    faces: list[Ring]
    low: float
    high: float


class Key(TypedDict):
    """One picture that the slider is made of."""

    years: float
    path: str
    age: float


class Keys(TypedDict):
    """Those that are there so far."""

    visit: str
    set: str
    stops: list[float]
    """Years of all of them."""
    keys: list[Key]
    ready: str
    """In words; "" while some are missing."""


def told(content: object) -> str:
    """As HTML for a Markdown that is not shown; percent-encoded, so that no HTML is in it."""
    return f'<div data-told="{quote(orjson.dumps(content).decode())}"></div>'


def nothing() -> str:
    """No photo."""
    return told({})


def place_of(face: Face, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """(x, y, width, height) of the head, as shares of a photo of this shape."""
    height, width = shape[:2]
    size = float(np.ptp(face.points, axis=0).max()) * HEAD
    x, y = face.centre - size / 2
    return float(x / width), float((y - 0.08 * size) / height), size / width, size / height


def is_small(face: Face, shape: tuple[int, ...]) -> bool:
    """Whether a photo of this shape shows so little of the face that it opens zoomed."""
    return float(np.ptp(face.points, axis=0).max()) < SMALL * min(shape[:2])


def words_for_scripts(words: dict[str, dict[str, Any]]) -> str:
    """The words that scripts put on the page, in every language: those whose key begins with "s_"."""
    chosen = {
        language: {key[2:]: text for key, text in table.items() if key.startswith("s_")}
        for language, table in words.items()
    }
    return told(chosen)
