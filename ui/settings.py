"""What the command line and the environment may set for the page, checked before heavy imports."""

import argparse
import os
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agedit import AgeEditError
from ui.hosts import is_loopback, is_name

FIRST_PORT = 7860
PORTS = 100
"""How many are tried, where none was asked for."""

PROBE = bytes(65536)
"""Written and deleted again, to see whether a folder takes anything."""

LOWEST_BUDGET = 10
HIGHEST_BUDGET = 1000
DEFAULT_BUDGET = 150
"""How long an edit may take, milliseconds."""

EVERYWHERE = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Settings:
    """Where the server listens and which names it answers to."""

    address: str
    """To bind to."""
    port: int | None
    """None: the first free one from FIRST_PORT on."""
    hosts: frozenset[str]
    """Names beside the loopback ones, in lower case, without ports."""
    budget: float = DEFAULT_BUDGET
    """Where the page's waiting times start, milliseconds."""
    opens_browser: bool = True
    """Where there is a screen and somebody who started the page by hand."""


def from_arguments(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the command line, and from the environment where it says nothing.

    Raises:
        AgeEditError: see `from_environment`; or the budget is out of range.
        SystemExit: after --help, or an argument that does not exist.
    """
    asked = _parser().parse_args(arguments)
    wanted = dict(environment)
    if asked.host is not None:
        wanted["GRADIO_SERVER_NAME"] = asked.host
    if asked.port is not None:
        wanted["GRADIO_SERVER_PORT"] = asked.port
    if not LOWEST_BUDGET <= asked.budget <= HIGHEST_BUDGET:
        raise AgeEditError(
            f"--budget must be a number of milliseconds from {LOWEST_BUDGET} to {HIGHEST_BUDGET}."
        )
    return replace(from_environment(wanted), budget=asked.budget, opens_browser=not asked.no_browser)


def _parser() -> argparse.ArgumentParser:
    what = "AgeEdit's page, on this machine."
    parser = argparse.ArgumentParser("app.py", description=what, allow_abbrev=False)
    parser.add_argument("--host", help="address to listen on (127.0.0.1; GRADIO_SERVER_NAME)")
    port = f"port to listen on (the first free one from {FIRST_PORT}; GRADIO_SERVER_PORT)"
    parser.add_argument("--port", help=port)
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    budget = f"how long an edit may take, where the page starts ({DEFAULT_BUDGET})"
    parser.add_argument("--budget", type=float, default=DEFAULT_BUDGET, metavar="MS", help=budget)
    return parser


def open_browser(address: str) -> None:
    """Show the page to whoever started it by hand; does nothing without a screen."""
    has_screen = (
        sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if has_screen and sys.stdout.isatty():
        webbrowser.open(address)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from GRADIO_SERVER_NAME, GRADIO_SERVER_PORT and AGEDIT_HOSTS.

    Raises:
        AgeEditError: one of them makes no sense, or the server would listen to others and knows no name of
        its own.
    """
    address = environment.get("GRADIO_SERVER_NAME", "127.0.0.1").strip().strip("[]")
    hosts = [name.strip().lower() for name in environment.get("AGEDIT_HOSTS", "").split(",") if name.strip()]
    for name in hosts:
        if not is_name(name):
            raise AgeEditError(
                f"AGEDIT_HOSTS holds {name!r}; give names or addresses without ports, with commas."
            )
    if address not in EVERYWHERE and not is_loopback(address):
        hosts.append(address.lower())
    if address in EVERYWHERE and not hosts:
        raise AgeEditError(
            "To listen to other machines, say by which names they reach this one: "
            "AGEDIT_HOSTS=photo.example,192.168.1.20 for instance."
        )
    return Settings(address, _port(environment.get("GRADIO_SERVER_PORT", "")), frozenset(hosts))


def _port(text: str) -> int | None:
    if not text.strip():
        return None
    if not (text.strip().isascii() and text.strip().isdigit() and 0 < int(text) < 65536):
        raise AgeEditError("The port (--port, GRADIO_SERVER_PORT) must be a number from 1 to 65535.")
    return int(text)


def check_temporary_folder(environment: Mapping[str, str] = os.environ) -> None:
    """Raises AgeEditError when the folder for temporary files takes none: read-only, full or missing."""
    named = environment.get("GRADIO_TEMP_DIR")
    try:
        folder = Path(named or tempfile.gettempdir())  # in which `workspace` makes this process's folder
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(PROBE)
            probe.flush()
    except OSError:
        raise AgeEditError(
            "The folder for temporary files cannot be written; make room there, "
            "or name another with TMPDIR or GRADIO_TEMP_DIR."
        ) from None


def listen(settings: Settings) -> socket.socket:
    """A bound socket. Raises AgeEditError when the port, or each of PORTS, is taken."""
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if settings.port is None else [settings.port]
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    for port in ports:
        bound = socket.socket(family)
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((settings.address, port))
            bound.listen(128)
        except (OSError, OverflowError):
            bound.close()
            continue
        return bound
    if settings.port is None:
        raise AgeEditError(f"No port from {FIRST_PORT} on is free; close a program, or name one with --port.")
    raise AgeEditError(
        f"Port {settings.port} of {settings.address or 'this machine'} cannot be used; "
        "another program may have it. Name another with --port."
    )
