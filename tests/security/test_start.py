"""The start of the page where something is in its way: it works all the same, or says why not in one
sentence.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, free_port


@contextlib.contextmanager
def started(tmp_path: Path, **environment: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """(the app's process, its port); output in tmp_path / log."""
    port = free_port()
    own = {
        "GRADIO_SERVER_PORT": str(port),
        "AGEDIT_PROFILES": str(tmp_path / "profiles"),
        "GRADIO_TEMP_DIR": str(tmp_path / "cache"),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=os.environ | own | environment, stdout=log, stderr=log
        )
    try:
        yield process, port
    finally:
        process.kill()
        process.wait(20)


def page(process: subprocess.Popen, port: int) -> bytes:
    """The page, as soon as there is one."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the app ended"
        try:
            return direct.open(f"http://127.0.0.1:{port}/", timeout=60).read()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("no page in two minutes")


@contextlib.contextmanager
def open_page(port: int) -> Iterator[None]:
    """As a browser with the page open: a connection on which the server goes on sending."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            f"GET /gradio_api/heartbeat/page HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        )
        assert b" 200 " in connection.recv(4096).splitlines()[0]
        yield


def ended(process: subprocess.Popen, tmp_path: Path) -> str:
    """What it said when it ended by itself."""
    assert process.wait(120) in (1, 2)
    return (tmp_path / "log").read_text()


def test_a_proxy_does_not_matter_and_the_end_is_clean(tmp_path):
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    proxies = dict.fromkeys(names, "http://127.0.0.1:1")
    with started(tmp_path, **proxies) as (process, port):
        assert b"gradio_config" in page(process, port)
        with open_page(port):
            process.terminate()
            assert process.wait(30) == 0
    log = (tmp_path / "log").read_text()
    assert not re.search(r"Traceback|Exception|ERROR|cancel|terminate called", log, re.IGNORECASE), log


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GRADIO_TEMP_DIR": "/dev/null/x"}, "folder for temporary files"),
        ({"GRADIO_SERVER_PORT": "many"}, "GRADIO_SERVER_PORT"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "AGEDIT_HOSTS"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, environment, words):
    with started(tmp_path, **environment) as (process, _):
        said = ended(process, tmp_path)
    assert words in said and "Traceback" not in said and said.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, GRADIO_SERVER_PORT=port) as (process, _):
            said = ended(process, tmp_path)
    assert f"Port {port}" in said and "Traceback" not in said and "terminate called" not in said
