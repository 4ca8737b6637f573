"""One edit, written and told about: the same for one photo and for many."""

import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

from agedit.batch.choices import PIPE
from agedit.clock import milliseconds_since
from agedit.editor import AgeEditor, Edit, Submodel
from agedit.photo import Photo, encode_like, save_photo
from agedit.weights import Weights


@dataclass(frozen=True)
class Asked:
    """What is done to a photo besides the years. face: its number, or "all". submodel: default: the best."""

    face: int | Literal["all"] = 0
    strict: bool = False
    submodel: Submodel | None = None


def edit_and_save(
    editor: AgeEditor, photo: Photo, years: float, output: str | os.PathLike[str], asked: Asked
) -> dict[str, Any]:
    """Edit the photo that `editor` has, write it, and return what --json prints.

    Args:
        output: a path, whose ending is the format, or `PIPE`, which gets the photo's own format or PNG.
    """
    result = edit_photo(editor, years, asked.face, asked.strict)
    reading = editor.read(result, next(iter(result.years)))
    notes = beyond_reach(editor.engine.weights, reading["age_before"], years)
    start = time.perf_counter()
    synthetic = bool(result.changes) or asked.strict
    if os.fspath(output) == PIPE:
        data = encode_like(photo, result.picture, synthetic=synthetic)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        save_photo(output, result.picture, synthetic=synthetic, like=photo)
    ms = result.ms | {"write": milliseconds_since(start)}
    r, c = result.submodel
    return {
        "output": os.fspath(output),
        "faces": len(editor.faces),
        "face": asked.face,
        "submodel": {"r": r, "c": c},
        "years": years,
        **reading,
        "strict": asked.strict,
        "ms": rounded(ms),
        "notes": notes,
    }


def summary(data: dict[str, Any]) -> str:
    """The same for people, one line, from what `edit_and_save` returns."""
    ms = data["ms"]
    return (
        f"{data['output']}: {data['years']:+g} years with {data['submodel']['r']} px, "
        f"c = {data['submodel']['c']:g}; about {data['age_before']:.0f} before, "
        f"{data['age_after']:.0f} after, identity {data['identity']:.2f} "
        f"({ms['generate'] + ms['blend']:.0f} ms to generate and blend)"
    )


def rounded(ms: dict[str, float]) -> dict[str, float]:
    return {stage: round(taken, 2) for stage, taken in ms.items()}


def edit_photo(editor: AgeEditor, years: float, face: int | Literal["all"], strict: bool) -> Edit:
    """The edit, whose times are those of a slider move: what a photo needs once is done before."""
    for index in editor.indices(face):
        editor.prepare(index, None if strict else editor.submodel)
    return editor.edit(years, face, strict=strict)


def beyond_reach(weights: Weights, age: float, years: float) -> list[str]:
    """A note, where more years were asked for than the networks know at this age."""
    low, high = weights.calibration.reach(age)
    if low <= years <= high:
        return []
    end = high if years > 0 else low
    return [
        f"Beyond {end:+.0f} years nothing changes for a face that looks about {age:.0f}: "
        "the networks know no further."
    ]
