"""The way from this process to others: there is none but to this machine."""

import sys
from typing import Any

from ui import hosts


def refuse_connections() -> None:
    """From now on this process reaches no address but loopback ones, whatever code asks for it.

    There is no way back.
    """
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        target = arguments[1]
        if isinstance(target, tuple) and target and not _is_here(target[0]):
            raise PermissionError("This server reaches nothing but this machine.")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not _is_here(arguments[0]):
        raise PermissionError("This server looks up no names.")


def _is_here(host: Any) -> bool:
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    return text in (None, "", "0.0.0.0", "::") or (isinstance(text, str) and hosts.is_loopback(text.lower()))
