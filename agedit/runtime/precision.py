"""In which precision sub-models are computed: the quickest one whose pictures are right on this processor.

int8 without int8 instructions saturates: on AVX2 alone OpenVINO's pictures are ten times as far from fp32's
as rounding to int8 explains, and it is quick all the same. Why a picture is wrong does not matter here: it is
looked at, on a real face.
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from agedit.errors import AgeEditError
from agedit.runtime import backends
from agedit.runtime.backends import Feed
from agedit.runtime.generator_graph import generator_graph
from agedit.runtime.graphs import convolutions_graph
from agedit.runtime.host import give_back_memory, usable_cores
from agedit.weights import Weights

FACE = Path(__file__).resolve().parent / "reference_face.png"
"""London 001 (CC BY 4.0), aligned, 128 px."""

MOST_LEVELS = 1.0
"""Mean difference from fp32's picture, in levels of 255, that a precision may cost at most.

Rounding to int8 costs 0.4 to 0.7 in the released sub-models, to bf16 0.2, to f16 0.03; int8 that saturates
costs 4.5 to 5.3.
"""

MOST_TIMES = 1.5
"""How many times what rounding to int8 costs by itself, computed exactly, int8 may cost.

bf16 between the layers adds a fifth, ties a little.
"""

MAX_HALF_TIME = 0.85
"""Share of fp32's time that bf16 or f16 may take at the most to be used."""

MAX_INT8_TIME = 0.8
"""Share of the quicker floating-point precision's time that int8 may take at the most to be used."""

PROBE_RUNS = 5
"""Timed runs of the yardstick in each precision; the fastest counts."""

Picture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Precision:
    """What sub-models are computed in, and why.

    name: "f32", "bf16", "f16" or "i8". reason: one sentence or more. openvino: False where OpenVINO is not
    used, or cannot compute them on this processor; then ONNX Runtime does.
    """

    name: str
    reason: str
    openvino: bool = True


class Quickest(NamedTuple):
    """What OpenVINO is quickest in on this processor, whether or not its pictures are right.

    floating: "bf16", on ARM "f16", or "f32". submodel: the same, or "i8".
    """

    floating: str
    submodel: str


class Verdict(NamedTuple):
    """Whether pictures in a precision are right, and why, as a sentence."""

    right: bool
    reason: str


@functools.lru_cache(maxsize=1)
def precisions() -> Quickest:
    """What OpenVINO is quickest in, by timing a few layers: once a process, in a tenth of a second.

    int8 without its own instructions is often the quickest, and wrong (see `judge`). The full network takes,
    with neither bf16 nor int8 instructions: 68 ms in fp32, 119 in bf16, 25 in int8; with bf16 instructions
    but no matrix units (Zen 5): 90, 44, 27.
    """
    half = backends.half_precision()
    names = sorted({half, "i8", "f32"})
    runs = {name: _open_yardstick(name) for name in names}
    feed = {
        "x": np.ones((1, 128, 32, 32), np.float32),
        "style": np.ones((1, 128, 1, 1), np.float32),
    }
    least = dict.fromkeys(names, float("inf"))
    for _ in range(PROBE_RUNS):
        for name, run in runs.items():
            start = time.perf_counter()
            run(feed)
            least[name] = min(least[name], time.perf_counter() - start)
    runs.clear()
    give_back_memory()
    floating = half if least[half] < MAX_HALF_TIME * least["f32"] else "f32"
    int8_is_quicker = least["i8"] < MAX_INT8_TIME * least[floating]
    return Quickest(floating, "i8" if int8_is_quicker else floating)


def _open_yardstick(name: str) -> backends.Submodel:
    """Three styled convolutions as G_{512,1} has them, to be timed in one precision."""
    graph = convolutions_graph(128, 32, 3, int8=name == "i8", styled=True)
    return backends.open_submodel(graph, usable_cores(), name)


@functools.lru_cache(maxsize=1)
def floating() -> str:
    """The quickest precision for a network that is not in int8 whose pictures are right.

    It is judged on the released weights; "f32" where there are none.
    """
    from agedit.engine import Engine  # which chooses its precision here

    half = precisions().floating
    if half == "f32":
        return half
    try:
        return half if Engine().judge(half).right else "f32"
    except AgeEditError:  # no weights to judge by
        return "f32"


@functools.lru_cache(maxsize=1)
def quickest() -> Precision:
    """What the released weights' sub-models are computed in; "f32" where there are none."""
    from agedit.engine import Engine  # which chooses its precision here

    try:
        return Engine().chosen_precision
    except AgeEditError as error:
        return Precision("f32", str(error))


def quickest_precision() -> str:
    """The name of `quickest`."""
    return quickest().name


@dataclass(frozen=True)
class Judge:
    """Tells whether one sub-model's pictures of the reference face are right in a precision.

    weights: of the generator. submodel: (r, c), the one that draws. threads: of each run.
    feeds: its inputs, without the mapping network, for the face as it is and as an edit shifts it.
    """

    weights: Weights
    submodel: tuple[int, float]
    threads: int
    feeds: list[Feed]

    def choose(self) -> Precision:
        """The quickest precision whose pictures are right, else fp32."""
        quickest = precisions()
        refused: list[str] = []
        for name in dict.fromkeys((quickest.submodel, quickest.floating)):
            if name == "f32":
                break
            verdict = self.judge(name)
            if verdict.right:
                return Precision(name, " ".join([*refused, verdict.reason]))
            refused.append(verdict.reason)
        if not refused:
            refused.append("No other precision is quicker than fp32 on this processor.")
        if not backends.opens_in_openvino(self._graph("f32"), self.threads):
            refused.append("OpenVINO cannot compute these networks on it; ONNX Runtime does.")
            return Precision("f32", " ".join(refused), openvino=False)
        return Precision("f32", " ".join(refused))

    def judge(self, name: str) -> Verdict:
        """Compare pictures in "i8", "bf16" or "f16" with those of ONNX Runtime in fp32."""
        if name == "i8" and not self.weights.has_ranges:
            reason = "For int8 the ranges were not measured; run `python -m agedit train calibrate`."
            return Verdict(False, reason)
        exact = self._exact_pictures(self._graph("f32"))
        graph = self._graph(name)
        rounded = difference(self._exact_pictures(graph), exact) if name == "i8" else None
        try:
            run = backends.open_submodel(graph, self.threads, name)
            found = difference([run(feed) for feed in self.feeds], exact)
        except RuntimeError:  # what OpenVINO raises
            return Verdict(False, f"OpenVINO cannot compute in {label(name)} on this processor.")
        return _verdict(name, found, tolerance(rounded))

    def _graph(self, name: str) -> bytes:
        r, c = self.submodel
        ranges = self.weights.ranges(r, c) if name == "i8" else None
        return generator_graph(self.weights.part("generator"), r, c, ranges, mapped=True)

    def _exact_pictures(self, graph: bytes) -> list[Picture]:
        """(1, 3, r, r) for each feed, by ONNX Runtime, which rounds nothing that the graph does not."""
        session = backends.open_session(graph)
        return [backends.run_session(session, feed) for feed in self.feeds]


def _verdict(name: str, found: float, most: float) -> Verdict:
    figures = f"{found:.2f} levels of 255 from fp32's, where {most:.2f} may be lost"
    if found <= most:  # nan is not
        quick = f"{label(name)} is the quickest on this processor, and its pictures are right"
        return Verdict(True, f"{quick}: {figures}.")
    wrong = f"{label(name)} is quick on this processor, but its pictures are wrong"
    return Verdict(False, f"{wrong}: {figures}.")


def label(name: str) -> str:
    """How a precision is called: "int8" for "i8"; the others' names are their own."""
    return "int8" if name == "i8" else name


def reference_face() -> npt.NDArray[np.uint8]:
    """An aligned face, RGB uint8 (128, 128, 3). Raises AgeEditError where the file is missing or damaged."""
    picture = cv2.imread(str(FACE), cv2.IMREAD_COLOR)
    if picture is None:
        raise AgeEditError(f"{FACE.name} is missing or damaged; install agedit again.")
    return np.ascontiguousarray(picture[:, :, ::-1], np.uint8)


def difference(pictures: list[Picture], exact: list[Picture]) -> float:
    """Mean absolute difference in levels of 255, of the pair that differs most; nan if a value is not finite.

    Args:
        pictures, exact: (1, 3, r, r) each, in about -1..1.
    """
    return float(np.max([np.abs(a - b).mean() * 127.5 for a, b in zip(pictures, exact, strict=True)]))


def tolerance(rounded: float | None = None) -> float:
    """The `difference` up to which pictures are right, in levels of 255.

    Args:
        rounded: what rounding to int8 costs these very pictures, for int8.
    """
    return MOST_LEVELS if rounded is None else min(MOST_LEVELS, MOST_TIMES * rounded)
