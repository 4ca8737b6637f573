"""Bodies of requests: how large they may be, how long they may take, and reading and handing them on."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from ui.security.limits import JSON_BYTES
from ui.security.refusal import HungUpError, RefusalError
from ui.security.routes import header_values

BODY_SECONDS = 30.0
"""Longest time that a JSON body may take to arrive, seconds."""

UPLOAD_SECONDS = 120.0
"""Longest time that an upload may take to arrive, seconds."""

STALL_SECONDS = 10.0
"""Longest time that an upload may be behind LEAST_RATE, seconds: who sends next to nothing holds no turn."""

LEAST_RATE = 64 << 10
"""Slowest upload, bytes a second."""

LENGTH_DIGITS = 19
"""Most digits of a Content-Length that is read as a number; a longer one counts as too large."""


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raises RefusalError when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RefusalError(408) from None


def with_length(scope: Scope, length: int) -> Scope:
    """The request, saying that its body has this many bytes."""
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
    length = header_values(scope, b"content-length")
    if not length:
        return 0
    if len(length) > 1 or not (length[0].isascii() and length[0].isdigit()):
        raise RefusalError(400)
    return int(length[0]) if len(length[0]) <= LENGTH_DIGITS else sys.maxsize


def without_stalls(receive: Receive) -> Receive:
    """receive, that raises RefusalError when what came is STALL_SECONDS behind LEAST_RATE."""
    start = time.monotonic()
    seen = 0

    async def receive_soon() -> Message:
        nonlocal seen
        due = start + STALL_SECONDS + seen / LEAST_RATE
        async with deadline(max(0.0, due - time.monotonic())):
            message = await receive()
        seen += len(message.get("body", b""))
        return message

    return receive_soon


async def read_json(scope: Scope, receive: Receive) -> bytes:
    """The whole body, at most JSON_BYTES within BODY_SECONDS."""
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(415)
    receive = limited(scope, receive, JSON_BYTES)
    parts = []
    async with deadline(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HungUpError
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
