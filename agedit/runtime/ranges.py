"""Ranges of the inputs of int8 layers, measured by running the network in floating point."""

from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from agedit.runtime.backends import Feed, open_session
from agedit.runtime.generator_graph import generator_graph
from agedit.runtime.int8 import widest
from agedit.submodel import layers


def measure_ranges(
    arrays: Mapping[str, npt.NDArray[np.floating]], r: int, c: float, feeds: Iterable[Feed]
) -> dict[str, npt.NDArray[np.float32]]:
    """{layer: (2, C)}: the least and most of G_{r,c}'s layer inputs over `feeds` (see `int8.widest`).

    Args:
        arrays: of the full generator.
    """
    wanted = layers(r, c)
    names = list(wanted)
    session = open_session(generator_graph(arrays, r, c, watched=True))

    def run(feed: Feed) -> Mapping[str, npt.NDArray[np.float32]]:
        values = cast("list[npt.NDArray[np.float32]]", session.run(names, dict(feed)))
        return dict(zip(names, values, strict=True))

    return widest(run, wanted, feeds)
