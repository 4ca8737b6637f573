"""How networks are run on this machine: ONNX graphs, backends, precisions, cores and memory."""

from typing import TYPE_CHECKING, Any

from agedit.runtime.backends import (
    half_precision,
    open_session,
    open_submodel,
    openvino_core,
    runtime_name,
    uses_openvino,
)
from agedit.runtime.generator_graph import generator_graph
from agedit.runtime.graphs import convolutions_graph, encoder_graph, map_features, photo_inputs
from agedit.runtime.host import give_back_memory, one_heap, quotas, usable_cores
from agedit.runtime.precision import Precision, floating, precisions, quickest_precision
from agedit.runtime.ranges import measure_ranges

if TYPE_CHECKING:
    from agedit.engine import Engine, to_network

__all__ = [
    "Engine",
    "Precision",
    "convolutions_graph",
    "encoder_graph",
    "floating",
    "generator_graph",
    "give_back_memory",
    "half_precision",
    "map_features",
    "measure_ranges",
    "one_heap",
    "open_session",
    "open_submodel",
    "openvino_core",
    "photo_inputs",
    "precisions",
    "quickest_precision",
    "quotas",
    "runtime_name",
    "to_network",
    "usable_cores",
    "uses_openvino",
]


def __getattr__(name: str) -> Any:
    """`Engine` and `to_network` live in `agedit.engine`, which itself imports this package."""
    if name not in ("Engine", "to_network"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agedit import engine

    return getattr(engine, name)
