"""Which names a browser may call this server by."""

import ipaddress
import re

LOCAL = "localhost"
LABELS = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")


def split(authority: str) -> tuple[str, int | None] | None:
    """(name in lower case without brackets, port) of a Host header or the like; None if it is none."""
    match = AUTHORITY.fullmatch(authority.lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        return None
    return match["name"].strip("[]"), port


def is_loopback(name: str) -> bool:
    """localhost, 127.0.0.0/8 or ::1, written in full: no other name, since a name can be made to
    point here.
    """
    if name == LOCAL:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return address == ipaddress.IPv6Address("::1")


def is_name(name: str) -> bool:
    """A host name or an address, without a port."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return LABELS.fullmatch(name) is not None
    return True
