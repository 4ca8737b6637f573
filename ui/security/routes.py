"""Which addresses there are, and what of a request Gradio sees."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope

from ui.security.refusal import RefusalError

PATH_BYTES = 4096
READS = frozenset({"GET", "HEAD"})
WRITES = frozenset({"POST"})

SESSION = r"[A-Za-z0-9_-]{1,64}"
NAME = r"[a-z_]{1,32}"


Kind = Literal["page", "asset", "static", "data", "file", "json", "upload"]


@dataclass(frozen=True)
class Route:
    """One kind of address."""

    pattern: re.Pattern[str]
    """Of the path."""
    methods: frozenset[str]
    kind: Kind
    """Which rules for caches and bodies it falls under."""
    query: frozenset[str] = field(default_factory=frozenset)
    """The parts of the query string that count."""


def _route(pattern: str, methods: frozenset[str], kind: Kind, *query: str) -> Route:
    return Route(re.compile(pattern), methods, kind, frozenset(query))


ROUTES = (
    _route(r"/", READS, "page"),
    _route(
        r"/config/?|/theme\.css|/gradio_api/theme\.css|/manifest\.json|/robots\.txt|/(page|stage|strip)\.js",
        READS,
        "data",
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

FORWARDING = frozenset({"forwarded", "x-gradio-server", "x-original-url", "x-rewrite-url", "accept-encoding"})
"""Headers that would tell Gradio that this server has another address or speaks another protocol."""


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, by its name in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


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


def named_file(scope: Scope) -> str:
    """The path of the file that a request of kind "file" names."""
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
