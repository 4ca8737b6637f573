"""The page: python app.py. A thin skin over `agedit`; importing it starts nothing."""

import gc
import os
import sys

gc.disable()  # what is imported stays: looking through it for garbage is a sixth of the start

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from agedit import AgeEditError
from ui.settings import Settings, check_temporary_folder, from_arguments, listen, open_browser


def settings_or_end() -> Settings:
    """What the command line and the environment ask for; if that cannot be, one sentence and exit status 2.

    Before Gradio is imported, which reads the same variables and wants the folder for temporary files.
    """
    try:
        settings = from_arguments(sys.argv[1:])
        check_temporary_folder()
    except AgeEditError as error:
        print(f"agedit: {error}", file=sys.stderr)
        sys.exit(2)
    return settings


SETTINGS = settings_or_end() if __name__ == "__main__" else None

import atexit
import signal
import threading
from types import FrameType

from agedit.runtime.host import one_heap

one_heap()

from ui.compat import no_http_client, no_stubs

with no_stubs():
    from ui.page import build
    from ui.security.egress import refuse_connections
    from ui.server import serve
    from ui.service import Service
    from ui.sessions import sessions

gc.freeze()
gc.enable()


def end(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that no visitor's photo stays on disk."""
    raise KeyboardInterrupt


def hang_up(number: int, frame: FrameType | None) -> None:
    """The terminal was closed: uvicorn, which does not know this signal, gets one that it knows."""
    signal.raise_signal(signal.SIGTERM)


def listen_to_signals() -> None:
    # while uvicorn runs, its own handler serves; it raises the signal again when all is closed
    signal.signal(signal.SIGTERM, end)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup stays nohup
        signal.signal(signal.SIGHUP, hang_up)


def service_if_possible(budget: float) -> Service | None:
    """None, and a sentence, without weights: the page opens all the same, and says it on every request."""
    try:
        service = Service()
    except AgeEditError as error:
        print(f"agedit: {error}", file=sys.stderr)
        return None
    service.quiet.anybody = sessions.anybody
    threading.Thread(target=service.start, args=(budget,), daemon=True).start()
    return service


def main(settings: Settings) -> int:
    """Serve the page until a signal comes; the exit status."""
    try:
        bound = listen(settings)
    except AgeEditError as error:
        print(f"agedit: {error}", file=sys.stderr)
        return 2
    name, port = bound.getsockname()[:2]
    no_http_client()
    refuse_connections()
    listen_to_signals()
    try:
        page = build(service_if_possible(settings.budget), settings.budget)
        address = f"http://{f'[{name}]' if ':' in name else name}:{port}"
        print(f"AgeEdit: open {address}", flush=True)
        if settings.opens_browser:
            open_browser(address)
        serve(page, bound, settings.hosts)
    except KeyboardInterrupt:
        pass
    return 0


def leave(status: int) -> None:
    """End at once, after cleaning up: threads that still compute would be torn down in the middle of
    native code.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    assert SETTINGS is not None
    leave(main(SETTINGS))
