"""The page as a visitor's machine sees it: the seconds to its first answer, and the most memory that it ever held."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from agedit.errors import AgeEditError
from agedit.selection import profiles
from agedit.selection.cost_model import frontier
from agedit.selection.selector import IDLE_RUNS
from agedit.selection.tuner import REFERENCE
from agedit.submodel import work
from agedit.weights import Weights

ROOT = REFERENCE.parents[2]
EDITS = (30, -20, 10)  # years


def light():
    """A fresh process: seconds to load and warm up, then to the first edit after a photo arrives; whether torch came along.

    Returns:
        {"load_s", "first_edit_s", "torch"} and what `page` returns.
    """
    code = (
        "import sys, time; start = time.perf_counter(); from agedit import AgeEditor, load_photo; from agedit.selection.tuner import Tuner; e = AgeEditor(); "
        "exec('import app' if sys.argv[2] else ''); t = Tuner(e.engine); t.time_once(e.submodel); t.rest(150); loaded = time.perf_counter(); "
        "e.set_photo(load_photo(sys.argv[1])); e.edit(20); print(loaded - start, time.perf_counter() - loaded, 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(REFERENCE), "app" * (ROOT / "app.py").exists()],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    return {
        "load_s": round(float(out[0]), 2),
        "first_edit_s": round(float(out[1]), 2),
        "torch": out[2] == "True",
        **page(),
    }


def page():
    """`python app.py` twice: without a profile, until all is timed, and with it; three edits each over HTTP.

    Returns:
        {"page_s" from the start to the first answer with the profile, "peak_memory_mb" of that process, "first_start_memory_mb" of the one that timed
        this device}; all None where the page is not beside this package, memory where there is no /proc.
    """
    result = {"page_s": None, "peak_memory_mb": None, "first_start_memory_mb": None}
    if (ROOT / "app.py").exists():
        with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
            with _running(folder) as (process, address, _):
                _wait_for_profile(folder)
                result["first_start_memory_mb"] = _peak_after_edits(process, address)
            with _running(folder) as (process, address, seconds):
                result["page_s"] = seconds
                time.sleep(5)  # the profile is checked meanwhile
                result["peak_memory_mb"] = _peak_after_edits(process, address)
    return result


@contextlib.contextmanager
def _running(profiles, timeout=60):
    """(process, address, seconds to its first answer) of a page of its own."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"AGEDIT_PROFILES": profiles, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.perf_counter() - start > timeout:
                    raise AgeEditError("The page did not start; run `python app.py` to see why.") from None
                time.sleep(0.05)
        yield process, f"http://127.0.0.1:{port}/gradio_api", round(time.perf_counter() - start, 2)
    finally:
        process.terminate()
        process.wait(20)


def _wait_for_profile(folder, timeout=300):
    """Until everything in the profile was timed as often as in a quiet moment, and what timing held was let go."""
    end, due = time.perf_counter() + timeout, frontier(Weights().order, work)
    while time.perf_counter() < end:
        for path in Path(folder).glob("*.json"):
            with contextlib.suppress(AgeEditError):
                times = profiles.load(path)["times"]
                if all(k in times and len(times[k].runs) >= IDLE_RUNS for k in due):
                    time.sleep(5)
                    return
        time.sleep(0.5)
    raise AgeEditError("The page did not time this device in five minutes; try again when it is less busy.")


def _peak_after_edits(process, address):
    """MB, None without /proc."""
    for years in EDITS:
        _edit(address, REFERENCE, years)
    with contextlib.suppress(OSError):
        lines = dict(
            line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        return round(int(lines["VmHWM"].split()[0]) / 1024)
    return None


def _edit(address, photo, years):
    """One edit by the page's endpoint /edit; raises AgeEditError where there was none."""
    mark = "agedit-bench"
    body = (
        f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{photo.name}"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
        + photo.read_bytes()
        + f"\r\n--{mark}--\r\n".encode()
    )

    def ask(path, data, kind):
        return urllib.request.urlopen(
            urllib.request.Request(address + path, data, {"Content-Type": kind}), timeout=60
        )

    with ask("/upload", body, f"multipart/form-data; boundary={mark}") as answer:
        stored = json.load(answer)[0]
    data = [{"path": stored, "meta": {"_type": "gradio.FileData"}}, years, 150, "0", True]
    with ask("/call/edit", json.dumps({"data": data}).encode(), "application/json") as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/call/edit/{event}", timeout=60) as answer:
        if b"event: complete" not in answer.read():
            raise AgeEditError(
                "The page refused the reference portrait; run `python app.py` and try it by hand."
            )
