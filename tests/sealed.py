"""A network of its own for programs under test, which leads nowhere, and a recorder of what is sent into
it.

`Sealed` makes a Linux network namespace whose only ways are loopback and a default route into nothing, for
IPv4 and IPv6, with a name server that never answers. What a program in it sends to anywhere but this
machine, a look-up of a name included, is recorded below any library, so it does not matter what the program
is written in. The folders that programs like to leave something in (/tmp, /var/tmp, /dev/shm, the user's
home) are empty ones.

Run as a program, this file is the first process inside: it sets all that up, and records until its input
ends.
"""

import contextlib
import ctypes
import dataclasses
import ipaddress
import json
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
OWN_4, GATEWAY_4 = "198.51.100.2", "198.51.100.1"  # addresses kept for documentation: nobody has them
OWN_6, GATEWAY_6 = "2001:db8::2", "2001:db8::1"
NAME_SERVER = "198.51.100.53"
NOBODY_4, NOBODY_6 = "203.0.113.5", "2001:db8:1::5"  # where planted packets go
SENTINEL = "203.0.113.254"  # where `Sealed.packets` sends, to know that all before it was recorded
NAME_PORTS = (53, 853, 5353, 5355)
KERNEL_ICMP6 = {
    *range(130, 137),
    143,
}  # neighbours, routers, group members: what any IPv6 interface says by itself
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
MS_BIND, MS_REC = 0x1000, 0x4000
DEADLINE = 30.0  # seconds that anything here may take
COVERED = ("/tmp", "/var/tmp", "/dev/shm")


@dataclasses.dataclass(frozen=True)
class Packet:
    """One packet to somewhere else. port: of the destination, 0 where there is none. name: what a look-up
    asked.
    """

    destination: str
    protocol: str
    port: int = 0
    name: str = ""


def parse(kind: int, data: bytes) -> Packet | None:
    """What a packet says from its network header on; None where the kernel itself sent it.

    Args:
        kind: the EtherType, as `ETH_P_IP`. data: the packet without its Ethernet header.
    """
    if kind == ETH_P_IP and len(data) >= 20:
        body = data[(data[0] & 15) * 4 :]
        return _transport(str(ipaddress.IPv4Address(data[16:20])), data[9], body)
    if kind == ETH_P_IPV6 and len(data) >= 40:
        protocol, body = data[6], data[40:]
        while protocol in (0, 43, 60) and len(body) >= 8:  # options before the payload
            protocol, body = body[0], body[(body[1] + 1) * 8 :]
        if protocol == socket.IPPROTO_ICMPV6 and body[:1] and body[0] in KERNEL_ICMP6:
            return None
        return _transport(str(ipaddress.IPv6Address(data[24:40])), protocol, body)
    if kind == 0x0806 and len(data) >= 28:  # ARP: somebody wants to talk to a neighbour
        return Packet(str(ipaddress.IPv4Address(data[24:28])), "ARP")
    return Packet("", f"EtherType {kind:#06x}")


def _transport(destination: str, protocol: int, body: bytes) -> Packet | None:
    if protocol == socket.IPPROTO_IGMP:
        return None  # the kernel's, like the group members above
    if protocol not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) or len(body) < 8:
        return Packet(destination, f"protocol {protocol}")
    port = struct.unpack_from("!H", body, 2)[0]
    if protocol == socket.IPPROTO_TCP:
        return Packet(destination, "TCP", port)
    return Packet(destination, "UDP", port, _asked(body[8:]) if port in NAME_PORTS else "")


def _asked(query: bytes) -> str:
    """The name that a DNS query asks for, as far as it can be read."""
    labels = []
    at = 12
    while at < len(query) and query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


def leaves(packet: Packet, interface: str) -> bool:
    """Whether a packet counts as sent away: everything but what stays on loopback and asks no name server."""
    if interface != "lo":
        return True
    try:
        address = ipaddress.ip_address(packet.destination)
    except ValueError:
        return True
    own = address.is_loopback or str(address) in (OWN_4, OWN_6) or address.is_link_local
    return not own or (packet.port in NAME_PORTS and bool(packet.name))


# ---- outside ----


class Sealed:
    """The namespace seen from outside. Use as a context manager; `folder` is its one folder shared with
    outside.

    Raises OSError where this machine permits no namespaces, or lacks the tools to make one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "packets"
        self._sentinels = 0

    def __enter__(self) -> "Sealed":
        for tool in ("unshare", "nsenter", "ip"):
            if shutil.which(tool) is None:
                raise OSError(f"there is no program {tool}; install util-linux and iproute2")
        self._as_user = ["--map-root-user"] if os.geteuid() else []
        self._log = (self.folder / "sealed.log").open("w+")
        command = ["unshare", "--net", "--mount", *self._as_user, sys.executable, __file__, str(self.folder)]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != "ready":
            self.__exit__()
            raise OSError("no namespace: " + (self.folder / "sealed.log").read_text().strip()[-500:])
        return self

    def __exit__(self, *error: object) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        try:
            self._holder.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._holder.kill()
        self._log.close()

    def inside(self, command: Sequence[str | Path], folder: Path | None = None) -> list[str]:
        """The command line that runs `command` inside; folder: its working folder, None for a program of the
        browser's kind that keeps the file system as it is outside."""
        enter = ["nsenter", "--target", str(self._holder.pid), "--net"]
        enter += ["--user", "--preserve-credentials"] if self._as_user else []
        words = [str(word) for word in command]
        if folder is None:
            return [*enter, "--", *words]
        return [*enter, "--mount", "--", "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *words]

    def start(
        self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str], log: IO[str]
    ) -> subprocess.Popen[str]:
        """A program inside, its output in `log`."""
        return subprocess.Popen(
            self.inside(command, folder), env=dict(env), stdout=log, stderr=subprocess.STDOUT, text=True
        )

    def run(
        self, command: Sequence[str | Path], folder: Path, env: Mapping[str, str], timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """A program inside, until it ends."""
        return subprocess.run(
            self.inside(command, folder),
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def packets(self, since: int = 0) -> list[Packet]:
        """What was sent away so far, after the first `since` packets; complete up to the call."""
        self._sentinels += 1
        code = f"import socket; socket.socket(2, 2).sendto(b'', ({SENTINEL!r}, {1000 + self._sentinels}))"
        subprocess.run(self.inside([sys.executable, "-I", "-c", code]), check=True, timeout=DEADLINE)
        last = Packet(SENTINEL, "UDP", 1000 + self._sentinels)
        until = time.monotonic() + DEADLINE
        while last not in (seen := self._recorded()):
            assert time.monotonic() < until, "the recorder has stopped"
            time.sleep(0.02)
        return [packet for packet in seen if packet.destination != SENTINEL][since:]

    def _recorded(self) -> list[Packet]:
        lines = self.record.read_text().splitlines(keepends=True)
        return [Packet(**json.loads(line)) for line in lines if line.endswith("\n")]

    def left_behind(self) -> set[str]:
        """Every file and folder in what covers /tmp and the like, but for what was put back inside."""
        seen = Path(f"/proc/{self._holder.pid}/root")
        found = set()
        for top in (*COVERED, _home()):
            inside = seen / top.lstrip("/")
            if inside.is_dir():
                found |= {str(path.relative_to(seen)) for path in _on_one_device(inside)}
        return found


def _on_one_device(folder: Path) -> Iterator[Path]:
    device = folder.stat().st_dev
    for path in folder.iterdir():
        if path.lstat().st_dev == device:
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _on_one_device(path)


def _home() -> str:
    """The home folder that the system knows, whatever HOME says."""
    return pwd.getpwuid(os.getuid()).pw_dir


# ---- inside ----


def hold(folder: Path) -> None:
    """Set up the namespace that this process is in, say "ready", record until the input ends."""
    _cover(folder)
    (folder / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ("resolv.conf", "nsswitch.conf"):
        if Path("/etc", name).exists():
            _mount(str(folder / name), str(Path("/etc", name).resolve()), flags=MS_BIND)
    with contextlib.closing(
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    ) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        with (folder / "packets").open("w", buffering=1) as record:
            threading.Thread(target=_record, args=(tap, record), daemon=True).start()
            _interfaces()
            print("ready", flush=True)
            sys.stdin.read()


def _record(tap: socket.socket, record: IO[str]) -> None:
    while True:
        data, (interface, kind, direction, *_) = tap.recvfrom(65535)
        sent = direction == 4  # PACKET_OUTGOING; the same packet is seen a second time where it arrives
        packet = parse(kind, data) if sent else None
        if packet is not None and interface != "away1" and leaves(packet, interface):
            record.write(json.dumps(dataclasses.asdict(packet)) + "\n")


def _interfaces() -> None:
    """Loopback, and one end of a cable whose other end nobody listens at, as the default route."""
    route = (
        "link set lo up",
        "link add away0 type veth peer name away1",
        "link set away0 up",
        "link set away1 up",
        f"address add {OWN_4}/24 dev away0",
        f"-6 address add {OWN_6}/64 dev away0 nodad",
        f"neighbour add {GATEWAY_4} lladdr 02:00:00:00:00:01 dev away0 nud permanent",
        f"neighbour add {NAME_SERVER} lladdr 02:00:00:00:00:01 dev away0 nud permanent",
        f"-6 neighbour add {GATEWAY_6} lladdr 02:00:00:00:00:01 dev away0 nud permanent",
        f"route add default via {GATEWAY_4}",
        f"-6 route add default via {GATEWAY_6}",
    )
    for words in route:
        subprocess.run(["ip", *words.split()], check=True)


def _cover(folder: Path) -> None:
    """Empty folders over those that programs like to leave something in; what the test needs is put back
    inside.
    """
    needed = {folder, ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    for top in map(Path, (*COVERED, _home())):
        if not top.is_dir() or top == Path("/"):
            continue
        inside = [path.resolve() for path in needed if path.resolve().is_relative_to(top.resolve())]
        handles = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in inside}
        _mount("none", str(top), "tmpfs")
        top.chmod(0o1777)
        for path, handle in handles.items():
            path.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{handle}", str(path), flags=MS_BIND | MS_REC)
            os.close(handle)


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
