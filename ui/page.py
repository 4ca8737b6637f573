"""The page as a whole: four tabs over one Service."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.types import ASGIApp

from ui import about_tab, api, workspace
from ui.compare_tab import CompareTab
from ui.compat import patch
from ui.device_tab import DeviceTab
from ui.edit_tab import EditTab
from ui.events import listen
from ui.files import visits_folder
from ui.portraits import PORTRAITS
from ui.presence import Presence
from ui.service import Service
from ui.sessions import CALL, sessions
from ui.settings import DEFAULT_BUDGET
from ui.words import t

STYLES = ("page.css", "stage.css")
CSS = "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in STYLES)
SCRIPTS = tuple(Path(__file__).with_name(name) for name in ("page.js", "strip.js", "stage.js"))
"""Files of their own: the page runs no script that is not one."""


class Page(gr.Blocks):
    """Gradio's page, which forgets what it knows of a visit when the visit ends."""

    is_template = True
    _loop: asyncio.AbstractEventLoop | None = None

    def settle(self) -> None:
        """Before it is served: move into this process's own temporary folder, and look after files."""
        workspace.move_in()
        visits_folder()
        for block in self.blocks.values():
            block.GRADIO_CACHE = str(workspace.root() / workspace.UPLOADS)
        sessions.wanted = self._is_wanted
        sessions.after_checks.append(self._forget_on_loop)

    def watched(self, app: ASGIApp) -> ASGIApp:
        """The page's application, which knows who is there."""
        return Presence(app, sessions, self._runs_on)

    def _runs_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def _is_wanted(self, path: str) -> bool:
        """Whether an event that waits in the queue names an upload."""
        waiting = [
            event
            for line in list(self._queue.event_queue_per_concurrency_id.values())
            for event in line.queue
        ]
        return any(event.data is not None and path in str(event.data.data) for event in waiting)

    def _forget_on_loop(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.forget_closed)

    def forget_closed(self) -> None:
        """Drop Gradio's own records of sessions that are over: their state, messages and statistics."""
        queue: Any = self._queue
        states: Any = self.state_holder
        known = (states.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session)
        analytics = queue.event_analytics
        busy = {event.session_hash for event in list(queue.event_ids_to_events.values())}
        used = self._last_uses()
        sessions_known = {session for table in known for session in table} | set(used)
        over = {session for session in sessions_known - busy if _is_over(session, used.get(session, 0.0))}
        for table in (*known, states.time_last_used):
            for session in over:
                table.pop(session, None)
        for key, entry in list(analytics.items()):
            if entry["session_hash"] in over:
                del analytics[key]
        self._forget_deleted_files()

    def _last_uses(self) -> dict[str, float]:
        """When a session was last used, in seconds since the epoch."""
        queue: Any = self._queue
        states: Any = self.state_holder
        used = {session: at.timestamp() for session, at in list(states.time_last_used.items())}
        for entry in list(queue.event_analytics.values()):
            session = entry["session_hash"]
            used[session] = max(entry["time"], used.get(session, 0.0))
        return used

    def _forget_deleted_files(self) -> None:
        for paths in (self.upload_file_set, *self.temp_file_sets):
            gone = [path for path in list(paths) if not os.path.exists(path)]
            paths.difference_update(gone)


def _is_over(session: str, used: float) -> bool:
    """Whether nobody is there any more. used: when the session was, in seconds since the epoch."""
    if sessions.is_open(session):
        return False
    return sessions.has_ended(session) or time.time() - used > CALL


class _OneService:
    """The Service, made on first use, so that building a page costs nothing."""

    def __init__(self, service: Service | None) -> None:
        self._service = service

    def __call__(self) -> Service:
        if self._service is None:
            self._service = Service()
        return self._service


def build(service: Service | None = None, budget: float = DEFAULT_BUDGET) -> Page:
    """The page.

    Args:
        service: None to make one when it is first asked for.
        budget: where its waiting times start, milliseconds.
    """
    one = _OneService(service)
    patch()
    gr.set_static_paths([PORTRAITS])  # found wherever the app is started from
    # no delete_cache: `ui.sessions` knows whose a file is
    with Page(title="AgeEdit", analytics_enabled=False) as page:
        visit = gr.State(None)
        gr.Markdown("# AgeEdit", elem_id="title")
        gr.Markdown(t("tagline"), elem_id="tagline")
        with gr.Tabs() as tabs:
            with gr.Tab(t("tab_edit"), id="edit"):
                edit = EditTab(one, visit)
            with gr.Tab(t("tab_compare"), id="compare") as second:
                compare = CompareTab(one, visit, edit.on.picture.who)
            with gr.Tab(t("tab_device"), id="device") as third:
                device = DeviceTab(one)
            with gr.Tab(t("tab_about"), id="about"):
                about_tab.build()
        for slider in (edit.on.budget, compare.budget, device.budget):
            slider.value = budget
        compare.wire_arrival(second)
        device.wire_arrival(third)
        api.build(one)
        listen(page.load, edit.picture.limits, None, edit.on.picture.years, progress="full")
        compare.wire_photo(edit.opened, tabs)
    return page
