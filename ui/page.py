"""The page as a whole: four tabs over one Service."""

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path

import gradio as gr
from starlette.types import ASGIApp

from ui import about_tab, api, compare_tab, device_tab, edit_tab, workspace
from ui.common import QUIET
from ui.compat import patch
from ui.files import CALL, sessions, visits_folder
from ui.line import COMPARE
from ui.presence import Presence
from ui.service import Service
from ui.words import t

CSS = """
.gradio-container {max-width: 1080px !important; margin: 0 auto !important}
#title h1 {font-size: 1.7rem; margin: .2rem 0 0} #title p, #tagline p {opacity: .75; margin: 0}
#hint p, #hint2 p {opacity: .75; margin: 0; font-size: .92rem}
#years .info-text {font-size: 1.05rem; color: var(--body-text-color)}
#line {min-height: 1.6rem; text-align: center} #line p {opacity: .85; font-size: .95rem; margin: 0}
#photo, #result, #beside, #large, #difference {border-radius: 14px; overflow: hidden}
#examples {border-width: 0 !important; background: none; padding: 0; min-height: 0 !important; height: auto !important}
#examples .grid-wrap, #grid .grid-wrap {padding: 0; max-height: none; overflow: visible}
#examples {flex: none !important; min-width: 0 !important; width: 100%} #examples .thumbnail-item {aspect-ratio: 1}
#examples .grid-wrap {overflow-x: auto; min-height: 0 !important}
#examples .grid-container {gap: 6px; grid-template-columns: repeat(9, minmax(72px, 1fr)) !important}
#grid .grid-container {gap: 6px; grid-template-columns: repeat(4, 1fr) !important} #grid .caption-label {display: none}
#grid {min-height: 0 !important; height: auto !important} #grid .thumbnail-item {aspect-ratio: 288 / 372}
#grid .grid-wrap {padding-top: 2.2rem !important}
#result.held img.fixed {visibility: hidden}
#paste {display: none !important} #photo img.undrawn {visibility: hidden}
#downloads {gap: 8px} #told {min-height: 0} #told p {opacity: .85; font-size: .92rem; margin: 0}
@media (max-width: 640px) {#grid .grid-container {grid-template-columns: repeat(2, 1fr) !important}}
@media (max-width: 800px) {#examples {contain: inline-size}}
#whatif p {font-size: 1.05rem}
#card table {display: block; overflow-x: auto} #card {max-width: calc(min(100vw, 1080px) - 90px); overflow-wrap: anywhere}
#table, #tried, #method {max-width: calc(min(100vw, 1080px) - 66px); overflow-x: auto}
#views {align-items: center} #hold {touch-action: none; user-select: none}
.dark #plot img, .dark #runs img {filter: invert(.91) hue-rotate(180deg)}
footer {display: none !important}
"""
SCRIPT = Path(__file__).with_name("page.js")  # a file of its own: the page runs no script that is not one


class Page(gr.Blocks):
    """Gradio's page, which forgets what it knows of a visit when the visit ends."""

    is_template = True

    def settle(self) -> None:
        """Before it is served: move into this process's own temporary folder, and look after what goes in and out."""
        workspace.move_in()
        visits_folder()
        for block in self.blocks.values():
            block.GRADIO_CACHE = str(workspace.root() / workspace.UPLOADS)
        sessions.wanted = self._is_wanted
        sessions.after_checks.append(self._forget_on_loop)

    def watched(self, app: ASGIApp) -> ASGIApp:
        """The page's application, which knows who is there."""
        return Presence(app, sessions, self._runs_on)

    _loop: asyncio.AbstractEventLoop | None = None

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
        queue = self._queue
        states = self.state_holder
        busy = {event.session_hash for event in list(queue.event_ids_to_events.values())}
        enqueued = {entry["session_hash"]: entry["time"] for entry in queue.event_analytics.values()}

        def is_over(session: str) -> bool:
            if session in busy or sessions.is_open(session):
                return False
            if sessions.has_ended(session):
                return True
            used = (
                states.time_last_used.get(session, datetime.min).timestamp()
                if session in states.time_last_used
                else 0
            )
            return time.time() - max(used, enqueued.get(session, 0)) > CALL

        known = (states.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session)
        for session in {key for table in known for key in table} | set(enqueued):
            if is_over(session):
                for table in (*known, states.time_last_used):
                    table.pop(session, None)
        for key, entry in list(queue.event_analytics.items()):
            if is_over(entry["session_hash"]):
                del queue.event_analytics[key]
        for paths in (self.upload_file_set, *self.temp_file_sets):
            for path in [path for path in list(paths) if not os.path.exists(path)]:
                paths.discard(path)


def build(service=None):
    """The page as gr.Blocks. `service` is made on first use, so that building costs nothing."""
    box = [service]

    def get_service():
        if box[0] is None:
            box[0] = Service()
        return box[0]

    patch()
    gr.set_static_paths([edit_tab.PORTRAITS])  # found wherever the app is started from
    with Page(
        title="AgeEdit", analytics_enabled=False
    ) as page:  # no delete_cache: `ui.files` knows whose a file is
        visit = gr.State(None)
        gr.Markdown("# AgeEdit", elem_id="title")
        gr.Markdown(t("tagline"), elem_id="tagline")
        with gr.Tabs():
            with gr.Tab(t("tab_edit"), id="edit"):
                edit = edit_tab.build(get_service, visit)
            with gr.Tab(t("tab_compare"), id="compare") as second:
                compared = compare_tab.build(get_service, visit, edit)
            with gr.Tab(t("tab_device"), id="device") as third:
                device = device_tab.build(get_service)
            with gr.Tab(t("tab_about"), id="about"):
                about_tab.build()
        second.select(
            *compared["arrive"], show_progress_on=[compared["grid"]], api_visibility="private", **COMPARE
        )
        third.select(*device["arrive"], **QUIET)
        api.build(get_service)
        page.load(*edit["load"], api_visibility="private")
        for opened in edit["opened"]:
            opened.then(*compared["clear"], **QUIET)
    return page
