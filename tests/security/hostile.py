"""Hostile requests, made by a seeded generator: each with what a safe server may answer."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

SEED = 28
SECRET = "root:x:0:0"  # how /etc/passwd begins
JSON = {"Content-Type": "application/json"}
REFUSED = frozenset({400, 403, 404, 405, 408, 413, 415, 421, 422})


@dataclass(frozen=True)
class Request:
    """A request as it goes over the wire: nothing is normalised or encoded on the way."""

    name: str
    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    expected: frozenset[int] = REFUSED
    host: str | None = None  # None: the right one


def addresses(dice: random.Random) -> Iterator[str]:
    """Ways to write an address elsewhere."""
    hosts = ("example.com", "127.0.0.1:1", "169.254.169.254", "[::1]:1", "metadata.internal", "2130706433")
    for scheme in (
        "http://",
        "https://",
        "HTTP://",
        "hTtPs://",
        "ftp://",
        "file://",
        "gopher://",
        "data:text/html,",
    ):
        yield f"{scheme}{dice.choice(hosts)}/a.jpg"
    for opening in (
        "//",
        "\\\\",
        "/\\",
        "http:/",
        "http:\\\\",
        "https:///",
        " http://",
        "\thttp://",
        "http:",
        "x://",
    ):
        yield f"{opening}{dice.choice(hosts)}/a{dice.randrange(100)}.jpg"


def spellings(text: str) -> Iterator[str]:
    """A path in an address: as it is where that is possible, encoded, encoded twice, in part."""
    yield quote(text, safe="/:@\\")
    yield quote(text, safe="")
    yield quote(quote(text, safe=""), safe="")
    yield "".join(f"%{byte:02x}" for byte in text.encode())


def fetches(dice: random.Random) -> Iterator[Request]:
    for address in addresses(dice):
        for spelled in spellings(address):
            for prefix in ("/gradio_api/file=", "/gradio_api/proxy="):
                yield Request(f"fetch {prefix}{address}", prefix + spelled)
    for prefix in ("/proxy=", "/file=", "/gradio_api/file/", "/file/", "/gradio_api/proxy/"):
        yield Request(f"old {prefix}", prefix + quote("http://example.com/a.jpg", safe=":/"))


def traversals(dice: random.Random) -> Iterator[Request]:
    targets = (
        "/etc/passwd",
        "../../etc/passwd",
        "/proc/self/environ",
        "app.py",
        "/root/.ssh/id_rsa",
        "C:\\boot.ini",
    )
    for target in targets:
        for spelled in spellings(target):
            yield Request(f"read {target}", "/gradio_api/file=" + spelled)
    ups = ("../" * 8, "..%2f" * 8, "%2e%2e/" * 8, "..\\" * 8, "....//" * 8, "%252e%252e%252f" * 8, "..;/" * 8)
    for up in ups:
        for base in ("/static/", "/assets/", "/gradio_api/file=", "/gradio_api/file=/tmp/", "/svelte/"):
            yield Request(f"climb {base}{up}", f"{base}{up}etc/passwd".replace("\\", "%5c"))
    for odd in ("%00", "a%00.jpg", "%0d%0aX-Evil:1", "a" * 5000, "%ff%fe", "%c0%ae%c0%ae/"):
        yield Request(f"odd {odd[:12]}", f"/gradio_api/file=/tmp/{odd}")


GONE = (
    "/monitoring",
    "/monitoring/summary",
    "/monitoring/x",
    "/login",
    "/login/huggingface",
    "/login/callback",
    "/logout",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/gradio_api/openapi.json",
    "/gradio_api/token",
    "/gradio_api/user",
    "/gradio_api/login_check",
    "/gradio_api/startup-events",
    "/gradio_api/deep_link?session_hash=x",
    "/gradio_api/runs",
    "/gradio_api/run-history/buckets",
    "/gradio_api/mcp/sse",
    "/gradio_api/mcp/",
    "/gradio_api/vibe-code",
    "/gradio_api/vibe-starter-queries",
    "/gradio_api/custom_component/x/client/component/index.js",
    "/gradio_api/stream/a/b/1/playlist.m3u8",
    "/gradio_api/stream/a/b/1/playlist-file",
    "/gradio_api/profiling/traces",
    "/dev/reload",
    "/gradio_api/dev/reload",
    "/pwa_icon",
    "/pwa_icon/64",
    "/svelte/svelte.js",
    "/.git/config",
    "/app.py",
    "/gradio_api",
    "/gradio_api/",
    "//example.com/",
    "/%2f%2fexample.com",
    "/gradio_api/call/edit/" + "a" * 65,
)
GONE_POSTS = (
    "/gradio_api/run/edit",
    "/gradio_api/api/edit",
    "/gradio_api/call/v2/edit",
    "/gradio_api/component_server",
    "/gradio_api/process_recording",
    "/gradio_api/vibe-edit",
    "/gradio_api/undo-vibe-edit",
    "/gradio_api/vibe-code",
    "/gradio_api/stream/x",
    "/gradio_api/stream/x/close",
    "/gradio_api/run-history/connect",
    "/login",
    "/gradio_api/mcp/messages",
)


def unneeded(dice: random.Random) -> Iterator[Request]:
    for path in GONE:
        yield Request(f"gone {path}", path)
    for path in GONE_POSTS:
        yield Request(f"gone POST {path}", path, "POST", JSON, b'{"data": [], "prompt": "x", "code": "x"}')
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "POST"):
        yield Request(f"{method} /", "/", method)
    for method in ("GET", "HEAD", "PUT"):
        yield Request(f"{method} join", "/gradio_api/queue/join", method)
    yield Request("no session", "/gradio_api/queue/data")
    yield Request("unknown session", f"/gradio_api/queue/data?session_hash={dice.randrange(10**9)}")
    yield Request("odd session", "/gradio_api/queue/data?session_hash=../../x")
    yield Request("unknown event", f"/gradio_api/call/edit/{dice.randrange(10**9)}")


def strangers(dice: random.Random) -> Iterator[Request]:
    """Other names for this server, and other sites that use it."""
    names = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0",
        "127.1",
        "0x7f.1",
        "127.0.0.1@evil",
    ]
    names += [
        "192.168.1.1",
        "[::2]",
        "",
        "localhost:99999",
        "localhost:x",
        "127.0.0.1:1:2",
        "017700000001",
        "a b",
    ]
    names += ["localhost.", "evil.example:7860", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1, evil.example"]
    for name in names:
        yield Request(f"host {name}", "/", host=name)
        yield Request(f"host {name} info", "/gradio_api/info", host=name)
    origins = [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1:1",
        "file://",
        "http://",
    ]
    for origin in [*origins, "http://127.0.0.1.evil.example"]:
        for method, path in (
            ("POST", "/gradio_api/upload"),
            ("POST", "/gradio_api/queue/join"),
            ("GET", "/gradio_api/info"),
        ):
            yield Request(f"origin {origin} {path}", path, method, {**JSON, "Origin": origin}, b"{}")
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        yield Request(f"preflight {origin}", "/gradio_api/upload", "OPTIONS", asks)
    for site in ("cross-site", "same-site"):
        for path in ("/gradio_api/info", "/config", "/gradio_api/heartbeat/abc", "/assets/x.js", "/"):
            yield Request(
                f"{site} {path}", path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
            )
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    yield Request("framed", "/", headers=frame)


def broken_bodies(dice: random.Random) -> Iterator[Request]:
    noise = dice.randbytes(400)
    bodies = (
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\x00" * 50,
        noise,
        b'{"data": [NaN]}',
        b'{"data": [1e999]}',
    )
    more = (
        b'{"data": Infinity}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
    )
    for path in ("call/edit", "queue/join", "cancel", "reset"):
        for body in (*bodies, *more):
            yield Request(f"body {path} {body[:12]!r}", f"/gradio_api/{path}", "POST", JSON, body)
        big = b'{"data": ["' + b"a" * (10 << 20) + b'"]}'
        yield Request(f"big {path}", f"/gradio_api/{path}", "POST", JSON, big, frozenset({413}))
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
            yield Request(
                f"{kind} {path}", f"/gradio_api/{path}", "POST", {"Content-Type": kind}, b'{"data": []}'
            )


ODD: tuple[Any, ...] = ("²", [], {}, [1], {"a": 1}, 10**30, -1e300, "' OR 1", True, "a" * 3000, [[[[]]]])


def wrong_values(dice: random.Random) -> Iterator[Request]:
    """Values of the wrong kind in each place of each endpoint, and the wrong number of them."""
    right = {"edit": [None, 20, 150, "0", True], "tune": [150, False], "compare": [None, 20, 150, "0"]}
    for name, values in (*right.items(), ("journey", [None, 150, "0"])):
        url = f"/gradio_api/call/{name}"
        for k, value in enumerate(values):
            for odd in ODD:
                fits = isinstance(odd, bool) and isinstance(value, bool)
                is_face = value == "0" and (isinstance(odd, str) and len(odd) < 2000)
                if (
                    fits
                    or is_face
                    or (value == "0" and isinstance(odd, (int, float)) and not isinstance(odd, bool))
                ):
                    continue  # of the right kind: the endpoint itself answers, see test_http
                data = [*values[:k], odd, *values[k + 1 :]]
                yield Request(
                    f"{name} {k} {str(odd)[:12]}", url, "POST", JSON, json.dumps({"data": data}).encode()
                )
        for data in ([], values[:-1], [*values, 1], [None] * 90, [None] * 400):
            yield Request(
                f"{name} {len(data)} values", url, "POST", JSON, json.dumps({"data": data}).encode()
            )
    for name in ("nothing", "lambda", "open_photo", "load", "Edit", "edit/", "%65dit/../tune", "-1", "0"):
        yield Request(f"call {name}", f"/gradio_api/call/{name}", "POST", JSON, b'{"data": []}')


def wrong_joins(dice: random.Random) -> Iterator[Request]:
    base: dict[str, Any] = {
        "data": [],
        "fn_index": 0,
        "session_hash": "abc",
        "trigger_id": 1,
        "event_data": None,
    }
    for key in ("data", "fn_index", "session_hash"):
        for odd in (*ODD, None, -1, 99999, 1.5, "1", "a/b", "\x00"):
            if key == "data" and odd == []:
                continue
            body = json.dumps(base | {key: odd}).encode()
            if key == "session_hash" and odd in ("1",):
                continue
            yield Request(f"join {key} {str(odd)[:12]}", "/gradio_api/queue/join", "POST", JSON, body)
        without = {k: v for k, v in base.items() if k != key}
        yield Request(
            f"join without {key}", "/gradio_api/queue/join", "POST", JSON, json.dumps(without).encode()
        )


def foreign_files(dice: random.Random) -> Iterator[Request]:
    """Files that were never uploaded here, wherever a client may name one."""
    meta = {"_type": "gradio.FileData"}
    named: list[Any] = [{"path": address, "meta": meta} for address in addresses(dice)]
    named += [{"path": "/etc/passwd", "url": address, "meta": meta} for address in addresses(dice)]
    named += [
        {"url": "http://example.com/a.jpg"},
        {"path": "/etc/passwd"},
        {"path": ""},
        {"path": None, "meta": meta},
    ]
    named += [
        "http://example.com/a.jpg",
        "/etc/passwd",
        [{"path": "/etc/passwd", "meta": meta}] * 3,
        {"meta": meta},
    ]
    named += [
        {"path": "/etc/passwd", "is_stream": True, "meta": meta},
        [{"path": "https://example.com/a", "meta": meta}],
    ]
    named += [
        {"a": {"path": "/etc/passwd", "meta": meta}},
        {"path": "data:image/png;base64,AAAA", "meta": meta},
    ]
    for file in named:
        for name, rest in (
            ("edit", [20, 150, "0", True]),
            ("compare", [20, 150, "0"]),
            ("journey", [150, "0"]),
        ):
            body = json.dumps({"data": [file, *rest]}).encode()
            yield Request(f"{name} {str(file)[:40]}", f"/gradio_api/call/{name}", "POST", JSON, body)


def form(name: str, filename: str, content: bytes, end: bytes = b"--x--\r\n") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + b"\r\n" + end


def uploads(dice: random.Random) -> Iterator[Request]:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    bodies = {
        "empty": b"",
        "noise": dice.randbytes(2000),
        "no end": form("files", "a.jpg", b"x", b""),
        "no file": b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nhttp://example.com/a.jpg\r\n--x--\r\n',
        "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n",
        "many": form("files", "a.jpg", b"x", b"") * 50 + b"--x--\r\n",
        "long header": b"--x\r\nContent-Disposition: " + b"a" * 200_000 + b"\r\n\r\nx\r\n--x--\r\n",
    }
    for name, body in bodies.items():
        yield Request(f"upload {name}", "/gradio_api/upload", "POST", kind, body)
    for other in ("application/json", "text/plain", "", "multipart/form-data", "multipart/mixed; boundary=x"):
        yield Request(
            f"upload as {other}",
            "/gradio_api/upload",
            "POST",
            {"Content-Type": other},
            form("files", "a", b"x"),
        )


def requests(seed: int = SEED) -> list[Request]:
    """All of them, in a mixed order that is the same each time."""
    dice = random.Random(seed)
    kinds = (
        fetches,
        traversals,
        unneeded,
        strangers,
        broken_bodies,
        wrong_values,
        wrong_joins,
        foreign_files,
        uploads,
    )
    made = [request for kind in kinds for request in kind(dice)]
    dice.shuffle(made)
    return made
