"""The way out: our headers on every answer, and one sentence for every error."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson
from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from ui.security.refusal import SENTENCES
from ui.security.routes import Route
from ui.words import plainly

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=()",
    "X-DNS-Prefetch-Control": "off",
}
# The page: scripts from here alone, and of those in its HTML the ones that were in it when it left, by their
# hashes. Inline styles stay allowed: Gradio's components set `style` attributes, and a style can send
# nothing, since every address but this server's is closed to it as well.
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
INERT = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
"""All else is data: looked at on its own it may do nothing at all."""

FORGET = "no-store"
KEEP = "public, max-age=31536000, immutable"
"""A year: Gradio's files carry a hash in their names."""

DAY = "public, max-age=86400"
BASE = re.compile(rb"<base\s[^>]*>", re.IGNORECASE)
"""Says where the page is, which is plain anyway."""

INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
DROPPED = frozenset({"server", "set-cookie", "location"})
"""Headers of Gradio's that nobody gets, beside those that are ours."""

CLOSING = (400, 408, 411, 413, 421)
"""Statuses after which the connection is closed: the rest of the body, if any, is not read."""


@dataclass(frozen=True)
class _Visitor:
    """As much of a request as `ui.words` wants."""

    headers: Mapping[str, str]


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

    def _headers(self, given: Iterable[tuple[bytes, bytes]], policy: str) -> list[tuple[bytes, bytes]]:
        ours = {key.lower(): value for key, value in HEADERS.items()}
        ours |= {"content-security-policy": policy, "cache-control": self._lifetime()}
        dropped = DROPPED | set(ours)
        kept = [
            (key, value)
            for key, value in given
            if not key.lower().startswith(b"access-control-") and key.decode("latin-1").lower() not in dropped
        ]
        return kept + [(key.encode(), value.encode()) for key, value in ours.items()]

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
        if status in CLOSING:  # the rest of the body, if any, is not read
            headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": status, "headers": self._headers(headers, INERT)}
        )
        await self.send(
            {"type": "http.response.body", "body": b"" if self.scope["method"] == "HEAD" else body}
        )


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
