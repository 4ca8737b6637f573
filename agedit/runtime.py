"""Networks as something to call, by ONNX Runtime or OpenVINO, and the threads that they may use."""

import contextlib
import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from agedit.blend import MASK_SIZE, Masker, own_share
from agedit.compat import forget_model_bytes, import_openvino
from agedit.errors import AgeEditError
from agedit.estimators import Estimators
from agedit.faces import FaceFinder
from agedit.graph import convolutions_graph, encoder_graph, generator_graph, map_features, photo_inputs
from agedit.hair import OuterHair
from agedit.precision import Precision, difference, label, reference_face, tolerance
from agedit.quantize import widest
from agedit.submodel import layers
from agedit.weights import Weights

HALF = 0.85  # of fp32's time is what bf16 or f16 may take at the most to be used
DETECTOR = "face_detection_yunet.onnx"
HAIR = "hair_segmentation_mobile.tflite"
INT8 = 0.8  # of the quicker one's time is what int8 may take at the most to be used


def quotas(root="/sys/fs/cgroup", own="/proc/self/cgroup"):
    """Cores by the quotas of this process's cgroups (v1 and v2) and of all above them; none where there is no
    quota.
    """
    try:
        lines = [line.split(":", 2) for line in Path(own).read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        for base in (Path(root) / controllers, Path(root) / "cpu") if controllers else (Path(root),):
            inside = base / path.strip(
                "/"
            )  # in a container the path may lie outside: then its root holds the quota
            for folder in [inside, *[p for p in inside.parents if p.is_relative_to(base)]]:
                try:
                    if controllers:
                        quota, period = (
                            (folder / f"cpu.cfs_{k}_us").read_text() for k in ("quota", "period")
                        )
                    else:
                        quota, period = (folder / "cpu.max").read_text().split()
                    if quota != "max" and int(quota) > 0:
                        yield max(1, int(quota) // int(period))
                except (OSError, ValueError):
                    continue


def usable_cores():
    """Cores this process may really use: affinity, then the cgroups' quotas. At least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return min([cores, *quotas()])


def open_session(model, threads=None, often=False):
    """An ONNX Runtime session on the CPU.

    Args:
        model: path or serialized bytes. threads: default all usable cores. often: keep the memory of a run
        for the next.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = often
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning slows what runs next
    if isinstance(model, (str, Path)) and not Path(model).exists():
        raise AgeEditError(f"{Path(model).name} is missing; fetch the weights folder again.")
    session = ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
    forget_model_bytes(session)
    give_back_memory()  # reading the identity network takes 77 MB, of which it needs 25
    return session


def one_heap():
    """One heap for all threads, where glibc would open one for each: what one has freed another can use; and
    none of it for arrays of four
    megabytes and more, whose memory the system has back at once. To be called before there are threads.

    Smaller ones are a move's own: had back from the system each time they cost more than the network that
    fills them.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
        ctypes.CDLL(None).mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD
        ctypes.CDLL(None).mallopt(-1, 16 << 20)  # M_TRIM_THRESHOLD


def give_back_memory():
    """To the system what was freed: after building a graph glibc keeps over 100 MB of it. Does nothing
    elsewhere.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def uses_openvino():
    """Whether sub-models run on OpenVINO: where it is installed, and AGEDIT_RUNTIME does not name
    onnxruntime.

    It reads the same ONNX graphs, and computes in bf16 or int8 where that is quicker: up to five times as
    fast.
    """
    wanted = os.environ.get("AGEDIT_RUNTIME", "")
    if wanted not in ("", "openvino", "onnxruntime"):
        raise AgeEditError(f"AGEDIT_RUNTIME is {wanted}; set it to openvino or onnxruntime, or not at all.")
    found = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino" and not found:
        raise AgeEditError(
            "AGEDIT_RUNTIME asks for OpenVINO, which is not installed; run `pip install openvino`."
        )
    return found and wanted != "onnxruntime"


@functools.lru_cache(maxsize=1)
def openvino_core():
    """OpenVINO's entry point (see `compat.import_openvino`)."""
    return import_openvino().Core()


@functools.lru_cache(maxsize=1)
def precisions():
    """What OpenVINO is quickest in on this processor, by what a few layers take: once a process, in a tenth
    of a second.

    Returns:
        ("bf16", on ARM "f16", or "f32"; the same, or "i8" (int8) for sub-models). Whether the pictures are
        right in it is not asked
        here (see `Engine.chosen_precision`): int8 without its own instructions is often the quickest, and
        wrong.

    The full network takes, with neither: 68 ms in fp32, 119 in bf16, 25 in int8; with bf16 instructions but
    no matrix units (Zen 5): 90, 44, 27.
    """
    lower, feed, least = (
        half_precision(),
        {"x": np.ones((1, 128, 32, 32), np.float32), "style": np.ones((1, 128, 1, 1), np.float32)},
        {},
    )
    runs = {
        p: open_submodel(convolutions_graph(128, 32, 3, p == "i8", styled=True), usable_cores(), p)
        for p in sorted({lower, "i8", "f32"})
    }
    for _ in range(5):
        for p, run in runs.items():
            start = time.perf_counter()
            run(feed)
            least[p] = min(least.get(p, float("inf")), time.perf_counter() - start)
    runs.clear(), give_back_memory()
    best = lower if least[lower] < HALF * least["f32"] else "f32"
    return best, "i8" if least["i8"] < INT8 * least[best] else best


@functools.lru_cache(maxsize=1)
def floating():
    """The quickest precision for a network that is not in int8 (see `precisions`) in which the released
    weights' pictures are right.
    """
    half = precisions()[0]
    if half == "f32":
        return half
    try:
        return half if Engine().judge(half)[0] else "f32"
    except AgeEditError:  # no weights to judge by
        return "f32"


@functools.lru_cache(maxsize=1)
def quickest_precision():
    """What the released weights' sub-models are computed in (see `Engine.chosen_precision`); "f32" where
    there are none.
    """
    try:
        return Engine().precision
    except AgeEditError:
        return "f32"


def half_precision():
    """ "bf16" or "f16" where this processor converts to it by itself, however quick its convolutions are in
    it; else "f32".
    """
    return openvino_core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def open_submodel(model, threads, precision=None):
    """G_{r,c} as a function: {"f": ..., "photo_8": ..., ...} -> float32 (1, 3, r, r).

    Pictures are quickest where a pixel's channels lie side by side in memory, as those of `photo_inputs` and
    the result's do.

    Args:
        model: serialized ONNX graph. precision: "f32", "bf16" or, of a graph with `ranges`, "i8" for
        OpenVINO; default: `floating`. Between
            layers in int8 values are kept in `half_precision`: a tenth quicker, 50 MB less for G_{512,1}, and
            the picture's error grows by 4%.
    """
    if uses_openvino():
        precision = precision or floating()
        try:
            return _open_in_openvino(model, threads, precision)
        except RuntimeError:  # OpenVINO does not know all graphs on processors without AVX2
            if precision != "f32":
                raise
    session = open_session(model, threads, often=True)

    def run(feed):
        return session.run(None, feed)[0]

    return run


def _open_in_openvino(model, threads, precision):
    """`open_submodel` by OpenVINO. Raises RuntimeError where it cannot compute the graph in `precision` on
    this processor.
    """
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": half_precision() if precision == "i8" else precision,
    }
    request = openvino_core().compile_model(_side_by_side(model), "CPU", options).create_infer_request()
    lock = threading.Lock()  # one request's memory serves all callers in turn

    def run(feed):
        feed = {
            k: np.ascontiguousarray(v.transpose(0, 2, 3, 1) if v.ndim == 4 else v) for k, v in feed.items()
        }
        with lock:
            return request.infer(feed, share_inputs=True)[0].copy().transpose(0, 3, 1, 2)

    return run


def measure_ranges(arrays, r, c, feeds):
    """{layer: (2, C)} of the generator `arrays`: what the inputs of G_{r,c}'s layers come to over `feeds`
    (see `quantize.widest`).
    """
    session, wanted = open_session(generator_graph(arrays, r, c, watched=True)), layers(r, c)
    return widest(lambda feed: dict(zip(wanted, session.run(list(wanted), feed))), wanted, feeds)


def _side_by_side(model):
    """The ONNX graph in OpenVINO, its pictures' channels side by side: it would turn them round at each run."""
    model = openvino_core().read_model(model)
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    ports = PrePostProcessor(model)
    for inside, port in [(i, ports.input(i.get_any_name())) for i in model.inputs] + [
        (o, ports.output()) for o in model.outputs
    ]:
        if len(inside.shape) == 4:
            port.model().set_layout(Layout("NCHW"))
            port.tensor().set_layout(Layout("NHWC"))
    return ports.build()


def runtime_name(precision=None):
    """What a timing depends on, for the profile: 'onnxruntime 1.x CPUExecutionProvider', 'openvino 2026.x
    bf16' or 'openvino 2026.x i8+bf16'.

    precision: of the sub-models that are timed; default: `quickest_precision`.
    """
    if not uses_openvino():
        return f"onnxruntime {ort.__version__} CPUExecutionProvider"
    precision = precision or quickest_precision()
    between = f"+{half_precision()}" if precision == "i8" else ""
    return f"openvino {importlib.metadata.version('openvino')} {precision}{between}"


_chosen: dict[str, Precision] = {}  # by `Weights.hash`: pictures are judged once a process


def _pictures(graph, feeds):
    """[(1, 3, r, r)] that ONNX Runtime computes of a graph's bytes."""
    session = open_session(graph)
    return [session.run(None, feed)[0] for feed in feeds]


class Engine:
    """Everything that is loaded once and shared by all photos: E, the sub-models' sessions, landmarks, masks,
    judges.

    Safe to share between threads. Sessions stay warm, so switching between sub-models that ran before costs
    nothing.
    """

    def __init__(self, weights=None, threads=None):
        self.weights = weights or Weights()
        self.cores = threads or usable_cores()  # for what is not a sub-model
        self.threads, self.threads_fixed = self.cores, threads is not None
        self._sessions, self._lock, self._faces = {}, threading.RLock(), threading.Lock()

    def _get(self, key, make):
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = make()
                give_back_memory()
            return self._sessions[key]

    def _part(self, prefix):
        """A small part of the weights in float32, kept (see `Weights.part`)."""
        return self._get(
            prefix, lambda: {k: np.asarray(v, np.float32) for k, v in self.weights.part(prefix).items()}
        )

    def submodel(self, r, c):
        """G_{r,c} without its mapping network as a function (see `open_submodel`) of {"w": ..., "photo_8":
        ..., ...}; sliced and built on first use.
        """
        threads, precision = self.threads, self.precision
        return self._get(
            (r, c, threads),
            lambda: open_submodel(
                generator_graph(
                    self.weights.part("generator"),
                    r,
                    c,
                    self.weights.ranges(r, c) if precision == "i8" else None,
                    mapped=True,
                ),
                threads,
                precision,
            ),
        )

    @property
    def precision(self):
        """What sub-models compute in: the name of `chosen_precision`."""
        return self.chosen_precision.name

    @property
    def runtime(self):
        """`runtime_name` of this engine's sub-models."""
        return runtime_name(self.precision)

    @property
    def chosen_precision(self):
        """The quickest `precision.Precision` of `precisions` whose pictures are right with these weights on
        this processor, else fp32.
        """
        with self._lock:
            if not uses_openvino():
                return Precision("f32", "ONNX Runtime computes in fp32.")
            if self.weights.hash not in _chosen:
                _chosen[self.weights.hash] = self._choose_precision()
                give_back_memory()
            return _chosen[self.weights.hash]

    def _choose_precision(self):
        half, quickest = precisions()
        refused = []
        for name in dict.fromkeys((quickest, half)):
            if name == "f32":
                break
            right, reason = self.judge(name)
            if right:
                return Precision(name, " ".join([*refused, reason]))
            refused.append(reason)
        return Precision(
            "f32", " ".join(refused) or "No other precision is quicker than fp32 on this processor."
        )

    def judge(self, precision):
        """(whether a sub-model's pictures are right in `precision`, "i8", "bf16" or "f16"; why, as a
        sentence).

        The smallest sub-model draws the reference face, as it is and at the slider's end; ONNX Runtime in
        fp32 says what is right, and
        of int8 what rounding alone costs.
        """
        if precision == "i8" and not self.weights.has_ranges:
            return False, "For int8 the ranges were not measured; run `python -m agedit train calibrate`."
        r, c = self.weights.candidates[0]
        arrays = self.weights.part("generator")
        feeds = self._reference_feeds(r, c)
        graph = generator_graph(arrays, r, c, mapped=True)
        exact = _pictures(graph, feeds)
        rounded = None
        if precision == "i8":
            graph = generator_graph(arrays, r, c, self.weights.ranges(r, c), mapped=True)
            rounded = difference(_pictures(graph, feeds), exact)
        try:
            run = open_submodel(graph, self.threads, precision)
            found = difference([run(feed) for feed in feeds], exact)
        except RuntimeError:  # what OpenVINO raises
            return False, f"OpenVINO cannot compute in {label(precision)} on this processor."
        most = tolerance(rounded)
        figures = f"{found:.2f} levels of 255 from fp32's, where {most:.2f} may be lost"
        if found <= most:  # nan is not
            return (
                True,
                f"{label(precision)} is the quickest on this processor, and its pictures are right: {figures}.",
            )
        return False, f"{label(precision)} is quick on this processor, but its pictures are wrong: {figures}."

    def _reference_feeds(self, r, c):
        """Inputs of G_{r,c} (see `submodel`) for the reference face, as it is and as old as the slider goes
        for a face of 30.
        """
        crop = reference_face()
        f = self.encode(crop)
        photos = self.inputs(crop, r)
        alpha = np.float32(self.weights.alpha(self.weights.years_range[1], 30, 0, r, c))
        shifted = (f, f + alpha * self.weights.age_vector[None])
        mapping = self._part("generator.mapping")
        return [{"w": map_features(mapping, features), **photos} for features in shifted]

    def use_threads(self, threads):
        """Run sub-models with this many threads from now on; sessions of another count stay until
        `drop_other_threads`.
        """
        with self._lock:
            self.threads = threads

    def drop_other_threads(self):
        """Free the sub-models' sessions that were opened for another number of threads."""
        self._keep(lambda key: key[2] == self.threads)

    def keep_submodels(self, candidates):
        """Free all sub-models but these (r, c): each holds 17 to 90 MB, and is opened again in 0.2 to 0.6 s."""
        self._keep(lambda key: key[:2] in candidates)

    @contextlib.contextmanager
    def passing(self, candidates):
        """While this is entered these (r, c) may be opened; those that were not open before are freed at the
        end.
        """
        with self._lock:
            before = set(self._sessions)
        try:
            yield
        finally:
            self._keep(lambda key: key in before or key[:2] not in candidates)

    def _keep(self, wanted):
        """Free the sub-models whose (r, c, threads) are not `wanted`."""
        with self._lock:
            for key in [k for k in self._sessions if isinstance(k, tuple) and not wanted(k)]:
                del self._sessions[key]
            give_back_memory()

    def encode(self, crop):
        """S62: f = E(x), float32 (1, 512), for an aligned RGB uint8 (S, S, 3)."""
        convolutions = self.weights.manifest["encoder"]["convolutions"]
        size = self.weights.manifest["encoder"]["input"]
        session = self._get(
            "encoder",
            lambda: open_session(encoder_graph(self.weights.part("encoder"), convolutions, size), self.cores),
        )
        return session.run(None, {"photo": to_network(crop, size)})[0]

    def generate(self, f, photos, r, c):
        """G_{r,c}(f, photo): float32 (r, r, 3) in about -1..1. photos: see `inputs`; in the strict form see
        `sketch`.
        """
        return self.submodel(r, c)({"w": map_features(self._part("generator.mapping"), f), **photos})[
            0
        ].transpose(1, 2, 0)

    @staticmethod
    def inputs(crop, r):
        """The photo as every G_{r,c} reads it, from an aligned RGB uint8 (S, S, 3)."""
        return photo_inputs(to_network(crop, r))

    def sketch(self, f, r):
        """What G_{r,c} reads instead of a photo in the strict form: the 32 px picture that f (1, 512),
        unshifted, gives; as `inputs`.
        """
        part = self._part("sketch")
        small = (part["weight"] @ f[0] + part["bias"]).reshape(3, -1)
        edge = int(round(small.shape[1] ** 0.5))
        picture = cv2.resize(
            small.reshape(3, edge, edge).transpose(1, 2, 0), (r, r), interpolation=cv2.INTER_CUBIC
        )
        return photo_inputs(np.clip(picture, -1, 1).transpose(2, 0, 1)[None])

    def find_faces(self, rgb):
        """S61: all faces, largest first (see `align.FaceFinder.find`)."""
        finder = self._get("finder", lambda: FaceFinder(self.weights.path(DETECTOR).parent))
        with self._faces:
            try:
                return finder.find(rgb)
            finally:
                give_back_memory()

    def masks(self, crop, face, rgb, others=()):
        """What may change in an aligned crop of `rgb`, and its hair, two float32 (256, 256) in 0..1 (see
        `blend.Masker`), and the hair `OuterHair` it.
        """
        masker = self._get("masker", lambda: Masker(self.weights.path(HAIR).parent))
        with self._faces:
            others = [*others, *face.neighbours]
            hair = masker.hair(crop) * own_share(face, face, others, MASK_SIZE)
            mask = masker.mask(hair, face, rgb.shape[:2])
            return mask, hair, OuterHair(rgb, face, mask, hair, masker.hair, others)

    @property
    def readout(self):
        return self._get(
            "readout", lambda: Estimators(lambda name: open_session(self.weights.path(name), self.cores))
        )


def to_network(crop, size):
    """Aligned RGB uint8 (S, S, 3) to float32 (1, 3, size, size) in -1..1, shrunk by areas."""
    if crop.shape[0] != size:
        crop = cv2.resize(
            crop, (size, size), interpolation=cv2.INTER_AREA if crop.shape[0] > size else cv2.INTER_CUBIC
        )
    return (crop.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
