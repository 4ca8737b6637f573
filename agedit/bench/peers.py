"""A finished edit of a 1024 px photo against other ways to get one: a U-Net and MobileStyleGAN."""

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np

from agedit.bench.networks import Array, Workload, open_network, random_generator
from agedit.bench.timing import Progress, Task, interleaved
from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.runtime import Engine, floating, measure_ranges, openvino_core
from agedit.runtime.graphs import generator_graph
from agedit.runtime.onnx_builder import Builder
from agedit.selection.tuner import REFERENCE, SHOWN, Tuner, candidate_of
from agedit.submodel import Submodel, label

RUNS = 5
"""Counted runs of each way."""

BUDGET = 100
"""Milliseconds: the sub-model that is chosen for it meets the peers."""

LARGEST = 1024
"""Pixels of our own network with random weights."""

WINDOWS = 4
"""Windows of 512 px in a picture of 1024 px, each of them a run of the U-Net."""

UNET_EDGE = 512
"""Pixels of a window."""

UNET_WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each level, the finest first."""

UNET_INPUTS = 5
"""Channels of the U-Net's input: the photo, and the ages before and after."""

STYLEGAN_FOLDER = "random_face/data"
STYLEGAN_NETWORK = "SynthesisNetwork"
"""MobileStyleGAN's synthesis network in the wheel: an OpenVINO file pair `.xml` and `.bin`."""

OWN_RANDOM = "ours 1024:1, random weights"
UNET = "unet"
MOBILE_STYLEGAN = "mobilestylegan"


class PeerTimes(TypedDict):
    """ms: median of each way by its name. picked: the name of ours that was chosen for 100 ms. unet_gmacs:
    multiply-adds of a window in 10^9.
    """

    ms: dict[str, float]
    picked: str
    unet_gmacs: float


def peers(engine: Engine, wheel: str | Path | None = None, tell: Progress | None = None) -> PeerTimes:
    """All ways in turns.

    Args:
        wheel: path of the `random-face` wheel, for MobileStyleGAN (needs the package openvino).
    """
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        picked = candidate_of(Tuner(engine, folder).choose(BUDGET))
    smallest = engine.weights.smallest
    full = engine.weights.full
    tasks: dict[str, Task] = {_own_name(it): _EditTask(engine, it) for it in (smallest, picked, full)}
    tasks[OWN_RANDOM] = _RandomEditTask(engine)
    window = unet(engine.cores)
    tasks[UNET] = window.run
    if wheel:
        tasks[MOBILE_STYLEGAN] = mobile_stylegan(wheel, engine.cores)
    times = interleaved(tasks, runs=RUNS, tell=tell)
    medians = {name: t.p50 for name, t in times.items()}
    medians[UNET] *= WINDOWS
    return {
        "ms": {name: round(ms, 1) for name, ms in medians.items()},
        "picked": _own_name(picked),
        "unet_gmacs": round(window.macs / 1e9, 1),
    }


def _own_name(submodel: Submodel) -> str:
    return f"ours {label(submodel)}"


class _EditTask:
    """What a visitor waits for with a 1024 px photo: shift, generate, blend, encode.

    Other years each time.
    """

    def __init__(self, engine: Engine, submodel: Submodel) -> None:
        self._editor = AgeEditor(engine, submodel)
        self._editor.set_photo(load_photo(REFERENCE))
        self._editor.prepare(0, submodel)
        self._turn = 0

    def __call__(self) -> None:
        self._turn += 1
        picture = self._editor.edit(10 + self._turn % 20, limit=SHOWN).picture
        encode_photo(picture, "JPEG")


class _RandomEditTask:
    """The same by a 1024 px network with random weights, which draws no face but takes as long."""

    def __init__(self, engine: Engine) -> None:
        photo = load_photo(REFERENCE)
        editor = AgeEditor(engine)
        editor.set_photo(photo)
        self._photo_shape = photo.shape
        self._shown_photo = editor.view(SHOWN)
        self._prepared = editor.prepare(0)
        self._feed = {"f": self._prepared.f, **engine.inputs(self._prepared.seen, LARGEST)}
        arrays = random_generator(LARGEST)
        int8 = engine.precision == "i8"
        ranges = measure_ranges(arrays, LARGEST, 1.0, [self._feed]) if int8 else None
        graph = generator_graph(arrays, LARGEST, 1.0, ranges)
        self._network = open_network(graph, engine.threads, engine.precision)
        self._base = self._network(self._feed)
        self._turn = 0

    def __call__(self) -> None:
        self._turn += 1
        shifted = self._prepared.f + np.float32(self._turn * 0.01)
        change = (self._network(self._feed | {"f": shifted}) - self._base)[0].transpose(1, 2, 0)
        change = self._prepared.as_shown(change * 127.5)
        picture = self._prepared.paste(self._shown_photo, self._shown_photo, change, self._photo_shape)
        encode_photo(picture, "JPEG")


def unet(threads: int, edge: int = UNET_EDGE) -> Workload:
    """A U-Net of about FRAN's size (Zoss et al., 2022: 193 G MACs for 512 px) with random weights."""
    graph = _UNetGraph(edge)
    model = graph.build()
    run = open_network(model, threads)
    feed = {"x": graph.rng.standard_normal((1, UNET_INPUTS, edge, edge)).astype(np.float32)}

    def run_window() -> Array:
        return run(feed)

    return Workload(run_window, graph.macs)


class _UNetGraph:
    """The construction of the U-Net's ONNX graph. macs: multiply-adds of its 3 x 3 convolutions so far."""

    def __init__(self, edge: int) -> None:
        self.macs = 0
        self.rng = np.random.default_rng(0)
        self._edge = edge
        self._builder = Builder()

    def build(self) -> bytes:
        """Serialized: x (1, 5, edge, edge) -> y (1, 3, edge, edge)."""
        b = self._builder
        x = "x"
        size = self._edge
        channels = UNET_INPUTS
        skips = []
        for width in UNET_WIDTHS[:-1]:
            x = self._convolve_twice(x, channels, width, size)
            skips.append((x, width))
            x = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
            size //= 2
            channels = width
        x = self._convolve_twice(x, channels, UNET_WIDTHS[-1], size)
        channels = UNET_WIDTHS[-1]
        for skip, width in reversed(skips):
            size *= 2
            x = b.add("Resize", x, "", b.constant([1, 1, 2, 2]), mode="linear")
            x = b.add("Concat", x, skip, axis=1)
            x = self._convolve_twice(x, channels + width, width, size)
            channels = width
        to_rgb = b.constant(self.rng.standard_normal((3, channels, 1, 1)))
        b.add("Conv", x, to_rgb, kernel_shape=[1, 1], output="y")
        return b.model({"x": [1, UNET_INPUTS, self._edge, self._edge]}, "y", [1, 3, self._edge, self._edge])

    def _convolve_twice(self, x: str, inputs: int, outputs: int, size: int) -> str:
        x = self._convolve(x, inputs, outputs, size)
        return self._convolve(x, outputs, outputs, size)

    def _convolve(self, x: str, inputs: int, outputs: int, size: int) -> str:
        """3 x 3 and a leaky ReLU, at `size` pixels."""
        self.macs += 9 * inputs * outputs * size * size
        kernel = self.rng.standard_normal((outputs, inputs, 3, 3)) / (3 * inputs**0.5)
        convolved = self._builder.convolution(x, kernel)
        return self._builder.add("LeakyRelu", convolved, alpha=0.2)


def mobile_stylegan(wheel: str | Path, threads: int) -> Callable[[], object]:
    """A run is one 1024 px picture by MobileStyleGAN's own OpenVINO network, from the `random-face` wheel."""
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        with zipfile.ZipFile(wheel) as archive:
            for ending in ("xml", "bin"):
                archive.extract(f"{STYLEGAN_FOLDER}/{STYLEGAN_NETWORK}.{ending}", folder)
        network = openvino_core().compile_model(
            str(Path(folder) / STYLEGAN_FOLDER / f"{STYLEGAN_NETWORK}.xml"),
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": floating()},
        )
    w = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)

    def run() -> object:
        return network([w])

    return run
