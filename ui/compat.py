"""What this program changes inside Gradio. Each change first asserts that what it replaces is still there
and still takes what it took, so that an upgrade of Gradio fails at the start and not in a visitor's hands."""

import contextlib
import errno
import importlib
import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType, TracebackType
from typing import Any, NoReturn

log = logging.getLogger("agedit.page")

FETCHES_NOTHING = "This server fetches nothing from the network; upload the file instead."
WENT_WRONG = "Something went wrong here; please try again, or with another photo."
DISK_FULL = "The disk is full; free some space and try again."


class GradioChangedError(RuntimeError):
    """Gradio is not the one that these changes were written for."""


def found(owner: Any, name: str, parameters: tuple[str, ...]) -> Callable[..., Any]:
    """owner.name, which must be callable with exactly these parameter names.

    Raises:
        GradioChangedError: it is missing, or takes something else.
    """
    place = f"{getattr(owner, '__name__', owner)}.{name}"
    original = vars(owner).get(name)  # not what a class inherits
    if original is None:
        raise GradioChangedError(f"{place} is gone; see what replaced it and change ui/compat.py.")
    takes = tuple(inspect.signature(original).parameters)
    if takes != parameters:
        raise GradioChangedError(f"{place} takes {takes}, not {parameters}; change ui/compat.py.")
    return original


def uses(owner: Callable[..., Any], words: str) -> None:
    """Raises GradioChangedError unless the source of `owner` holds these words, by which a change
    reaches it.
    """
    if words not in inspect.getsource(owner):
        raise GradioChangedError(f"{owner.__qualname__} no longer says {words!r}; change ui/compat.py.")


@contextlib.contextmanager
def no_stubs() -> Iterator[None]:
    """Import Gradio inside: it would rewrite a stub for editors beside each of its 60 components, a third of
    the start.

    It leaves out classes that have no file.
    """
    real = inspect.getfile

    def getfile(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError
        return real(thing)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = real
    meta = importlib.import_module("gradio.component_meta")
    found(meta, "ComponentMeta", ("name", "bases", "attrs"))
    uses(found(meta, "create_or_modify_pyi", ("component_class", "class_name", "events")), "inspect.getfile(")


def no_matplotlib() -> None:
    """Gradio imports matplotlib at each request, for a backend that our plots do without."""
    utils = importlib.import_module("gradio.utils")
    manager = found(utils, "MatplotlibBackendMananger", ())
    if manager is not _no_backend and not hasattr(manager, "__enter__"):
        raise GradioChangedError(
            "gradio.utils.MatplotlibBackendMananger is no context manager; change ui/compat.py."
        )
    routes = importlib.import_module("gradio.route_utils")
    uses(
        found(
            routes,
            "call_process_api",
            ("app", "body", "gr_request", "fn", "root_path", "record_history"),
        ),
        "utils.MatplotlibBackendMananger()",
    )
    utils.MatplotlibBackendMananger = _no_backend  # type: ignore[attr-defined]


def _no_backend() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    gradio = importlib.import_module("gradio")
    raise gradio.Error(FETCHES_NOTHING, print_exception=False)


async def _refuse_later(*args: Any, **kwargs: Any) -> NoReturn:
    _refuse()


def _not_here(*args: Any, **kwargs: Any) -> NoReturn:
    exceptions = importlib.import_module("starlette.exceptions")
    raise exceptions.HTTPException(404)


async def _not_here_later(*args: Any, **kwargs: Any) -> NoReturn:
    _not_here()


# every function of Gradio's that fetches: (module, attribute, its parameters, what stands there instead)
FETCHERS: tuple[tuple[str, str, tuple[str, ...], Callable[..., Any]], ...] = (
    ("gradio.processing_utils", "async_ssrf_protected_get", ("url",), _refuse_later),
    ("gradio.processing_utils", "async_ssrf_protected_download", ("url", "cache_dir"), _refuse_later),
    ("gradio.processing_utils", "ssrf_protected_download", ("url", "cache_dir"), _refuse),
    ("gradio.processing_utils", "save_url_to_cache", ("url", "cache_dir"), _refuse),
    ("gradio.processing_utils", "unsafe_download", ("url", "cache_dir"), _refuse),
    ("gradio.routes", "secure_url_stream_response", ("url", "request"), _not_here_later),
    ("gradio.route_utils", "secure_url_stream_response", ("url", "request"), _not_here_later),
    ("gradio.routes.App", "build_proxy_request", ("self", "url_path"), _not_here),
    ("gradio.routes", "load_system_prompt", ("starter_queries",), _not_here),
)
# Gradio's own ways to hand out and take in files; `ui.uploads` does both
FILES: tuple[tuple[str, str, tuple[str, ...], Callable[..., Any]], ...] = (
    ("gradio.routes", "file_fetch", ("path_or_url", "request", "blocks_or_config", "upload_dir"), _not_here),
    (
        "gradio.routes",
        "upload_fn",
        ("request", "upload_dir", "max_file_size", "upload_id", "force_move", "upload_progress"),
        _not_here_later,
    ),
)
# httpx is all that Gradio has to fetch with
TRANSPORTS: tuple[tuple[str, str, tuple[str, ...], Callable[..., Any]], ...] = (
    ("httpx.HTTPTransport", "handle_request", ("self", "request"), _refuse),
    ("httpx.AsyncHTTPTransport", "handle_async_request", ("self", "request"), _refuse_later),
)


def _owner(path: str) -> Any:
    """'a.b' is a module, 'a.b.Name' a class in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


def _replace(changes: tuple[tuple[str, str, tuple[str, ...], Callable[..., Any]], ...]) -> None:
    for path, name, parameters, instead in changes:
        owner = _owner(path)
        if vars(owner).get(name) is instead:
            continue  # done before
        found(owner, name, parameters)
        setattr(owner, name, instead)


def fetch_nothing() -> None:
    """A client may name an address where a file is wanted, and Gradio would fetch it.

    This server fetches nothing.
    """
    _replace(FETCHERS)


def no_files_of_gradio() -> None:
    """Gradio hands out every file of its folders and keeps the visitor's file names; `ui.uploads`
    does neither.
    """
    _replace(FILES)


def no_http_client() -> None:
    """httpx itself, for the process of the server: also for what was not thought of above."""
    _replace(TRANSPORTS)


def plain_errors() -> None:
    """No error is answered by null, and what went wrong stands in the log as one line without the
    visitor's data.
    """
    for path in ("gradio.utils", "gradio.queueing"):
        module = importlib.import_module(path)
        if getattr(module, "error_payload", None) is not _payload:
            found(module, "error_payload", ("error", "show_error"))
            module.error_payload = _payload  # type: ignore[attr-defined]
    for path in ("gradio.queueing", "gradio.routes"):
        module = importlib.import_module(path)
        if not isinstance(getattr(module, "traceback", None), ModuleType):
            raise GradioChangedError(f"{path}.traceback is gone; change ui/compat.py.")
        module.traceback = OneLine("traceback")  # type: ignore[attr-defined]


def _payload(error: BaseException | None, show_error: bool) -> dict[str, Any]:
    """What a client is told: the message of a gr.Error, else one general sentence."""
    gradio = importlib.import_module("gradio")
    if not isinstance(error, gradio.Error):
        return {"error": plain_sentence(error), "visible": True}
    shown: Any = error
    if not str(shown.message).strip(" '\""):
        return {"error": WENT_WRONG, "visible": True}
    return {
        "error": str(shown.message),
        "duration": shown.duration,
        "visible": shown.visible,
        "title": shown.title,
    }


def plain_sentence(error: BaseException | None) -> str:
    """What is said of an error that nobody expected."""
    return DISK_FULL if is_disk_full(error) else WENT_WRONG


def is_disk_full(error: BaseException | None) -> bool:
    """Whether that is what an error says."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class OneLine(ModuleType):
    """Stands where a module imported `traceback`: an unexpected error is a line in the log, not a
    page of it.
    """

    @staticmethod
    def print_exc(*args: Any, **kwargs: Any) -> None:
        log_error(sys.exception())


def log_error(error: BaseException | None) -> None:
    """One line: which kind of error, and where. Never its text, which may quote a visitor."""
    if error is not None:
        log.error("%s at %s", type(error).__name__, _place(error.__traceback__))


def _place(tb: TracebackType | None) -> str:
    frames = traceback.extract_tb(tb)
    if not frames:
        return "an unknown place"
    last = frames[-1]
    return f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno} in {last.name}"


def patch() -> None:
    """All of them; after Gradio's import, before the page is built."""
    no_matplotlib()
    fetch_nothing()
    no_files_of_gradio()
    plain_errors()
