"""The server as an attacker sees it: the real app against a corpus of hostile requests, and every
guard on its own.
"""

import http.client
import json
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import pytest
from conftest import PORTRAITS, ROOT

from ui.security.guard import UPLOADS_AT_ONCE
from ui.server import CONNECTIONS

FORBIDDEN = (
    hostile.SECRET,
    "Traceback",
    "site-packages",
    ".py",
    "--fresh",
    "pydantic",
    "gradio.",
    'File "',
    "null",
)
REQUIRED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def send(port: int, asked: hostile.Request) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body); status 0 where the server hung up while a body was still on its way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"127.0.0.1:{port}" if asked.host is None else asked.host)
        for name, value in asked.headers.items():
            connection.putheader(name, value)
        if asked.body or asked.method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(asked.body)))
        connection.endheaders()
        try:
            connection.send(asked.body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
        return 0, {}, b""
    except TimeoutError:  # let in, and a stream that stays open
        return -1, {}, b""
    finally:
        connection.close()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def complaint(asked: hostile.Request, status: int, headers: dict[str, str], body: bytes) -> str | None:
    """What is wrong with an answer to a hostile request; None if nothing is."""
    if status == 0 and len(asked.body) > 1 << 20:
        return None  # refused before all of it was sent
    if status not in asked.expected:
        return f"status {status}"
    wrong = [name for name, value in REQUIRED.items() if headers.get(name) != value]
    if wrong or "content-security-policy" not in headers or headers.get("cache-control") != "no-store":
        return f"headers {wrong or headers}"
    if any(name.startswith("access-control-") for name in headers):
        return "CORS headers"
    if asked.method == "HEAD":
        return None
    sentence = json.loads(body).get("error")
    if not (isinstance(sentence, str) and 10 < len(sentence) < 200 and sentence[0].isupper()):
        return f"not one sentence: {body!r}"
    found = [word for word in (*FORBIDDEN, str(ROOT)) if word in body.decode()]
    return f"{found} in {body!r}" if found else None


def test_every_hostile_request_is_refused_in_one_sentence(url, app_folder):
    asked = hostile.requests()
    assert len(asked) >= 300
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda request: send(port_of(url), request), asked))
    complaints = {r.name: complaint(r, *answer) for r, answer in zip(asked, answers, strict=True)}
    assert not {name: words for name, words in complaints.items() if words}
    assert time.monotonic() - start < 60
    status, _, body = send(port_of(url), hostile.Request("the page", "/"))
    assert status == 200 and b"gradio_config" in body
    log = (app_folder / "log").read_text()
    assert "Traceback" not in log and "Exception in ASGI" not in log


def result(port: int, name: str, data: list) -> str:
    """What the stream of a call says in the end."""
    body = json.dumps({"data": data}).encode()
    status, _, answer = send(
        port, hostile.Request(name, f"/gradio_api/call/{name}", "POST", hostile.JSON, body)
    )
    if status != 200:
        return answer.decode()
    event = json.loads(answer)["event_id"]
    return send(port, hostile.Request("stream", f"/gradio_api/call/{name}/{event}"))[2].decode()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("edit", [None, 20, 150, "²", True], "number of a face"),
        ("edit", [None, 20, 150, "٣", True], "number of a face"),
        ("edit", [None, 20, 150, "1.5", True], "number of a face"),
        ("edit", [None, 20, 150, "-1", True], "number of a face"),
        ("edit", [None, 20, 150, "", True], "number of a face"),
        ("edit", [None, 20, -5, "0", True], "positive number"),
        ("edit", [None, 20, 0, "0", True], "positive number"),
        ("edit", [None, 20, "20", "0", True], "must be a number"),
        ("edit", [None, 20, 150, "0", None], "Give a photo"),
        ("edit", [None] * 5, "Give a photo"),
        ("compare", [None, 20, 1e9, "0"], "positive number"),
        ("compare", [None, None, None, None], "Give a photo"),
        ("journey", [None, 150, "all of us"], "number of a face"),
        ("tune", [-1, False], "positive number"),
        ("tune", [150, "yes"], "true or false"),
    ],
)
def test_values_that_make_no_sense_are_one_sentence(url, name, data, words):
    answer = result(port_of(url), name, data)
    assert words in answer and '"error": null' not in answer
    assert not [word for word in FORBIDDEN[:-1] if word in answer]


def test_a_flood_is_told_that_the_machine_is_busy(url, app_folder):
    """300 joins at once: some wait, the others hear it, and nothing breaks."""
    body = json.dumps({"data": [None, 20, 150, "0", True]}).encode()
    ask = hostile.Request("flood", "/gradio_api/call/edit", "POST", hostile.JSON, body)
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: send(port_of(url), ask), range(300)))
    assert {status for status, _, _ in answers} <= {200, 503}
    for status, _, answer in answers:
        assert status == 200 or "busy" in json.loads(answer)["error"]
    assert "Traceback" not in (app_folder / "log").read_text()


def test_one_who_says_nothing_or_too_little_is_hung_up_on(url):
    """Uploads that never go on and a request that never begins hold no place for good."""
    port = port_of(url)
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    stalled = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(UPLOADS_AT_ONCE)]
    for connection in stalled:
        connection.sendall(head.encode())
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    content = hostile.form("files", "a.jpg", b"x")
    assert send(port, hostile.Request("upload", "/gradio_api/upload", "POST", form, content))[0] == 200
    for connection in stalled:
        assert b" 408 " in connection.recv(1000).splitlines()[0]
        connection.close()
    silent = socket.create_connection(("127.0.0.1", port), timeout=120)
    silent.sendall(b"GET / HT")
    assert silent.recv(100) == b""


def test_connections_beyond_the_limit_are_hung_up_on(url):
    """However many say nothing, the server keeps files to open."""
    port = port_of(url)
    opened = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(CONNECTIONS + 20)]
    try:
        ready = []
        deadline = time.monotonic() + 30
        while len(ready) < 20 and time.monotonic() < deadline:
            ready, _, _ = select.select(opened, [], [], 1)
        assert len(ready) >= 20, "the last ones were hung up on"
    finally:
        for connection in opened:
            connection.close()
    deadline = time.monotonic() + 60
    while send(port, hostile.Request("the page", "/"))[0] != 200:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    "lines",
    [
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET http://evil.example/gradio_api/info HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET //evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: https://evil.example\r\n\r\n",
        "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        "Content-Length: 6\r\n\r\nabcde",
        "GARBAGE\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_odd_request_lines_get_nothing(url, lines):
    with socket.create_connection(("127.0.0.1", port_of(url)), timeout=30) as connection:
        connection.sendall(lines.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer == b"" or answer.split()[1] in (b"400", b"403", b"404", b"405", b"421")
    assert b"gradio_config" not in answer


def test_an_upload_is_renamed_and_never_kept_by_a_browser(url, app_folder):
    name = "My secret holiday in Vitoria.JPG"
    photo = PORTRAITS[0].read_bytes()
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    asked = hostile.Request("upload", "/gradio_api/upload", "POST", kind, hostile.form("files", name, photo))
    status, headers, answer = send(port_of(url), asked)
    assert status == 200 and headers["cache-control"] == "no-store"
    (path,) = json.loads(answer)
    assert "secret" not in path and Path(path).suffix == ".jpg"
    assert not list(app_folder.rglob("*secret*"))
    status, headers, body = send(port_of(url), hostile.Request("see", f"/gradio_api/file={path}"))
    assert status == 200 and body == photo
    assert headers["cache-control"] == "no-store" and headers["content-type"] == "image/jpeg"
    assert "sandbox" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name", ["a.html", "a.svg", "a.xhtml", "a.js", "a.xml", "a.pdf", "a", "a.jpg.html", ".htaccess"]
)
def test_an_upload_is_never_a_page(url, name):
    content = b"<html><script>alert(1)</script>"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    asked = hostile.Request(
        "upload", "/gradio_api/upload", "POST", kind, hostile.form("files", name, content)
    )
    (path,) = json.loads(send(port_of(url), asked)[2])
    status, headers, _ = send(port_of(url), hostile.Request("see", f"/gradio_api/file={path}"))
    assert status == 200 and headers["content-type"] == "application/octet-stream"
    assert (
        headers["content-disposition"].startswith("attachment")
        and "sandbox" in headers["content-security-policy"]
    )


def test_only_what_is_the_same_for_all_may_be_kept(url):
    _, headers, html = send(port_of(url), hostile.Request("page", "/"))
    assert headers["cache-control"] == "no-store"
    script = html.split(b'src="./assets/', 1)[1].split(b'"', 1)[0].decode()
    assert (
        "immutable" in send(port_of(url), hostile.Request("asset", f"/assets/{script}"))[1]["cache-control"]
    )
    portrait = send(port_of(url), hostile.Request("portrait", f"/gradio_api/file={PORTRAITS[0]}"))
    assert portrait[0] == 200 and "max-age" in portrait[1]["cache-control"]
    for path in ("/config", "/gradio_api/info", "/theme.css"):
        assert send(port_of(url), hostile.Request(path, path))[1]["cache-control"] == "no-store"


def test_the_page_may_load_from_here_alone(url):
    _, headers, _ = send(port_of(url), hostile.Request("page", "/"))
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == policy["font-src"] == policy["form-action"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"] and "sha256-" in policy["script-src"]
    for value in policy.values():
        assert all(s.startswith("'") or s in ("data:", "blob:") for s in value.split()), value


@pytest.mark.parametrize("name", ["127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860", "127.8.9.1"])
def test_loopback_names_are_answered(url, name):
    assert send(port_of(url), hostile.Request("page", "/", host=name))[0] == 200


def test_our_own_page_and_programs_may_write(url):
    port = port_of(url)
    body = b'{"event_id": "abc"}'
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}
    for headers in (own, {}):
        asked = hostile.Request("reset", "/gradio_api/reset", "POST", hostile.JSON | headers, body)
        assert send(port, asked)[0] == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert send(port, hostile.Request("a link to the page", "/", headers=link))[0] == 200


def test_forwarding_headers_and_queries_change_nothing(url):
    port = port_of(url)
    told = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Gradio-Server": "http://evil.example",
    }
    for path in ("/", "/config", "/gradio_api/info", "/?deep_link=x&page=y", "/config?deep_link=../../x"):
        status, _, body = send(port, hostile.Request(path, path, headers=told))
        assert status == 200 and b"evil.example" not in body
