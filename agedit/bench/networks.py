"""What each sub-model costs on this device, beside the rate of plain convolutions."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypedDict, cast

import numpy as np
import numpy.typing as npt

from agedit.bench.timing import Progress, Task, interleaved
from agedit.clock import milliseconds_since
from agedit.runtime import (
    measure_ranges,
    open_session,
    open_submodel,
    quickest_precision,
    usable_cores,
    uses_openvino,
)
from agedit.runtime.graphs import convolutions_graph, generator_graph, photo_inputs
from agedit.selection.times import Times
from agedit.submodel import (
    FEATURES,
    KERNEL_VALUES,
    MAPPING_LAYERS,
    PHOTO_CHANNELS,
    START,
    STYLE,
    Submodel,
    blocks,
    cost,
    label,
)

Array = npt.NDArray[np.float32]
Feed = dict[str, Array]
"""{name of an input: its value}."""

Network = Callable[[Feed], Array]
"""A network that is ready to run."""

YARDSTICK_CHANNELS = 128
YARDSTICK_EDGE = 64
"""Pixels."""
YARDSTICK_COUNT = 8
"""Convolutions in a row."""

RESOLUTIONS = (128, 256, 512, 1024)
"""Pixels."""

SHAPES: tuple[Submodel, ...] = tuple((r, c) for r in RESOLUTIONS for c in (1.0, 0.25))
"""The sub-models that are timed, each resolution wide and narrow."""


class Workload(NamedTuple):
    """Something to time, and the multiply-adds of one run."""

    run: Callable[[], Array]
    macs: int


class SubmodelRate(TypedDict):
    """A sub-model with random weights. share: its multiply-adds a second over the plain convolutions'."""

    r: int
    c: float
    p50_ms: float
    p90_ms: float
    gmacs: float
    share: float


class PrecisionRates(TypedDict):
    """All sub-models in one precision.

    yardstick_gflops: 10^9 floating point operations a second of plain convolutions, two a multiply-add.
    narrow: {resolution: time of c = 1 over that of c = 1/4}.
    """

    yardstick_gflops: float
    submodels: list[SubmodelRate]
    narrow: dict[str, float]


class NetworkRates(TypedDict):
    """precisions: by name. extract_ms: slicing and building, open_ms: compiling, by "r:c"."""

    precisions: dict[str, PrecisionRates]
    extract_ms: dict[str, float]
    open_ms: dict[str, float]


class _Opened(NamedTuple):
    """A sub-model that is ready to run."""

    run: Task
    extract_ms: float
    open_ms: float


class _YardstickKey(NamedTuple):
    """Plain convolutions in a precision and a runtime."""

    precision: str
    runtime: str


class _NetworkKey(NamedTuple):
    """A sub-model in a precision."""

    precision: str
    submodel: Submodel


def random_generator(largest: int = 1024, seed: int = 0) -> dict[str, Array]:
    """Arrays of an untrained full generator, for times at resolutions that were not trained yet."""
    draw = _Normal(seed)
    arrays = {"start": draw(1, START, 4, 4)}
    for i in range(MAPPING_LAYERS):
        arrays[f"mapping.{i}.weight"] = draw(STYLE, FEATURES)
        arrays[f"mapping.{i}.bias"] = np.zeros(STYLE, np.float32)
    for block in blocks(largest):
        for layer, styled, photo in (("conv1", block.inputs, PHOTO_CHANNELS), ("conv2", block.outputs, 0)):
            name = f"blocks.{block.size}.{layer}."
            arrays[name + "weight"] = draw(block.outputs, styled + photo, 3, 3)
            arrays[name + "bias"] = np.zeros(block.outputs, np.float32)
            arrays[name + "style_weight"] = draw(styled, STYLE)
            arrays[name + "style_bias"] = np.ones(styled, np.float32)
        arrays[f"blocks.{block.size}.to_rgb.weight"] = draw(3, block.outputs, 1, 1)
        arrays[f"blocks.{block.size}.to_rgb.bias"] = np.zeros(3, np.float32)
    return arrays


class _Normal:
    """Draws float32 arrays from a normal distribution, scaled so that a layer keeps its input's size."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Array:
        fan_in = int(np.prod(shape[1:]))
        return (self._rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def open_network(graph: bytes, threads: int, precision: str | None = None) -> Network:
    """See `runtime.open_submodel`."""
    return cast(Network, open_submodel(graph, threads, precision))


def convolutions(threads: int, precision: str = "f32", openvino: bool = False) -> Workload:
    """The yardstick: plain 3 x 3 convolutions in a row, the layout left to the runtime."""
    shape = (1, YARDSTICK_CHANNELS, YARDSTICK_EDGE, YARDSTICK_EDGE)
    feed = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    model = convolutions_graph(YARDSTICK_CHANNELS, YARDSTICK_EDGE, YARDSTICK_COUNT, precision == "i8")
    macs = YARDSTICK_COUNT * YARDSTICK_CHANNELS**2 * KERNEL_VALUES * YARDSTICK_EDGE**2
    if openvino:
        run = open_network(model, threads, precision)

        def run_in_openvino() -> Array:
            return run(feed)

        return Workload(run_in_openvino, macs)
    session = open_session(model, threads)

    def run_in_onnxruntime() -> Array:
        return cast(Array, session.run(None, feed)[0])

    return Workload(run_in_onnxruntime, macs)


def networks(tell: Progress | None = None) -> NetworkRates:
    """Random-weight G_{r,c} against the rate of plain convolutions, in turns, in every precision that this
    device uses. In fp32 the plain convolutions are those of the quickest runtime.
    """
    threads = usable_cores()
    precisions = ["f32"]
    if uses_openvino() and quickest_precision() != "f32":
        precisions.append(quickest_precision())
    yardsticks = _yardsticks(threads, precisions)
    opened = _open_all(threads, precisions)
    tasks: dict[_YardstickKey | _NetworkKey, Task] = {}
    tasks |= {key: workload.run for key, workload in yardsticks.items()}
    tasks |= {key: network.run for key, network in opened.items()}
    times = interleaved(tasks, tell=tell, again=True)
    rates = {}
    for name in precisions:
        plain = [
            workload.macs / times[key].p50 for key, workload in yardsticks.items() if key.precision == name
        ]
        timed = {key.submodel: times[key] for key in opened if key.precision == name}
        rates[name] = _rates(timed, max(plain))
    return {
        "precisions": rates,
        "extract_ms": {label(key.submodel): round(it.extract_ms, 1) for key, it in opened.items()},
        "open_ms": {label(key.submodel): round(it.open_ms, 1) for key, it in opened.items()},
    }


def _yardsticks(threads: int, precisions: Iterable[str]) -> dict[_YardstickKey, Workload]:
    result = {_YardstickKey("f32", "onnxruntime"): convolutions(threads)}
    if uses_openvino():
        for name in precisions:
            result[_YardstickKey(name, "openvino")] = convolutions(threads, name, openvino=True)
    return result


def _open_all(threads: int, precisions: Iterable[str]) -> dict[_NetworkKey, _Opened]:
    """Every sub-model of SHAPES in every precision, with random weights and inputs."""
    arrays = random_generator()
    rng = np.random.default_rng(1)
    result = {}
    for name in precisions:
        for submodel in SHAPES:
            feed = _random_feed(rng, submodel[0])
            result[_NetworkKey(name, submodel)] = _open(arrays, submodel, name, feed, threads)
    return result


def _random_feed(rng: np.random.Generator, resolution: int) -> Feed:
    features = rng.standard_normal((1, FEATURES)).astype(np.float32)
    photo = rng.uniform(-1, 1, (1, 3, resolution, resolution)).astype(np.float32)
    return {"f": features} | photo_inputs(photo)


def _open(arrays: Feed, submodel: Submodel, precision: str, feed: Feed, threads: int) -> _Opened:
    r, c = submodel
    ranges = measure_ranges(arrays, r, c, [feed]) if precision == "i8" else None
    start = time.perf_counter()
    graph = generator_graph(arrays, r, c, ranges)
    extract_ms = milliseconds_since(start)
    start = time.perf_counter()
    network = open_network(graph, threads, precision)
    open_ms = milliseconds_since(start)

    def run() -> Array:
        return network(feed)

    return _Opened(run, extract_ms, open_ms)


def _rates(timed: dict[Submodel, Times], yardstick_rate: float) -> PrecisionRates:
    """yardstick_rate: multiply-adds a millisecond of the plain convolutions."""
    return {
        "yardstick_gflops": round(2 * yardstick_rate / 1e6, 1),
        "submodels": [_rate(submodel, times, yardstick_rate) for submodel, times in timed.items()],
        "narrow": {str(r): round(timed[r, 1.0].p50 / timed[r, 0.25].p50, 2) for r in RESOLUTIONS},
    }


def _rate(submodel: Submodel, times: Times, yardstick_rate: float) -> SubmodelRate:
    """yardstick_rate: multiply-adds a millisecond of the plain convolutions."""
    r, c = submodel
    macs = cost(r, c).macs
    return {
        "r": r,
        "c": c,
        "p50_ms": round(times.p50, 2),
        "p90_ms": round(times.p90, 2),
        "gmacs": round(macs / 1e9, 2),
        "share": round(macs / times.p50 / yardstick_rate, 3),
    }
