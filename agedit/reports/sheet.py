"""A sheet of edits to look at: one row a photo, one column an age."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from agedit.align import align
from agedit.editor import AgeEditor
from agedit.errors import AgeEditError
from agedit.mark import stamp
from agedit.photo import READ_ENDINGS, load_photo
from agedit.runtime import Engine
from agedit.submodel import Submodel

Picture = npt.NDArray[np.uint8]
"""RGB (H, W, 3)."""

LABEL_MARGIN = (6, 8)
"""Pixels from the left and from the bottom."""

LABEL_SCALE = 1 / 460
"""Size of the letters of a cell's label, by the cell's edge in pixels."""

LABEL_STROKES = (((0, 0, 0), 3), ((255, 255, 255), 1))
"""White on a black outline, readable on any photo: RGB colour, and width in pixels."""


def sheet(
    photos: Iterable[str | Path],
    engine: Engine,
    years: Sequence[int] = (-20, 0, 20, 40),
    submodel: Submodel | None = None,
    strict: bool = False,
    size: int = 256,
) -> Picture:
    """Aligned faces of `photos` (paths), a row each, by `years`, with the judged age written under each,
    and the words that it was edited.

    The face is cut at `size` pixels and edited there, so the sheet shows what the full photo gets.
    Photos without a usable face are left out.

    Returns:
        RGB uint8 (rows * size, columns * size, 3). Raises AgeEditError when no photo is left.
    """
    rows = []
    editor = AgeEditor(engine, submodel)
    for path in photos:
        try:
            rgb = load_photo(path)
            editor.set_photo(rgb)
        except AgeEditError:
            continue
        crop = np.asarray(align(rgb, editor.prepare(0).face, size), np.uint8)
        rows.append(np.hstack([_cell(editor, crop, value, strict) for value in years]))
    if not rows:
        raise AgeEditError("None of these photos has a usable face.")
    picture = np.vstack(rows)
    return stamp(picture) if strict or any(years) else picture


def _cell(editor: AgeEditor, crop: Picture, years: int, strict: bool) -> Picture:
    """One edit of the largest face, labelled. crop: the face before it, at the size of a cell."""
    edit = editor.edit(years, strict=strict)
    reading = editor.read(edit)
    if strict:
        cell = cv2.resize(edit.picture, crop.shape[:2], interpolation=cv2.INTER_CUBIC)
    elif years == 0:
        cell = crop.copy()
    else:
        cell = editor.prepare(0).shown(crop, edit.changes[0])
    if years or strict:
        return _label(cell, f"{years:+d}: {reading['age_after']:.0f}")
    return _label(cell, f"photo: {reading['age_before']:.0f}")


def pictures_in(folder: str | Path) -> list[Path]:
    """Paths of the pictures in a folder, sorted, or of one picture. Raises AgeEditError if there are none."""
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in READ_ENDINGS)
    if not files:
        raise AgeEditError(f"There are no pictures in {folder}; name a folder with JPEG, PNG or WebP photos.")
    return files


def _label(cell: npt.ArrayLike, text: str) -> Picture:
    """The cell with `text` at its lower left."""
    labelled = np.ascontiguousarray(cell, np.uint8)
    left, bottom = LABEL_MARGIN
    place = (left, labelled.shape[0] - bottom)
    scale = labelled.shape[0] * LABEL_SCALE
    for colour, width in LABEL_STROKES:
        cv2.putText(labelled, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
    return labelled
