"""Each guard on its own, in this process: what it stops gets through when it alone is taken away."""

import base64
import errno
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PORTRAITS, ROOT
from starlette.testclient import TestClient

from ui import compat, errors, hosts, requests, server, settings, uploads
from ui.page import build
from ui.security import answer as answers
from ui.security import bodies, guard, refusal, routes

HOME = "http://127.0.0.1:7860"
JSON = {"Content-Type": "application/json"}
ELSEWHERE = "http://example.com/a.jpg"


class NoService:
    """Stands for the Service; a request that reaches it was let in."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"the service was asked for {name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[str]:
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("uploads"))
    yield os.environ["GRADIO_TEMP_DIR"]
    if before is None:
        del os.environ["GRADIO_TEMP_DIR"]
    else:
        os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture(scope="module")
def application(folder) -> guard.Guard:
    """The whole application without an engine; it answers to the name photo.lan beside the loopback ones."""
    return server.guarded(build(NoService), frozenset({"photo.lan"}))


@pytest.fixture(scope="module")
def visitor(application) -> Iterator[TestClient]:
    with TestClient(
        application, base_url=HOME, follow_redirects=False, raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture(scope="module")
def bare(application) -> TestClient:
    """Gradio's own app, as it would be if the guard before it were gone."""
    return TestClient(application.app, base_url=HOME, follow_redirects=False, raise_server_exceptions=False)


def nothing(*args: Any, **kwargs: Any) -> None:
    """Stands for a check that is gone."""


GUARDS = [
    ("check_host", "GET", "/", {"host": "evil.example"}, 421),
    ("check_origin", "GET", "/gradio_api/info", {"origin": "https://evil.example"}, 403),
    ("check_origin", "GET", "/gradio_api/info", {"sec-fetch-site": "cross-site"}, 403),
    ("check_origin", "GET", "/gradio_api/info", {"origin": "null"}, 403),
]


@pytest.mark.parametrize(("name", "method", "path", "headers", "status"), GUARDS)
def test_a_check_is_what_stops_it(visitor, monkeypatch, name, method, path, headers, status):
    assert visitor.request(method, path, headers=headers).status_code == status
    monkeypatch.setattr(guard, name, nothing)
    assert visitor.request(method, path, headers=headers).status_code == 200


def test_a_write_without_an_origin_needs_a_loopback_name(visitor):
    body = {"event_id": "abc"}
    reset = "/gradio_api/reset"
    assert visitor.post(reset, json=body).status_code == 200
    assert visitor.post(reset, json=body, headers={"host": "photo.lan"}).status_code == 403
    own = {"host": "photo.lan:7860", "origin": "http://photo.lan:7860"}
    assert visitor.post(reset, json=body, headers=own).status_code == 200
    other = {"host": "photo.lan:7860", "origin": "http://127.0.0.1:7860"}
    assert visitor.post(reset, json=body, headers=other).status_code == 403


def test_the_list_of_routes_is_what_hides_the_rest(visitor, monkeypatch):
    for path in ("/gradio_api/startup-events", "/gradio_api/openapi.json", "/gradio_api/login_check"):
        assert visitor.get(path).status_code == 404
    anything = routes.Route(re.compile(".*"), frozenset({"GET"}), "data")
    monkeypatch.setattr(guard, "find_route", lambda scope: anything)
    assert visitor.get("/gradio_api/openapi.json").status_code == 200


def test_headers_are_ours_alone(visitor, monkeypatch):
    answer = visitor.get("/gradio_api/info", headers={"origin": HOME})
    assert answer.headers["x-content-type-options"] == "nosniff" and "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    monkeypatch.setattr(answers, "HEADERS", {})
    assert "x-content-type-options" not in visitor.get("/gradio_api/info").headers


@pytest.fixture
def lookups(monkeypatch) -> list[str]:
    """Names that Gradio wants to reach; none is."""
    import safehttpx

    asked: list[str] = []

    async def look(host: str) -> str:
        asked.append(host)
        raise OSError

    monkeypatch.setattr(safehttpx, "async_validate_url", look)
    return asked


def original(owner: Any, name: str) -> Any:
    """A function of Gradio's as it was before it was replaced, from a second copy of its module."""
    spec = importlib.util.find_spec(owner)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_an_address_is_stopped_at_the_door_and_again_inside(visitor, bare, lookups, monkeypatch):
    import gradio.routes

    path = f"/gradio_api/file={ELSEWHERE}"
    assert visitor.get(path).status_code == 404 and bare.get(path).status_code == 404 and lookups == []
    monkeypatch.setattr(
        gradio.routes,
        "secure_url_stream_response",
        original("gradio.route_utils", "secure_url_stream_response"),
    )
    assert visitor.get(path).status_code == 404 and lookups == [], "the door alone"
    bare.get(path)
    assert lookups == ["example.com"], "without either it is fetched"


def test_a_named_file_is_stopped_at_the_door_and_again_inside(visitor, bare, lookups, monkeypatch):
    from gradio import processing_utils

    got: list[str] = []

    async def fetch(url: str, cache_dir: str) -> str:
        got.append(url)
        raise OSError

    body = {
        "data": [{"path": ELSEWHERE, "meta": {"_type": "gradio.FileData"}}, 20, 150, "0", True],
        "session_hash": "abc",
    }
    refused = visitor.post("/gradio_api/call/edit", json=body)
    assert refused.status_code == 400 and compat.FETCHES_NOTHING == refused.json()["error"]
    index = next(k for k, fn in server_fns(visitor).items() if fn.api_name == "edit")
    monkeypatch.setattr(server_page(visitor), "api_open", True)
    assert compat.FETCHES_NOTHING in bare.post("/gradio_api/run/edit", json=body | {"fn_index": index}).text
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    bare.post("/gradio_api/run/edit", json=body | {"fn_index": index})
    assert got == [ELSEWHERE], "without the patch it is fetched"


def server_page(client: TestClient) -> Any:
    return client.app.check.page


def server_fns(client: TestClient) -> dict[int, Any]:
    return server_page(client).fns


def test_a_proxied_address_is_stopped_at_the_door_and_again_inside(visitor, bare):
    path = "/gradio_api/proxy=https://x.hf.space/a.jpg"
    assert visitor.get(path).status_code == 404 and bare.get(path).status_code == 404


def test_other_files_are_stopped_at_the_door_and_again_inside(visitor, bare, folder, monkeypatch):
    inside = f"/gradio_api/file={PORTRAITS[0]}"
    assert (
        visitor.get(inside).status_code == 200
        and visitor.get("/gradio_api/file=/etc/passwd").status_code == 404
    )
    assert bare.get(inside).status_code == 404, "Gradio itself hands out nothing"
    link = f"{folder}/link.jpg"
    os.symlink("/etc/passwd", link)
    assert visitor.get(f"/gradio_api/file={link}").status_code == 404
    monkeypatch.setattr(uploads, "locate", lambda named, roots: uploads.Path(named))
    assert visitor.get(f"/gradio_api/file={link}").status_code == 200, "without the check it is handed out"


def test_values_and_depth_are_checked_at_the_door(visitor, monkeypatch):
    call = {"data": [None, 20, "20", "0", True]}
    deep: list[Any] = []
    for _ in range(30):
        deep = [deep]
    assert visitor.post("/gradio_api/call/edit", json=call).status_code == 422
    assert visitor.post("/gradio_api/reset", json={"event_id": "a", "x": deep}).status_code == 422
    monkeypatch.setattr(requests, "number", lambda label, value: value)
    monkeypatch.setattr(requests, "DEPTH", 1000)
    assert visitor.post("/gradio_api/call/edit", json=call).status_code == 200
    assert visitor.post("/gradio_api/reset", json={"event_id": "a", "x": deep}).status_code == 200


@pytest.mark.parametrize("event", [None, 21, -3.5, "photo", {"index": 2, "value": None}, {"index": [3, 4]}])
def test_what_the_page_tells_of_events_is_let_in(application, event):
    assert application.check.event(event) == event


def test_a_body_is_counted_as_it_arrives(visitor, monkeypatch):
    def endless(size: int) -> Iterator[bytes]:
        """No length is declared."""
        for _ in range(size // 65536 + 1):
            yield b" " * 65536

    def post(path: str, size: int) -> int:
        kind = "multipart/form-data; boundary=x" if path == "upload" else "application/json"
        return visitor.post(
            f"/gradio_api/{path}", content=endless(size), headers={"Content-Type": kind}
        ).status_code

    assert post("reset", 2 << 20) == 413
    assert post("upload", 62 << 20) == 413
    monkeypatch.setattr(bodies, "JSON_BYTES", 4 << 20)
    assert post("reset", 2 << 20) == 400, "read to its end, and then no JSON"


Message = dict[str, Any]


def ask(
    application: Any,
    scope: Message,
    receive: Callable[[], Awaitable[Message]] | None = None,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> list[Message]:
    """What an application sends in answer to a request that no HTTP library would make.

    receive: what the client sends; by default, nothing ever comes.
    """
    import anyio

    sent: list[Message] = []

    async def nothing_comes() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        asked = {"type": "http", "method": "GET", "path": "/", "query_string": b""} | scope
        asked |= {"raw_path": asked["path"].encode(), "headers": [(b"host", b"localhost"), *headers]}
        with anyio.fail_after(30):
            await application(asked, receive or nothing_comes, send)

    with ThreadPoolExecutor(1) as thread:  # of its own: this one may run a browser's event loop
        thread.submit(anyio.run, run).result()
    return sent


def header(answer: list[Message], name: bytes) -> list[bytes]:
    """Every value of a header of what `ask` gives."""
    return [value for key, value in answer[0]["headers"] if key.lower() == name]


@pytest.mark.parametrize(
    ("path", "kind", "limit"),
    [
        ("/gradio_api/reset", b"application/json", "BODY_SECONDS"),
        ("/gradio_api/upload", b"multipart/form-data; boundary=x", "STALL_SECONDS"),
    ],
)
def test_a_body_that_does_not_come_is_not_waited_for(visitor, monkeypatch, path, kind, limit):
    monkeypatch.setattr(bodies, limit, 0.05)
    answer = ask(visitor.app, {"method": "POST", "path": path}, headers=[(b"content-type", kind)])
    assert answer[0]["status"] == 408 and header(answer, b"connection") == [b"close"]


def test_an_upload_that_drips_is_not_waited_for(visitor, monkeypatch):
    import anyio

    monkeypatch.setattr(guard, "UPLOAD_SECONDS", 0.2)

    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    parts = itertools.chain([head], itertools.repeat(b"x"))

    async def drip() -> Message:
        await anyio.sleep(0.02)
        return {"type": "http.request", "body": next(parts), "more_body": True}

    kind = [(b"content-type", b"multipart/form-data; boundary=x")]
    answer = ask(visitor.app, {"method": "POST", "path": "/gradio_api/upload"}, drip, kind)
    assert answer[0]["status"] == 408 and visitor.app.uploading == 0


@pytest.mark.parametrize(
    ("lengths", "status"),
    [
        ([b"1" + b"0" * 12], 413),
        ([b"9" * 5000], 413),
        ([b"-1"], 400),
        ([b"1_0"], 400),
        (["²".encode("latin-1")], 400),
        ([b"5", b"6"], 400),
    ],
)
def test_a_length_that_is_too_large_or_none_is_refused_before_anything_comes(
    visitor, monkeypatch, lengths, status
):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "STALL_SECONDS", 0.2)
    for path, kind in (("reset", b"application/json"), ("upload", b"multipart/form-data; boundary=x")):
        headers = [(b"content-type", kind), *((b"content-length", length) for length in lengths)]
        answer = ask(visitor.app, {"method": "POST", "path": f"/gradio_api/{path}"}, headers=headers)
        assert answer[0]["status"] == status


def test_what_takes_no_body_gets_none(visitor):
    assert visitor.request("GET", "/gradio_api/info", content=b"x").status_code == 413
    plain = {"Content-Type": "text/plain"}  # which a page elsewhere may send unasked
    assert visitor.post("/gradio_api/reset", content=b'{"event_id": "abc"}', headers=plain).status_code == 415


def test_nothing_speaks_websocket():
    def never(*args: Any) -> None:
        raise AssertionError("it was let in")

    async def opens() -> Message:
        return {"type": "websocket.connect"}

    answer = ask(guard.Guard(never), {"type": "websocket"}, opens)
    assert [message["type"] for message in answer] == ["websocket.close"]


def test_paths_that_no_browser_sends_are_not_looked_at():
    for path in ("//evil.example/", "*", "", "/gradio_api/file=/" + "a" * routes.PATH_BYTES):
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": []}
        with pytest.raises(refusal.RefusalError) as refused:
            routes.find_route(scope)
        assert refused.value.status == 400


def test_two_origins_are_none(visitor):
    twice = [("origin", HOME), ("origin", "https://evil.example")]
    assert visitor.get("/gradio_api/info", headers=twice).status_code == 403
    twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]
    assert visitor.get("/gradio_api/info", headers=twice).status_code == 403


class Careless:
    """An application that answers with everything that an answer of ours must not say."""

    HEADERS = (
        ("Server", "careless/1.0"),
        ("Set-Cookie", "visitor=1"),
        ("Cache-Control", "public, max-age=9999"),
        ("Content-Security-Policy", "default-src *"),
        ("X-Frame-Options", "ALLOWALL"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Credentials", "true"),
    )

    def __init__(self, status: int = 200, body: bytes = b"", **more: str) -> None:
        self.status = status
        self.body = body
        self.headers = [*self.HEADERS, *more.items()]

    async def __call__(
        self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        headers = [(key.encode(), value.encode()) for key, value in self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@pytest.mark.parametrize("path", ["/", "/gradio_api/info", "/gradio_api/file=/a.jpg"])
def test_what_the_application_says_of_itself_goes_no_further(path):
    answer = ask(guard.Guard(Careless()), {"path": path})
    assert answer[0]["status"] == 200
    gone = (b"server", b"set-cookie", b"access-control-allow-origin", b"access-control-allow-credentials")
    assert not [name for name in gone if header(answer, name)]
    assert header(answer, b"cache-control") == [b"no-store"]
    assert header(answer, b"x-frame-options") == [b"DENY"]
    (policy,) = header(answer, b"content-security-policy")
    assert b"*" not in policy and b"frame-ancestors 'none'" in policy
    assert (b"sandbox" in policy) is (path != "/")  # all but the page may do nothing


@pytest.mark.parametrize(("status", "told"), [(302, 404), (307, 404), (404, 404), (418, 400), (502, 500)])
def test_redirections_and_errors_become_a_sentence(status, told):
    careless = Careless(status, b"Traceback of /root/secret", Location="https://evil.example")
    answer = ask(guard.Guard(careless), {"path": "/gradio_api/info"})
    assert answer[0]["status"] == told and not header(answer, b"location")
    assert json.loads(answer[1]["body"])["error"] == refusal.SENTENCES[told] and len(answer) == 2


def test_of_the_page_only_its_own_scripts_run():
    html = b'<html><base href="https://evil.example/"><script>own()</script><p>text</p></html>'
    answer = ask(guard.Guard(Careless(200, html)), {})
    assert answer[1]["body"] == html.replace(b'<base href="https://evil.example/">', b"")
    (policy,) = header(answer, b"content-security-policy")
    digest = base64.b64encode(hashlib.sha256(b"own()").digest())
    assert b"script-src 'self' 'sha256-" + digest + b"';" in policy


def test_an_upload_is_this_users_alone_and_on_the_disk_only_when_all_of_it_is_here(
    visitor, folder, monkeypatch
):
    spilled: list[bool] = []
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda self: spilled.append(True))
    files = {"files": ("Secret name.JPG", b"x" * (3 << 20))}
    (path,) = visitor.post("/gradio_api/upload", files=files).json()
    assert not spilled
    assert "ecret" not in path and path.endswith(".jpg") and os.path.getsize(path) == 3 << 20
    assert os.stat(os.path.dirname(path)).st_mode & 0o077 == 0


def test_few_files_and_no_fields_in_one_form(visitor):
    many = [("files", (f"{k}.jpg", b"x")) for k in range(uploads.FILES_AT_ONCE + 1)]
    assert visitor.post("/gradio_api/upload", files=many).status_code == 400
    field = visitor.post("/gradio_api/upload", files=many[:1], data={"url": ELSEWHERE})
    assert field.status_code == 400


def test_a_clients_state_is_not_believed(application):
    from gradio import components

    state = next(block for block in server_blocks(application) if isinstance(block, components.State))
    assert application.check.value(state, "state", {"path": "/etc/passwd"}) is None


def server_blocks(application: Any) -> Iterable[Any]:
    return application.check.page.blocks.values()


@pytest.mark.parametrize(
    "event", [{"index": [1]}, {"index": [1, "2"]}, {"index": -1}, {"index": {}}, {"index": [1, 2, 3]}]
)
def test_events_that_no_page_tells_are_refused(application, event):
    with pytest.raises(refusal.RefusalError):
        application.check.event(event)


@pytest.mark.parametrize(
    "value",
    [
        {"path": "/etc/passwd"},
        [{"path": "/etc/passwd"}],
        {"a": {"b": [{"url": "https://example.com/a"}]}},
        {"index": None, "value": {"path": "/etc/passwd"}},
    ],
)
def test_files_are_found_wherever_they_are_named(application, value):
    for check in (application.check.anything, application.check.event):
        with pytest.raises(refusal.RefusalError):
            check(value)


@pytest.mark.parametrize("value", [1e10, -1e300, 10**30, float("nan"), float("inf"), True, "20", None, [1]])
def test_numbers_that_are_none_or_too_large_are_refused(value):
    with pytest.raises(refusal.RefusalError):
        requests.number("years", value)


def test_texts_are_bounded():
    assert requests.text("face", "a" * requests.TEXT)
    with pytest.raises(refusal.RefusalError):
        requests.text("face", "a" * (requests.TEXT + 1))


def test_an_upload_that_trickles_is_not_waited_for(monkeypatch):
    import anyio

    async def trickle() -> dict[str, Any]:
        await anyio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def upload() -> int:
        receive = bodies.without_stalls(trickle)
        try:
            for _ in range(200):
                await receive()
        except refusal.RefusalError as refused:
            return refused.status
        return 200

    monkeypatch.setattr(bodies, "STALL_SECONDS", 0.2)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(anyio.run, upload).result() == 408
        monkeypatch.setattr(bodies, "LEAST_RATE", 1)
        assert thread.submit(anyio.run, upload).result() == 200


def test_an_upload_waits_for_its_turn_and_hears_when_there_is_none(visitor, monkeypatch):
    monkeypatch.setattr(guard, "UPLOADS_AT_ONCE", 0)
    monkeypatch.setattr(guard, "UPLOAD_TURN_SECONDS", 0.1)
    answer = visitor.post("/gradio_api/upload", files={"files": ("a.jpg", b"x")})
    assert answer.status_code == 503 and "busy" in answer.json()["error"]


def test_a_full_disk_is_a_sentence(visitor, monkeypatch, folder):
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(os.listdir(folder))
    monkeypatch.setattr(uploads.shutil, "copyfileobj", full)
    answer = visitor.post("/gradio_api/upload", files={"files": ("a.jpg", b"x")})
    assert answer.status_code == 507 and "no room" in answer.json()["error"]
    assert sorted(os.listdir(folder)) == before


def test_requests_are_bounded(visitor, monkeypatch):
    monkeypatch.setattr(guard, "REQUESTS_AT_ONCE", 0)
    answer = visitor.get("/gradio_api/info")
    assert answer.status_code == 503 and "busy" in answer.json()["error"]


def test_uploads_are_bounded_together(visitor, monkeypatch):
    monkeypatch.setattr(uploads, "FOLDER_BYTES", 10)
    assert visitor.post("/gradio_api/upload", files={"files": ("a.jpg", b"x" * 20)}).status_code == 507


def test_an_unexpected_error_is_a_sentence_and_a_line(visitor, monkeypatch, caplog):
    def broken(body: bytes) -> dict[str, Any]:
        raise KeyError("/root/secret.jpg")

    monkeypatch.setattr("ui.requests.parse", broken)
    answer = visitor.post("/gradio_api/reset", json={})
    assert answer.status_code == 500 and answer.json()["error"] == refusal.SENTENCES[500]
    assert "KeyError at test_guards.py" in caplog.text and "secret" not in caplog.text


def test_an_error_inside_gradio_is_never_null():
    from gradio import Error, queueing

    compat.plain_errors()
    assert queueing.error_payload(ValueError("/root/secret"), False)["error"] == compat.WENT_WRONG
    assert queueing.error_payload(Error("Plain."), False)["error"] == "Plain."
    full = OSError(errno.ENOSPC, "No space left on device", "/root/secret")
    assert queueing.error_payload(full, False)["error"] == compat.DISK_FULL
    assert errors.message(full).message == compat.DISK_FULL


@pytest.mark.parametrize(
    "change", [*compat.FETCHERS, *compat.FILES, *compat.TRANSPORTS], ids=lambda c: f"{c[0]}.{c[1]}"
)
def test_a_change_of_gradio_is_noticed(monkeypatch, change):
    path, name, _, _ = change
    owner = compat._owner(path)
    monkeypatch.setattr(owner, name, lambda other: None)
    with pytest.raises(compat.GradioChangedError, match=name):
        compat._replace((change,))
    monkeypatch.delattr(owner, name)
    with pytest.raises(compat.GradioChangedError, match="gone"):
        compat._replace((change,))


@pytest.mark.parametrize(
    ("module", "name", "apply"),
    [
        ("gradio.utils", "MatplotlibBackendMananger", compat.no_matplotlib),
        ("gradio.route_utils", "call_process_api", compat.no_matplotlib),
        ("gradio.queueing", "error_payload", compat.plain_errors),
        ("gradio.queueing", "traceback", compat.plain_errors),
        ("gradio.routes", "traceback", compat.plain_errors),
    ],
)
def test_other_changes_of_gradio_are_noticed(monkeypatch, module, name, apply):
    monkeypatch.delattr(importlib.import_module(module), name)
    with pytest.raises(compat.GradioChangedError, match=name):
        apply()


def test_stubs_that_gradio_would_write_otherwise_are_noticed(monkeypatch):
    import gradio.component_meta

    with compat.no_stubs():
        assert inspect.getfile is not inspect.__dict__.get("_real")
    monkeypatch.setattr(
        gradio.component_meta, "create_or_modify_pyi", lambda component_class, class_name, events: None
    )
    with pytest.raises(compat.GradioChangedError, match="getfile"), compat.no_stubs():
        pass


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_process_itself_reaches_nothing():
    """Whatever code asks for it: sockets, names, httpx; loopback stays open to sockets."""
    code = """
import socket
from ui.security.egress import refuse_connections
refuse_connections()
here = socket.create_server(("127.0.0.1", 0))
socket.create_connection(here.getsockname()).close()
def refused(attempt):
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert refused(lambda: socket.socket().connect(("192.0.2.1", 80)))
assert refused(lambda: udp.sendto(b"x", ("192.0.2.1", 53)))
assert refused(lambda: socket.getaddrinfo("example.invalid", 80))
assert refused(lambda: socket.gethostbyname("example.invalid"))
from ui.compat import no_http_client
no_http_client()
import gradio, httpx
try:
    httpx.get(f"http://127.0.0.1:{here.getsockname()[1]}")
except gradio.Error as error:
    print(error.message)
"""
    done = run(code)
    assert done.returncode == 0 and compat.FETCHES_NOTHING in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost.", False),
        ("localhost.evil.example", False),
        ("127.1", False),
        ("0x7f000001", False),
        ("2130706433", False),
        ("0177.0.0.1", False),
        ("0.0.0.0", False),
        ("::ffff:127.0.0.1", False),
        ("::1%lo", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_which_names_are_loopback(name, answer):
    assert hosts.is_loopback(name) is answer


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "AGEDIT_HOSTS"),
        ({"GRADIO_SERVER_NAME": "::"}, "AGEDIT_HOSTS"),
        ({"AGEDIT_HOSTS": "photo.lan:80"}, "AGEDIT_HOSTS"),
        ({"AGEDIT_HOSTS": "http://photo.lan"}, "AGEDIT_HOSTS"),
        ({"GRADIO_SERVER_PORT": "abc"}, "GRADIO_SERVER_PORT"),
        ({"GRADIO_SERVER_PORT": "70000"}, "GRADIO_SERVER_PORT"),
        ({"GRADIO_SERVER_PORT": "²"}, "GRADIO_SERVER_PORT"),
    ],
)
def test_settings_that_make_no_sense_are_a_sentence(environment, words):
    with pytest.raises(settings.AgeEditError, match=words):
        settings.from_environment(environment)


def test_settings_that_make_sense():
    own = settings.from_environment({})
    assert own == settings.Settings("127.0.0.1", None, frozenset())
    wide = settings.from_environment(
        {"GRADIO_SERVER_NAME": "0.0.0.0", "AGEDIT_HOSTS": "Photo.lan, 192.168.1.20"}
    )
    assert wide.hosts == {"photo.lan", "192.168.1.20"}
    assert settings.from_environment({"GRADIO_SERVER_NAME": "192.168.1.5"}).hosts == {"192.168.1.5"}


def test_the_command_line_comes_before_the_environment():
    environment = {"GRADIO_SERVER_NAME": "192.168.1.5", "GRADIO_SERVER_PORT": "7000"}
    asked = settings.from_arguments(["--port", "8000", "--budget", "80", "--no-browser"], environment)
    assert (asked.address, asked.port, asked.budget, asked.opens_browser) == ("192.168.1.5", 8000, 80, False)
    own = settings.from_arguments(["--host", "127.0.0.1"], environment)
    assert (own.address, own.port, own.hosts, own.opens_browser) == ("127.0.0.1", 7000, frozenset(), True)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--port", "x"], "--port"),
        (["--host", "0.0.0.0"], "AGEDIT_HOSTS"),
        (["--budget", "5"], "--budget"),
        (["--budget", "nan"], "--budget"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_sentence(arguments, words):
    with pytest.raises(settings.AgeEditError, match=words):
        settings.from_arguments(arguments, {})


@pytest.mark.parametrize(
    "by_hand,screen,opens", [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_browser_opens_for_whoever_can_see_it(monkeypatch, by_hand, screen, opens):
    seen = []
    monkeypatch.setattr(settings.webbrowser, "open", seen.append)
    monkeypatch.setattr(settings.sys, "platform", "linux")
    monkeypatch.setattr(settings.sys.stdout, "isatty", lambda: by_hand)
    monkeypatch.setattr(settings.os, "environ", {"DISPLAY": ":0"} if screen else {})
    settings.open_browser("http://127.0.0.1:7860")
    assert seen == ["http://127.0.0.1:7860"] * opens


def test_a_full_or_missing_temporary_folder_is_a_sentence(monkeypatch, tmp_path):
    settings.check_temporary_folder({"GRADIO_TEMP_DIR": str(tmp_path)})
    with pytest.raises(settings.AgeEditError, match="cannot be written"):
        settings.check_temporary_folder({"GRADIO_TEMP_DIR": "/dev/null/x"})

    class Full:
        def __enter__(self) -> Any:
            return SimpleNamespace(write=self.write, flush=lambda: None)

        def __exit__(self, *error: Any) -> None:
            return None

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(settings.tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(settings.AgeEditError, match="make room"):
        settings.check_temporary_folder({"GRADIO_TEMP_DIR": str(tmp_path)})


def test_no_answer_says_where_this_machine_keeps_things(monkeypatch):
    """What is chosen for a budget, and what the tuner has to say, in the answer and on the page."""
    from ui import device_tab
    from ui.api import Endpoints

    told = {"submodel": {"r": 64, "c": 0.25}, "profile": "/home/anna/agedit/profiles/a.json"}
    told["notes"] = [
        "The face detector is missing at /home/anna/weights/x.onnx; fetch the weights folder again."
    ]
    service = SimpleNamespace(tune=lambda budget, fresh: told)
    answer = Endpoints(lambda: service).tune(150, False)
    assert answer["submodel"] == told["submodel"] and "x.onnx" in answer["notes"][0]
    assert "anna" not in json.dumps(answer)
    tuner = SimpleNamespace(
        device={"processor": "P", "cores": 1, "runtime": "r"},
        engine=SimpleNamespace(threads=1),
        notes=told["notes"],
    )
    line = device_tab.device_line(tuner, SimpleNamespace(headers={}))
    assert "detector" in line and "anna" not in line
