"""What stands between every request and Gradio: an ASGI middleware that lets in what the page and the
documented endpoints need, and nothing else, and that answers every error in one sentence.

In order: the name that the server is called by, where the request comes from, the route, the query, the size
and time of the body and what is in it; then, on the way out, the headers.
"""

import asyncio
import base64
import hashlib
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui import hosts
from ui.compat import log_error
from ui.words import plainly

JSON_BYTES = 1 << 20  # a request's JSON
UPLOAD_BYTES = 60 << 20  # a photo, with 64 KB for the form around it
FORM_BYTES = 64 << 10
BODY_SECONDS = 30.0  # in which a body has to be here
UPLOAD_SECONDS = 120.0
REQUESTS_AT_ONCE = 200  # each open page holds two that stay
UPLOADS_AT_ONCE = 4  # each holds up to UPLOAD_BYTES of memory
PATH_BYTES = 4096
READS = frozenset({"GET", "HEAD"})
WRITES = frozenset({"POST"})

SENTENCES = {
    400: "This request was not understood.",
    403: "This request was refused; open the page at its own address.",
    404: "There is nothing at this address.",
    405: "This address does not take such requests.",
    408: "The request took too long to arrive; try again.",
    411: "The request must say how long it is.",
    413: "This is too large; a photo may have 60 MB, any other request 1 MB.",
    415: "This address takes JSON, or for uploads a form.",
    421: "This server is not called by that name; see AGEDIT_HOSTS in the README.",
    422: "The values of this request make no sense here.",
    500: "Something went wrong here; try again.",
    503: "This machine is busy; try again in a moment.",
    507: "There is no room for another photo on this machine; try again later.",
}

# what may be asked for, and which part of the query string counts
SESSION = r"[A-Za-z0-9_-]{1,64}"
NAME = r"[a-z_]{1,32}"


@dataclass(frozen=True)
class Route:
    """One kind of address. kind: which of the lasting rules for caches and bodies it falls under."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    kind: str  # "page", "asset", "data", "file", "json", "upload"
    query: frozenset[str] = field(default_factory=frozenset)


def _route(pattern: str, methods: frozenset[str], kind: str, *query: str) -> Route:
    return Route(re.compile(pattern), methods, kind, frozenset(query))


ROUTES = (
    _route(r"/", READS, "page"),
    _route(
        r"/config/?|/theme\.css|/gradio_api/theme\.css|/manifest\.json|/robots\.txt|/page\.js", READS, "data"
    ),
    _route(r"/assets/[\w@.+-]+(/[\w@.+-]+)*", READS, "asset"),
    _route(r"/static/[\w@.+-]+(/[\w@.+-]+)*|/favicon\.ico", READS, "static"),
    _route(r"/gradio_api/(info|app_id|queue/status)", READS, "data"),
    _route(rf"/gradio_api/heartbeat/{SESSION}", READS, "data"),
    _route(r"/gradio_api/queue/data", READS, "data", "session_hash"),
    _route(rf"/gradio_api/call/{NAME}/{SESSION}", READS, "data"),
    _route(r"/gradio_api/upload_progress", READS, "data", "upload_id"),
    _route(r"/gradio_api/file=/?[^\x00-\x1f\x7f]{1,4000}", READS, "file"),
    _route(rf"/gradio_api/(queue/join|call/{NAME}|cancel|reset)", WRITES, "json"),
    _route(r"/gradio_api/upload", WRITES, "upload", "upload_id"),
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=()",
    "X-DNS-Prefetch-Control": "off",
}
# The page: scripts from here alone, and of those in its HTML the ones that were in it when it left, by their hashes.
# Inline styles stay allowed: Gradio's components set `style` attributes, and a style can send nothing, since every
# address but this server's is closed to it as well.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "manifest-src": "'self'",
    "frame-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
# All else is data: looked at on its own it may do nothing at all.
INERT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
FORGET = "no-store"
KEEP = "public, max-age=31536000, immutable"  # Gradio's files carry a hash in their names
DAY = "public, max-age=86400"
# headers of a client that would tell Gradio that this server has another address or speaks another protocol
FORWARDING = frozenset({"forwarded", "x-gradio-server", "x-original-url", "x-rewrite-url", "accept-encoding"})
BASE = re.compile(rb"<base\s[^>]*>", re.IGNORECASE)  # says where the page is anyway
INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
DROPPED = frozenset({"server", "content-security-policy", "cache-control", "set-cookie", "location"})

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Check = Callable[[str, bytes], bytes]  # (path, JSON) to the JSON that Gradio gets; raises RefusalError
Lasting = Callable[[str], bool]  # may a browser keep the file at this address?


class RefusalError(Exception):
    """A request that ends in one sentence."""

    def __init__(self, status: int, sentence: str = "") -> None:
        super().__init__(sentence or SENTENCES[status])
        self.status = status
        self.sentence = sentence or SENTENCES[status]


class _HungUpError(Exception):
    """The client hung up while its request was still arriving."""


@dataclass(frozen=True)
class _Visitor:
    """As much of a request as `ui.words` wants."""

    headers: Mapping[str, str]


class Guard:
    """The middleware.

    app: Gradio's.
    names: what the server is called beside the loopback names, in lower case.
    own: handlers that stand before Gradio, by the part of the path before "=".
    check: reads the JSON of a request.
    knows: (kind, value) -> bool, whether a "session" or "event" of that name exists.
    lasting: whether a browser may keep the file at an address.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str] = frozenset(),
        own: Mapping[str, Handler] | None = None,
        check: Check | None = None,
        knows: Callable[[str, str], bool] | None = None,
        lasting: Lasting | None = None,
    ) -> None:
        self.app = app
        self.names = names
        self.own = dict(own or {})
        self.check = check
        self.knows = knows
        self.lasting = lasting
        self.answering = 0
        self.uploading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # nothing here speaks WebSocket
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exit_ = Exit(scope, send)
        self.answering += 1
        try:
            if self.answering > REQUESTS_AT_ONCE:
                raise RefusalError(503)
            check_host(scope, self.names)
            check_origin(scope)
            route = find_route(scope)
            exit_.route = route
            if route.kind == "file":
                exit_.lasting = self.lasting is not None and self.lasting(_named_file(scope))
            self._check_known(scope)
            await self._pass_on(route, clean(scope, route), receive, exit_)
        except RefusalError as refused:
            await exit_.refuse(refused.status, refused.sentence)
        except _HungUpError:
            return
        except Exception as error:
            log_error(error)
            await exit_.refuse(500)
        finally:
            self.answering -= 1

    def _check_known(self, scope: Scope) -> None:
        """A stream of a session or event that does not exist would fail when its answer has begun."""
        if self.knows is None:
            return
        path = scope["path"]
        if path == "/gradio_api/queue/data":
            session = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("session_hash", "")
            if not re.fullmatch(SESSION, session):
                raise RefusalError(400)
            if not self.knows("session", session):
                raise RefusalError(404)
        elif re.fullmatch(rf"/gradio_api/call/{NAME}/{SESSION}", path) and not self.knows(
            "event", path.rsplit("/", 1)[1]
        ):
            raise RefusalError(404)

    async def _pass_on(self, route: Route, scope: Scope, receive: Receive, exit_: "Exit") -> None:
        handler = self.own.get(scope["path"].partition("=")[0], self.app)
        if route.kind == "upload":
            if self.uploading >= UPLOADS_AT_ONCE:
                raise RefusalError(503)
            self.uploading += 1
            try:
                async with _deadline(UPLOAD_SECONDS):
                    await handler(scope, limited(scope, receive, UPLOAD_BYTES + FORM_BYTES), exit_)
            finally:
                self.uploading -= 1
        elif route.kind == "json":
            body = await read_json(scope, receive)
            if self.check is not None:
                body = self.check(scope["path"], body)
            await handler(_with_length(scope, len(body)), replay(body, receive), exit_)
        else:
            await handler(scope, limited(scope, receive, 0), exit_)


def _deadline(seconds: float) -> "_Deadline":
    return _Deadline(seconds)


class _Deadline:
    """asyncio.timeout, which ends in a sentence."""

    def __init__(self, seconds: float) -> None:
        self.timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self.timeout.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await self.timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise RefusalError(408) from None


def _all(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def check_host(scope: Scope, names: frozenset[str]) -> str:
    """The Host header.

    Another name than ours means that somebody's name was made to point at this machine.
    """
    given = _all(scope, b"host")
    if len(given) != 1:
        raise RefusalError(400)
    host = hosts.split(given[0])
    if host is None:
        raise RefusalError(400)
    if not (hosts.is_loopback(host[0]) or host[0] in names):
        raise RefusalError(421)
    return given[0].lower()


def check_origin(scope: Scope) -> None:
    """Other sites get nothing: neither answers nor effects. A link to the page itself may be followed.

    Browsers say where a request comes from in Origin (all but the simplest requests) and in Sec-Fetch-Site.
    Programs (curl, gradio_client) say neither: they may write when they call this machine by a loopback name.
    """
    origins = _all(scope, b"origin")
    sites = _all(scope, b"sec-fetch-site")
    host = _all(scope, b"host")[0].lower()
    if len(origins) > 1 or len(sites) > 1:
        raise RefusalError(403)
    if origins and origins[0].lower() not in (f"http://{host}", f"https://{host}"):
        raise RefusalError(403)
    if sites and sites[0].lower() not in ("same-origin", "none") and not _follows_link(scope):
        raise RefusalError(403)
    name = hosts.split(host)
    if scope["method"] not in READS and not origins and not (name and hosts.is_loopback(name[0])):
        raise RefusalError(403)


def _follows_link(scope: Scope) -> bool:
    mode = _all(scope, b"sec-fetch-mode")
    target = _all(scope, b"sec-fetch-dest")
    return (
        scope["path"] == "/" and scope["method"] in READS and mode == ["navigate"] and target == ["document"]
    )


def find_route(scope: Scope) -> Route:
    """The route of a request; what is on no list is not there."""
    path = scope["path"]
    raw = scope.get("raw_path") or path.encode("utf-8", "surrogateescape")
    if len(raw) > PATH_BYTES or not raw.startswith(b"/") or raw.startswith(b"//"):
        raise RefusalError(400)
    fits = [route for route in ROUTES if route.pattern.fullmatch(path)]
    if not fits:
        raise RefusalError(404)
    for route in fits:
        if scope["method"] in route.methods:
            return route
    raise RefusalError(405)


def _named_file(scope: Scope) -> str:
    return scope["path"].partition("=")[2]


def clean(scope: Scope, route: Route) -> Scope:
    """The request as Gradio sees it: without what would tell it of other addresses, and without other
    queries.
    """
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    kept = urlencode([(key, value) for key, value in query if key in route.query])
    headers = [
        (key, value)
        for key, value in scope["headers"]
        if not key.startswith(b"x-forwarded") and key.decode("latin-1") not in FORWARDING
    ]
    return {**scope, "query_string": kept.encode("latin-1"), "headers": headers, "root_path": ""}


def _with_length(scope: Scope, length: int) -> Scope:
    headers = [
        (key, value)
        for key, value in scope["headers"]
        if key not in (b"content-length", b"transfer-encoding")
    ]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


def limited(scope: Scope, receive: Receive, limit: int) -> Receive:
    """receive, that stops at `limit` bytes."""
    declared = _declared(scope)
    if declared > limit:
        raise RefusalError(413)
    seen = 0

    async def receive_within() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise RefusalError(413)
        return message

    return receive_within


def _declared(scope: Scope) -> int:
    length = _all(scope, b"content-length")
    if not length:
        return 0
    if len(length) > 1 or not (length[0].isascii() and length[0].isdigit()):
        raise RefusalError(400)
    return int(length[0]) if len(length[0]) < 20 else sys.maxsize


async def read_json(scope: Scope, receive: Receive) -> bytes:
    """The whole body, at most JSON_BYTES within BODY_SECONDS."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(415)
    receive = limited(scope, receive, JSON_BYTES)
    parts = []
    async with _deadline(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _HungUpError
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """receive that gives this body, then what comes after it: that the client hangs up."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again


class Exit:
    """The way out: `send` with our headers; errors become one sentence, whoever made them."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.route: Route | None = None
        self.lasting = False  # may a browser keep this answer?
        self.begun = False
        self.refused = False
        self.page: list[bytes] | None = None  # the HTML so far, whose scripts are hashed before it leaves
        self.start: Message = {}

    async def __call__(self, message: Message) -> None:
        if self.refused:  # the rest of an answer that was replaced
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body" and self.page is not None:
            self.page.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send_page(b"".join(self.page))
        else:
            await self.send(message)

    async def _begin(self, message: Message) -> None:
        status = message["status"]
        if status >= 400 or (300 <= status < 400 and status != 304):
            await self.refuse(404 if status < 400 else status)
            return
        self.start = message
        if self.route is not None and self.route.kind == "page":
            self.page = []
            return
        self.begun = True
        await self.send({**message, "headers": self._headers(message["headers"], INERT)})

    async def _send_page(self, html: bytes) -> None:
        self.begun = True
        self.page = None
        html = BASE.sub(b"", html)
        hashes = sorted({_hash(script) for script in INLINE_SCRIPT.findall(html)})
        policy = POLICY | {"script-src": " ".join([POLICY["script-src"], *hashes])}
        text = "; ".join(f"{name} {value}" for name, value in policy.items())
        kept = [pair for pair in self.start["headers"] if pair[0].lower() != b"content-length"]
        head = self.scope["method"] == "HEAD"
        length = [] if head else [(b"content-length", str(len(html)).encode())]
        await self.send({**self.start, "headers": self._headers([*kept, *length], text)})
        await self.send({"type": "http.response.body", "body": html})

    def _headers(self, given: Any, policy: str) -> list[tuple[bytes, bytes]]:
        kept = [
            (key, value)
            for key, value in given
            if not key.lower().startswith(b"access-control-") and key.decode("latin-1").lower() not in DROPPED
        ]
        ours = HEADERS | {"Content-Security-Policy": policy, "Cache-Control": self._lifetime()}
        return kept + [(key.lower().encode(), value.encode()) for key, value in ours.items()]

    def _lifetime(self) -> str:
        kind = self.route.kind if self.route is not None else ""
        if kind == "asset":
            return KEEP
        return DAY if kind == "static" or self.lasting else FORGET

    async def refuse(self, status: int, sentence: str = "") -> None:
        """End the request with a sentence; if its answer has begun, only end it."""
        if self.begun:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if self.refused:
            return
        self.refused = True
        self.begun = True
        self.route = None
        self.lasting = False
        status = status if status in SENTENCES else (500 if status >= 500 else 400)
        visitor = _Visitor(Headers(scope=self.scope))
        text = plainly(visitor, sentence or SENTENCES[status])
        body = orjson.dumps({"error": text, "detail": text})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status in (400, 408, 411, 413, 421):  # the rest of the body, if any, is not read
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": status, "headers": self._headers(headers, INERT)}
        )
        await self.send(
            {"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body}
        )


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"


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
