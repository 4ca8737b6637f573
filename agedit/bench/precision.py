"""What a reduced precision costs in quality on this device."""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np

from agedit.bench.networks import Array, open_network
from agedit.editor import AgeEditor
from agedit.photo import load_photo
from agedit.runtime import Engine
from agedit.runtime.graphs import generator_graph
from agedit.selection.tuner import REFERENCE

YEARS = (-20, 30)
"""Edits of each portrait that are compared."""


class PrecisionCost(TypedDict):
    """The picture shown in `precision` against fp32's.

    levels: mean absolute difference over the whole crop, of 255. worst_levels: the largest of a pixel.
    judged_years_apart: mean difference of the judged ages, in years.
    """

    precision: str
    levels: float
    worst_levels: int
    judged_years_apart: float


class _Difference(NamedTuple):
    """Of one edit's two pictures: levels of 255 on the mean and at most, and years."""

    levels: float
    worst_levels: int
    years: float


def lowered(engine: Engine) -> PrecisionCost | None:
    """The full network on the portraits, in the precision that runs and in fp32; None where that is fp32."""
    if engine.precision == "f32":
        return None
    rows = list(_differences(engine))
    return {
        "precision": engine.precision,
        "levels": round(float(np.mean([row.levels for row in rows])), 3),
        "worst_levels": max(row.worst_levels for row in rows),
        "judged_years_apart": round(float(np.mean([row.years for row in rows])), 2),
    }


def _differences(engine: Engine) -> Iterator[_Difference]:
    full = engine.weights.full
    exact = _ExactNetwork(engine)
    for path in sorted(REFERENCE.parent.glob("*.jpg")):
        editor = AgeEditor(engine, full)
        editor.set_photo(load_photo(path))
        prepared = editor.prepare(0)
        for years in YEARS:
            change = (exact.run(editor, years) - exact.run(editor, 0))[0].transpose(1, 2, 0) * 127.5
            precise = prepared.shown(prepared.crop, prepared.as_shown(change))
            shown = editor.crop(editor.edit(years))
            apart = np.abs(shown.astype(np.int16) - precise)
            years_apart = abs(engine.readout.age(shown)[0] - engine.readout.age(precise)[0])
            yield _Difference(float(apart.mean()), int(apart.max()), years_apart)


class _ExactNetwork:
    """The full network in fp32."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._r, self._c = engine.weights.full
        graph = generator_graph(engine.weights.part("generator"), self._r, self._c)
        self._network = open_network(graph, engine.cores, "f32")

    def run(self, editor: AgeEditor, years: float) -> Array:
        """G(f') of the editor's first face, float32 (1, 3, r, r) in about -1..1."""
        prepared = editor.prepare(0)
        weights = self._engine.weights
        alpha = weights.alpha(years, prepared.age, prepared.blur, self._r, self._c)
        shifted = prepared.f + np.float32(alpha) * weights.age_vector
        return self._network({"f": shifted, **self._engine.inputs(prepared.seen, self._r)})
