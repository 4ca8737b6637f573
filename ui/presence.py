"""Who is there: a page holds one connection open for as long as it is shown."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.sessions import Sessions

HEARTBEAT = "/gradio_api/heartbeat/"


class Presence:
    """Middleware that tells `Sessions` when a page's connection comes and goes."""

    def __init__(
        self, app: ASGIApp, sessions: Sessions, on_loop: Callable[[asyncio.AbstractEventLoop], None]
    ) -> None:
        self.app = app
        self._sessions = sessions
        self._on_loop = on_loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or HEARTBEAT not in scope["path"]:
            await self.app(scope, receive, send)
            return
        self._on_loop(asyncio.get_running_loop())
        session = scope["path"].rpartition(HEARTBEAT)[2].strip("/")
        here = True
        self._sessions.connected(session)

        def gone() -> None:
            nonlocal here
            if here:
                here = False
                self._sessions.disconnected(session)

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone()
            return message

        try:
            await self.app(scope, watched, send)
        finally:
            gone()
