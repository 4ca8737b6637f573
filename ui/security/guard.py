"""The guard: an ASGI middleware that lets in what is on a list, and answers every error in one sentence."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from ui.compat import log_error
from ui.security.answer import Exit
from ui.security.bodies import (
    UPLOAD_SECONDS,
    deadline,
    limited,
    read_json,
    replay,
    with_length,
    without_stalls,
)
from ui.security.limits import FORM_BYTES, UPLOAD_BYTES
from ui.security.origin import check_host, check_origin
from ui.security.refusal import HungUpError, RefusalError
from ui.security.routes import NAME, SESSION, Route, clean, find_route, named_file

REQUESTS_AT_ONCE = 200
"""Each open page holds two that stay."""

UPLOADS_AT_ONCE = 4
"""Each holds up to UPLOAD_BYTES of memory."""

UPLOAD_TURN_SECONDS = 20.0
"""How long an upload waits for its turn before it is refused as busy."""

UPLOAD_POLL_SECONDS = 0.05

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Check = Callable[[str, bytes], bytes]
"""(path, JSON) to the JSON that Gradio gets; raises RefusalError."""

Cacheable = Callable[[str], bool]
"""Whether a browser may keep the file at this address."""


class Guard:
    """The middleware.

    app: Gradio's.
    names: what the server is called beside the loopback names, in lower case.
    own: handlers that stand before Gradio, by the part of the path before "=".
    check: reads the JSON of a request.
    knows: (kind, value) -> bool, whether a "session" or "event" of that name exists.
    cacheable: whether a browser may keep the file at an address.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str] = frozenset(),
        own: Mapping[str, Handler] | None = None,
        check: Check | None = None,
        knows: Callable[[str, str], bool] | None = None,
        cacheable: Cacheable | None = None,
    ) -> None:
        self.app = app
        self.names = names
        self.own = dict(own or {})
        self.check = check
        self.knows = knows
        self.cacheable = cacheable
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
                exit_.cacheable = self.cacheable is not None and self.cacheable(named_file(scope))
            self._check_known(scope)
            await self._pass_on(route, clean(scope, route), receive, exit_)
        except RefusalError as refused:
            await exit_.refuse(refused.status, refused.sentence)
        except HungUpError:
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

    async def _upload_turn(self) -> None:
        """Return when another upload may begin. Raises RefusalError where that takes too long."""
        end = time.monotonic() + UPLOAD_TURN_SECONDS
        while self.uploading >= UPLOADS_AT_ONCE:
            if time.monotonic() > end:
                raise RefusalError(503)
            await asyncio.sleep(UPLOAD_POLL_SECONDS)

    async def _pass_on(self, route: Route, scope: Scope, receive: Receive, exit_: Exit) -> None:
        handler = self.own.get(scope["path"].partition("=")[0], self.app)
        if route.kind == "upload":
            await self._upload_turn()
            self.uploading += 1
            try:
                bounded = limited(scope, without_stalls(receive), UPLOAD_BYTES + FORM_BYTES)
                async with deadline(UPLOAD_SECONDS):
                    await handler(scope, bounded, exit_)
            finally:
                self.uploading -= 1
        elif route.kind == "json":
            body = await read_json(scope, receive)
            if self.check is not None:
                body = self.check(scope["path"], body)
            await handler(with_length(scope, len(body)), replay(body, receive), exit_)
        else:
            await handler(scope, limited(scope, receive, 0), exit_)
