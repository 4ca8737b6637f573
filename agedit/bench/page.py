"""The page as a visitor's machine sees it: the seconds to its first answer, and the most memory it held."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from agedit.bench.fresh_start import FreshStart
from agedit.errors import AgeEditError
from agedit.paths import CHECKOUT
from agedit.selection import profiles
from agedit.selection.cost_model import frontier
from agedit.selection.selector import IDLE_RUNS
from agedit.selection.tuner import REFERENCE
from agedit.submodel import work
from agedit.weights import Weights

YEARS = (30, -20, 10)
"""The edits that a page is asked for."""

BUDGET = 150
"""Milliseconds: the waiting budget of those edits."""

START_TIMEOUT = 60.0
"""Seconds until the page must answer."""

PROFILE_TIMEOUT = 300.0
"""Seconds until the page must have timed this device."""

EDIT_TIMEOUT = 60.0
"""Seconds until an edit must be there."""

STOP_TIMEOUT = 20.0
"""Seconds until the page must have ended."""

SETTLE = 5.0
"""Seconds in which a page checks its profile, or frees what timing held; nothing tells when it is done."""


class PageCosts(TypedDict):
    """`python app.py`; all None where the page is not beside this package, memory where there is no /proc.

    page_s: seconds from the start to the first answer, with a profile. peak_memory_mb: of that process.
    first_start_memory_mb: of the one that timed this device.
    """

    page_s: float | None
    peak_memory_mb: int | None
    first_start_memory_mb: int | None


class LightCosts(FreshStart, PageCosts):
    """What it takes to start."""


@dataclass(frozen=True)
class _Page:
    """A running page. seconds: to its first answer."""

    process: subprocess.Popen[bytes]
    address: str
    seconds: float


def light() -> LightCosts:
    """A fresh process that edits a photo, and the page."""
    command = [sys.executable, "-m", "agedit.bench.fresh_start", str(REFERENCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    fresh: FreshStart = json.loads(done.stdout)
    return {**fresh, **page()}


def page() -> PageCosts:
    """`python app.py` twice: without a profile, until all is timed, then with it; a few edits each."""
    if not (CHECKOUT / "app.py").exists():
        return {"page_s": None, "peak_memory_mb": None, "first_start_memory_mb": None}
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        with _running(folder) as first:
            _wait_for_profile(folder)
            first_start_memory_mb = _peak_after_edits(first)
        with _running(folder) as second:
            time.sleep(SETTLE)
            peak_memory_mb = _peak_after_edits(second)
    return {
        "page_s": round(second.seconds, 2),
        "peak_memory_mb": peak_memory_mb,
        "first_start_memory_mb": first_start_memory_mb,
    }


@contextlib.contextmanager
def _running(profiles_folder: str) -> Iterator[_Page]:
    """A page of its own, ended afterwards. Raises AgeEditError where it does not answer."""
    port = _free_port()
    address = f"http://127.0.0.1:{port}/"
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=CHECKOUT,
        env=os.environ | {"AGEDIT_PROFILES": profiles_folder, "GRADIO_SERVER_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(address):
            if process.poll() is not None or time.perf_counter() - start > START_TIMEOUT:
                raise AgeEditError("The page did not start; run `python app.py` to see why.")
            time.sleep(0.05)
        yield _Page(process, address, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _wait_for_profile(folder: str) -> None:
    """Until the profile holds everything, timed as often as in a quiet moment, and what timing held is freed.

    Raises AgeEditError where that takes too long.
    """
    end = time.perf_counter() + PROFILE_TIMEOUT
    while time.perf_counter() < end:
        if any(_is_complete(path) for path in Path(folder).glob("*.json")):
            time.sleep(SETTLE)
            return
        time.sleep(0.5)
    raise AgeEditError("The page did not time this device in five minutes; try again when it is less busy.")


def _is_complete(path: Path) -> bool:
    """Whether a profile names every sub-model that may be chosen, timed IDLE_RUNS times."""
    try:
        times = profiles.load(path)["times"]
    except AgeEditError:
        return False
    due = frontier(Weights().order, work)
    return all(submodel in times and len(times[submodel].runs) >= IDLE_RUNS for submodel in due)


def _peak_after_edits(page: _Page) -> int | None:
    """The most memory in MB that the page held up to the end of a few edits; None without /proc."""
    edit_by_page(page.address, REFERENCE, YEARS)
    try:
        status = Path(f"/proc/{page.process.pid}/status").read_text()
    except OSError:
        return None
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) / 1024)


def edit_by_page(address: str, photo: Path, years: tuple[int, ...]) -> None:
    """Edits of a photo by the page's endpoint /edit, one after the other; their pictures stay on its side.

    Raises AgeEditError where the page answers with an error or too late.
    """
    client_library = _import_client()
    # a proxy that the environment names must not see a photo: the page is on this machine
    options = {"timeout": EDIT_TIMEOUT, "trust_env": False}
    client = client_library.Client(
        address, verbose=False, download_files=False, analytics_enabled=False, httpx_kwargs=options
    )
    try:
        uploaded = client_library.handle_file(str(photo))
        for value in years:
            job = client.submit(uploaded, value, BUDGET, "0", True, api_name="/edit")
            job.result(timeout=EDIT_TIMEOUT)
    except (client_library.exceptions.AppError, TimeoutError):
        raise AgeEditError(
            "The page refused the reference portrait; run `python app.py` and try it by hand."
        ) from None
    finally:
        client.close()


def _import_client() -> ModuleType:
    """`gradio_client`, which comes with the page, its telemetry off: `analytics_enabled=False` alone does not
    turn it off. Raises AgeEditError where it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio_client
        import gradio_client.exceptions
    except ImportError:
        raise AgeEditError(
            "Timing the page needs the package gradio_client; run `pip install -r requirements.txt`."
        ) from None
    return gradio_client
