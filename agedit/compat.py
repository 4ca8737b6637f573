"""Every place where a library is told to behave otherwise than it does by itself, each with a check that it
still can be.

This module imports nothing heavy: the package's `__init__` runs `silence()` before anything else of it, so
that no library is imported before its reporting is off. What an upgrade of a library breaks here ends in an
`UnknownLibraryError`, at once and by name.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from agedit.errors import AgeEditError

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Environment variable, read by onnxruntime 1.29 and later when its native library is loaded."""
OPENVINO_REPORTER = "openvino_telemetry"
DRAWING = tuple(f"mediapipe.python.solutions.drawing_{kind}" for kind in ("utils", "styles"))
RECORDER = "mediapipe.tasks.python.audio.core.audio_record"


class UnknownLibraryError(AgeEditError):
    """A library is not the one that this module was written for."""

    def __init__(self, library: str, lacks: str):
        super().__init__(
            f"This {library} is not one that agedit knows ({lacks}); run `pip install -r requirements.txt`."
        )


def require(found: object, library: str, lacks: str) -> None:
    """Raise UnknownLibraryError unless `found`."""
    if not found:
        raise UnknownLibraryError(library, lacks)


def silence() -> None:
    """Turn off what libraries report about their users, for this process and its children.

    onnxruntime decides when it is loaded, so the switch has to be set before; where the host program has
    imported it already, and without the switch, only its further events can be stopped, and a warning says
    so.
    """
    was_off = os.environ.get(ORT_SWITCH) == "1"
    os.environ[ORT_SWITCH] = "1"
    loaded = sys.modules.get("onnxruntime")
    if loaded is None or was_off:
        return
    stop = getattr(loaded, "disable_telemetry_events", None)
    require(callable(stop), "onnxruntime", "it has no disable_telemetry_events")
    cast("Callable[[], None]", stop)()
    warnings.warn(
        "onnxruntime was imported before agedit, with its telemetry on; agedit turned further events off. "
        f"Import agedit first, or set {ORT_SWITCH}=1.",
        RuntimeWarning,
        stacklevel=3,
    )


def forget_model_bytes(session: Any) -> None:
    """Let an onnxruntime.InferenceSession drop the bytes that it keeps for a second try with another
    provider: as much memory as all weights.
    """
    require(hasattr(session, "_model_bytes"), "onnxruntime", "its sessions keep no _model_bytes")
    session._model_bytes = None


@contextlib.contextmanager
def absent(name: str) -> Iterator[None]:
    """While this is entered, importing the module `name` fails as if it was not installed; then all is as it
    was before.
    """
    inside = f"{name}."
    hidden = {k: m for k, m in sys.modules.items() if k == name or k.startswith(inside)}
    for key in hidden:
        del sys.modules[key]
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(hidden)


def import_openvino() -> ModuleType:
    """`openvino`, imported without its telemetry, which reports every import to an analytics server.

    Its converter binds `tm`, a stub in place of `openvino_telemetry`, for good; the host program may import
    the real one at any time. Where the host has imported openvino before, nothing that agedit does calls the
    converter, so nothing more is reported.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    with absent(OPENVINO_REPORTER):
        openvino = importlib.import_module("openvino")
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.ovc") and hasattr(module, "tm"):
            stub = getattr(module.tm, "__name__", "")
            require(stub.endswith("telemetry_stub"), "OpenVINO", f"{name} reports through {stub}")
    return openvino


class _Later(ModuleType):
    """Stands for a module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _mediapipe_folder() -> Path:
    spec = importlib.util.find_spec("mediapipe")
    require(spec and spec.submodule_search_locations, "mediapipe", "it is not installed")
    return Path(spec.submodule_search_locations[0])  # type: ignore[union-attr, index]


def mediapipe_file(name: str) -> Path:
    """A file that comes with mediapipe, by its path within the package. Nothing of mediapipe is run."""
    path = _mediapipe_folder() / name
    require(path.is_file(), "mediapipe", f"it has no {name}")
    return path


def mediapipe_solutions() -> ModuleType:
    """`mediapipe.solutions`, without two things that it imports and that are not needed.

    Its drawing modules bring all of matplotlib, 30 MB, half a second and a font cache in the home folder.
    `sounddevice` looks for PortAudio with a compiler and opens the sound server. Who asks mediapipe for them
    later, as the host program may, gets the real ones.
    """
    if "mediapipe" in sys.modules:
        return sys.modules["mediapipe"].solutions
    home = _mediapipe_folder()
    for name in (*DRAWING, RECORDER):
        path = home.joinpath(*name.split(".")[1:]).with_suffix(".py")
        require(path.is_file(), "mediapipe", f"it has no {name}")
    sys.modules.update((name, ModuleType(name)) for name in DRAWING)
    try:
        with absent("sounddevice"):
            mediapipe = importlib.import_module("mediapipe")
    finally:
        for name in DRAWING:
            sys.modules.pop(name, None)
    solutions = mediapipe.solutions
    require(hasattr(solutions, "face_mesh"), "mediapipe", "it has no solutions.face_mesh")
    for name in DRAWING:
        setattr(solutions, name.rpartition(".")[2], _Later(name))
    recorder = sys.modules.get(RECORDER)
    require(recorder and hasattr(recorder, "sd"), "mediapipe", f"{RECORDER} has no sd")
    recorder.sd = _Later("sounddevice")  # type: ignore[union-attr]
    return solutions


def import_matplotlib() -> ModuleType:
    """`matplotlib`, imported with its settings and its cache of fonts in a temporary folder that ends with
    the program.

    By itself it writes into the home folder. The variable is put back, and a host program's own matplotlib is
    left as it is.
    """
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    known = os.environ.get("MPLCONFIGDIR")
    if known is None:
        os.environ["MPLCONFIGDIR"] = _own_folder().name
    try:
        matplotlib = importlib.import_module("matplotlib")
        for name in ("get_configdir", "get_cachedir"):
            require(hasattr(matplotlib, name), "matplotlib", f"it has no {name}")
            getattr(matplotlib, name)()  # kept for good by the first call
        importlib.import_module("matplotlib.font_manager")
    finally:
        if known is None:
            del os.environ["MPLCONFIGDIR"]
    return matplotlib


_folder: list[tempfile.TemporaryDirectory] = []


def _own_folder() -> tempfile.TemporaryDirectory:
    """One temporary folder a process, deleted at its end. Raises AgeEditError where none can be made."""
    if not _folder:
        try:
            _folder.append(tempfile.TemporaryDirectory(prefix="agedit-"))
        except OSError:
            raise AgeEditError("No temporary folder can be written; set TMPDIR to one that can.") from None
    return _folder[0]
