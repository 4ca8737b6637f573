"""The page: python app.py. A thin skin over `agedit`; importing it starts nothing."""

import gc
import os

gc.disable()  # what is imported stays: looking through it for garbage is a sixth of the start

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import contextlib
import inspect
import signal
import sys
import threading

from agedit import AgeEditError
from agedit.runtime import one_heap

one_heap()


@contextlib.contextmanager
def no_stubs():
    """Gradio rewrites a stub for editors beside each of its 60 components whenever it is imported: a third of the start.

    It leaves out classes that have no file.
    """
    real = inspect.getfile

    def getfile(thing):
        if type(thing).__name__ == "ComponentMeta":
            raise OSError
        return real(thing)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = real


with no_stubs():
    import gradio as gr

    gr.utils.MatplotlibBackendMananger = (
        contextlib.nullcontext
    )  # it imports matplotlib at each request, for a backend that our plots do without

    from ui.common import BUDGETS
    from ui.page import CSS, JS, build
    from ui.service import Service
    from ui.words import t

gc.freeze()
gc.enable()


AGAIN = 10.0  # seconds


def end(number, frame):
    """End as Ctrl-C does, so that no visitor's photo stays on disk; once more if that gets lost, as in a callback that swallows it."""
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
    raise KeyboardInterrupt


def main():
    for name in ("SIGTERM", "SIGHUP"):
        if (
            hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN
        ):  # nohup stays nohup
            signal.signal(getattr(signal, name), end)
    try:
        service = Service()
    except AgeEditError as error:  # the page opens all the same, and says it on every request
        print(f"agedit: {error}", file=sys.stderr)
        service = None
    else:
        threading.Thread(target=service.start, args=(BUDGETS[2],), daemon=True).start()
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans CJK SC", "sans-serif"]
    build(service).queue(max_size=64).launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
        css=CSS,
        js=JS,
        footer_links=[],
        run_history=False,
        i18n=t,
        theme=gr.themes.Default(font=font, font_mono=["ui-monospace", "monospace"], primary_hue="indigo"),
        max_file_size="60mb",
        strict_cors=True,
        enable_monitoring=False,
        share=False,
        show_error=False,
        pwa=False,
    )


if __name__ == "__main__":
    main()
