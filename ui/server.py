"""The page on the network: Gradio's app behind `ui.security.guard.Guard`, served by uvicorn."""

import asyncio
import functools
import socket
from pathlib import Path

import gradio as gr
import h11
import uvicorn
from fastapi import FastAPI
from gradio.data_classes import _StaticFiles
from gradio.themes import Default
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ui import uploads
from ui.page import CSS, SCRIPTS, Page
from ui.portraits import PORTRAITS
from ui.requests import Checker
from ui.security.guard import Guard
from ui.security.limits import UPLOAD_BYTES
from ui.sessions import sessions
from ui.words import i18n

HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">' + "".join(
    f'<script defer src="{path.name}"></script>' for path in SCRIPTS
)
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans CJK SC", "sans-serif"]
CONNECTIONS = 800
"""Most connections that are open at once, idle ones counted too."""

HEADER_SECONDS = 15.0
"""Longest time that a request's first line and headers may take to arrive, seconds."""

GRACE_SECONDS = 3
"""Time that open pages get when the server ends, seconds; then it hangs up on them."""

LAST_SECONDS = 5
"""Time that what still runs gets after that, before it is torn down, seconds."""

HEADER_BYTES = 16 << 10
"""Largest first line and headers of a request together, bytes."""

IDLE_SECONDS = 20
"""Longest time that a connection may stay open without a request, seconds."""

EVENTS_IN_LINE = 64
"""Most events that wait in one of Gradio's queues."""


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP, which hangs up on those who open a connection and then say nothing, or say it
    slowly.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:  # uvicorn would refuse a request, and here none may ever come
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def shutdown(self) -> None:
        """The server ends: a stream that a page listens to would go on, so it is hung up on in a while."""
        super().shutdown()
        self.loop.call_later(GRACE_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """A timer runs while a request has not told its headers; those of idle connections are uvicorn's."""
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_SECONDS, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _hang_up(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def roots() -> list[Path]:
    """Folders of which files are handed out: uploads, what visits show, the portraits."""
    folders = [Path(get_upload_folder()), *map(Path, _StaticFiles.all_paths)]
    return [folder.resolve() for folder in folders]


def mounted(page: Page) -> FastAPI:
    """Gradio's app for the page, as `launch` would make it, but without its own server and its checks
    over a proxy.
    """
    page.queue(max_size=EVENTS_IN_LINE, api_open=False)
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="",
        css=CSS,
        head=HEAD,
        footer_links=[],
        run_history=False,
        i18n=i18n,
        theme=Default(font=FONT, font_mono=["ui-monospace", "monospace"], primary_hue="indigo"),
        max_file_size=UPLOAD_BYTES,
        enable_monitoring=False,
        show_error=False,
        pwa=False,
        ssr_mode=False,
        mcp_server=False,
    )
    page.has_launched = True  # so that Gradio checks the paths that it is given
    return app


def guarded(page: Page, names: frozenset[str] = frozenset()) -> ASGIApp:
    """The whole application. names: what this server is called beside the loopback names."""
    page.settle()
    app = page.watched(mounted(page))
    queue = page._queue

    def knows(kind: str, value: str) -> bool:
        if kind == "session":
            return value in queue.pending_messages_per_session
        return value in queue.event_ids_to_events or any(
            value in events for events in queue.pending_event_ids_session.values()
        )

    def cacheable(named: str) -> bool:
        path = uploads.locate(named, [PORTRAITS])
        return path is not None

    own = {
        "/gradio_api/upload": _take,
        "/gradio_api/file": functools.partial(uploads.give, roots=roots),
        "/gradio_api/upload_progress": uploads.progress,
    } | {f"/{path.name}": functools.partial(_script, path) for path in SCRIPTS}
    return Guard(app, names, own, Checker(page, roots), knows, cacheable)


async def _take(scope: Scope, receive: Receive, send: Send) -> None:
    """An upload, which is deleted soon unless somebody asks for it."""
    by_a_page = "origin" in Headers(scope=scope)
    received = functools.partial(sessions.received, by_a_page=by_a_page)
    await uploads.take(scope, receive, send, folder=Path(get_upload_folder()), kept=received)


async def _script(path: Path, scope: Scope, receive: Receive, send: Send) -> None:
    await FileResponse(path, media_type="text/javascript")(scope, receive, send)


def serve(page: Page, bound: socket.socket, names: frozenset[str] = frozenset()) -> None:
    """Answer on a bound socket until a signal ends it."""
    config = uvicorn.Config(
        guarded(page, names),
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS + LAST_SECONDS,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[bound])
