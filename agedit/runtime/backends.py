"""Networks as something to call, on ONNX Runtime or OpenVINO."""

import functools
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from agedit.compat import forget_model_bytes, import_openvino
from agedit.errors import AgeEditError
from agedit.runtime.host import give_back_memory, usable_cores

Array = npt.NDArray[np.float32]
Feed = Mapping[str, Array]
"""A network's inputs by name."""

Submodel = Callable[[Feed], Array]
"""G_{r,c} opened: {"w" or "f": ..., "photo_8": ..., ...} -> float32 (1, 3, r, r)."""

SWITCH = "AGEDIT_RUNTIME"
"""Environment variable that names the runtime of sub-models: openvino or onnxruntime."""


def uses_openvino() -> bool:
    """Whether sub-models run on OpenVINO: where it is installed, unless AGEDIT_RUNTIME says onnxruntime.

    It reads the same ONNX graphs, and computes in bf16 or int8 where that is quicker: up to five times as
    fast. Raises AgeEditError where AGEDIT_RUNTIME names something else, or what is not installed.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "openvino", "onnxruntime"):
        raise AgeEditError(f"AGEDIT_RUNTIME is {wanted}; set it to openvino or onnxruntime, or not at all.")
    found = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino" and not found:
        raise AgeEditError(
            "AGEDIT_RUNTIME asks for OpenVINO, which is not installed; run `pip install openvino`."
        )
    return found and wanted != "onnxruntime"


def open_session(
    model: bytes | str | Path, threads: int | None = None, often: bool = False
) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Args:
        model: path or serialized graph.
        threads: default: all usable cores.
        often: keep the memory of one run for the next.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = often
    options.enable_mem_pattern = often
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning slows what runs next
    if not isinstance(model, bytes):
        if not Path(model).exists():
            raise AgeEditError(f"{Path(model).name} is missing; fetch the weights folder again.")
        model = str(model)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    forget_model_bytes(session)
    give_back_memory()  # reading the identity network takes 77 MB, of which it needs 25
    return session


def run_session(session: ort.InferenceSession, feed: Mapping[str, npt.NDArray[Any]]) -> Array:
    """The first output of a session; every network here has float32 arrays as outputs."""
    output = session.run(None, dict(feed))[0]
    assert isinstance(output, np.ndarray)
    return output


def open_submodel(model: bytes, threads: int, precision: str | None = None) -> Submodel:
    """G_{r,c} as a function.

    Pictures are quickest where a pixel's channels lie side by side in memory, as those of
    `graphs.photo_inputs` and the result's do.

    Args:
        model: serialized ONNX graph.
        precision: "f32", "bf16", "f16" or, of a graph with `ranges`, "i8", for OpenVINO; default:
            `precision.floating`. Between layers in int8 values are kept in `half_precision`: a tenth quicker,
            50 MB less for G_{512,1}, and the picture's error grows by 4%.
    """
    if uses_openvino():
        if precision is None:
            from agedit.runtime.precision import floating  # which opens sub-models itself

            precision = floating()
        try:
            return _open_in_openvino(model, threads, precision)
        except RuntimeError:  # OpenVINO does not know all graphs on processors without AVX2
            if precision != "f32":
                raise
    return functools.partial(run_session, open_session(model, threads, often=True))


@functools.lru_cache(maxsize=1)
def openvino_core() -> Any:
    """OpenVINO's entry point, an `openvino.Core` (see `compat.import_openvino`)."""
    return import_openvino().Core()


def half_precision() -> str:
    """What 16-bit type OpenVINO would compute in: "bf16", "f16" (on ARM), or "f32" for none.

    It is one that this processor converts to by itself, however quick its convolutions are in it.
    """
    return openvino_core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()


def _open_in_openvino(model: bytes, threads: int, precision: str) -> Submodel:
    """`open_submodel` by OpenVINO. Raises RuntimeError where it cannot compute the graph in `precision`."""
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": half_precision() if precision == "i8" else precision,
    }
    request = openvino_core().compile_model(_channels_last(model), "CPU", options).create_infer_request()
    lock = threading.Lock()  # one request's memory serves all callers in turn

    def run(feed: Feed) -> Array:
        rows = {name: _to_channels_last(value) for name, value in feed.items()}
        with lock:
            picture = request.infer(rows, share_inputs=True)[0].copy()
        return picture.transpose(0, 3, 1, 2)

    return run


def opens_in_openvino(model: bytes, threads: int) -> bool:
    """Whether OpenVINO computes a graph in fp32; on processors without AVX2 it does not know them all."""
    try:
        _open_in_openvino(model, threads, "f32")
    except RuntimeError:
        return False
    return True


def _to_channels_last(value: Array) -> Array:
    """(1, C, H, W) to (1, H, W, C), and everything else as it is; contiguous."""
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value)


def _channels_last(model: bytes) -> Any:
    """The graph as an `openvino.Model` whose pictures are NHWC: it would transpose them at each run."""
    graph = openvino_core().read_model(model)
    from openvino import Layout
    from openvino.preprocess import PrePostProcessor

    ports = PrePostProcessor(graph)
    pictures = [(value, ports.input(value.get_any_name())) for value in graph.inputs]
    pictures += [(value, ports.output()) for value in graph.outputs]
    for value, port in pictures:
        if len(value.shape) == 4:
            port.model().set_layout(Layout("NCHW"))
            port.tensor().set_layout(Layout("NHWC"))
    return ports.build()


def runtime_name(precision: str | None = None, openvino: bool = True) -> str:
    """What a timing depends on, for the profile.

    "onnxruntime 1.x CPUExecutionProvider", "openvino 2026.x bf16" or "openvino 2026.x i8+bf16".

    Args:
        precision: of the sub-models that are timed; default: what the released weights' are computed in.
        openvino: whether OpenVINO can compute them, where it is installed (see `precision.Precision`).
    """
    if precision is None and uses_openvino():
        from agedit.runtime.precision import quickest  # which opens sub-models itself

        chosen = quickest()
        precision = chosen.name
        openvino = chosen.openvino
    if not (openvino and uses_openvino()):
        return f"onnxruntime {ort.__version__} CPUExecutionProvider"
    between = f"+{half_precision()}" if precision == "i8" else ""
    return f"openvino {importlib.metadata.version('openvino')} {precision}{between}"
