"""A sheet of edits to look at: one row a photo, one column an age."""

from pathlib import Path

import cv2
import numpy as np

from agedit.align import align
from agedit.editor import AgeEditor
from agedit.errors import AgeEditError
from agedit.mark import stamp
from agedit.photo import READ_ENDINGS, load_photo


def sheet(photos, engine, years=(-20, 0, 20, 40), submodel=None, strict=False, size=256):
    """Aligned faces of `photos` (paths) by `years`, written under each: RGB uint8 (rows * size, columns *
    size, 3),
    with the words that it was edited.

    The face is cut at `size` pixels and edited there, so the sheet shows what the full photo gets.
    Photos without a usable face are left out; raises AgeEditError when none is left.
    """
    rows, editor = [], AgeEditor(engine, submodel)
    for path in photos:
        try:
            editor.set_photo(load_photo(path))
        except AgeEditError:
            continue
        prepared, row = editor.prepare(0), []
        crop = align(editor.rgb, prepared.face, size)
        for y in years:
            edit = editor.edit(y, strict=strict)
            reading = editor.read(edit)
            if strict:
                cell = cv2.resize(edit.picture, (size, size), interpolation=cv2.INTER_CUBIC)
            else:
                cell = crop.copy() if y == 0 else prepared.shown(crop, edit.changes[0])
            row.append(
                _label(
                    cell,
                    f"{y:+d}: {reading['age_after']:.0f}"
                    if y or strict
                    else f"photo: {reading['age_before']:.0f}",
                )
            )
        rows.append(np.hstack(row))
    if not rows:
        raise AgeEditError("None of these photos has a usable face.")
    picture = np.vstack(rows)
    return stamp(picture) if strict or any(years) else picture


def pictures_in(folder):
    """Paths of the pictures in a folder, or of one picture, sorted."""
    folder = Path(folder)
    files = (
        [folder]
        if folder.is_file()
        else sorted(p for p in folder.glob("*") if p.suffix.lower() in READ_ENDINGS)
    )
    if not files:
        raise AgeEditError(f"There are no pictures in {folder}; name a folder with JPEG, PNG or WebP photos.")
    return files


def _label(cell, text):
    cell, at = np.ascontiguousarray(cell), (6, cell.shape[0] - 8)
    scale = cell.shape[0] / 460
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(cell, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
    return cell
