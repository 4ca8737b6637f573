"""Shared by all tests: the engine and a portrait are loaded once; the app in a process of its own, its
network cut off.
"""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from known_device import ROOT, write_profile

from agedit import AgeEditor, Engine, load_photo

PORTRAITS = sorted((ROOT / "assets" / "portraits").glob("*.jpg"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="session")
def engine():
    return Engine()


@pytest.fixture(scope="session")
def portrait():
    return load_photo(PORTRAITS[0])


@pytest.fixture
def editor(engine, portrait):
    editor = AgeEditor(engine)
    editor.set_photo(portrait)
    return editor


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="session")
def app_folder(tmp_path_factory):
    """Where the app under test keeps its profiles and its visitors' files."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="session")
def url(app_folder):
    """The app on a device that it knows, in a process whose sockets refuse every address but loopback."""
    folder = app_folder
    guard = folder / "sitecustomize.py"
    guard.write_text(
        "import socket\n"
        "real = socket.socket.connect\n"
        "def connect(self, address):\n"
        "    host = address[0] if isinstance(address, tuple) else ''\n"
        "    if host and host not in ('127.0.0.1', '::1', 'localhost'):\n"
        f"        open({str(folder / 'leaks')!r}, 'a').write(str(address) + '\\n')\n"
        "        raise OSError('the network is cut off')\n"
        "    return real(self, address)\n"
        "socket.socket.connect = connect\n"
        "lookup = socket.getaddrinfo\n"
        "def getaddrinfo(host, *args, **kwargs):\n"
        "    if host not in (None, '', '127.0.0.1', '::1', 'localhost', '0.0.0.0', b'127.0.0.1'):\n"
        f"        open({str(folder / 'leaks')!r}, 'a').write(str(host) + '\\n')\n"
        "        raise OSError('the network is cut off')\n"
        "    return lookup(host, *args, **kwargs)\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    port = free_port()
    env = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "AGEDIT_PROFILES": str(folder / "profiles"),
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "GRADIO_TEMP_DIR": str(folder / "cache"),
    }
    log = (folder / "log").open("w")
    write_profile(folder / "profiles")
    program = [sys.executable, "tests/known_device.py"]
    process = subprocess.Popen(program, cwd=ROOT, env=env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail("the app ended: " + (folder / "log").read_text())
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            break
        except OSError:
            time.sleep(0.2)
    else:
        process.kill()
        pytest.fail("the app did not answer in 60 s: " + (folder / "log").read_text())
    yield address
    process.terminate()
    process.wait(20)
    assert not (folder / "leaks").exists(), (folder / "leaks").read_text()


@pytest.fixture(scope="session")
def playwright():
    """One for all browsers: a process can run its synchronous interface only once."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield browser
    browser.close()
