"""The page as a whole: four tabs over one Service."""

from pathlib import Path

import gradio as gr

from ui import about_tab, api, compare_tab, device_tab, edit_tab
from ui.common import ONE, QUIET
from ui.compat import patch
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


def build(service=None):
    """The page as gr.Blocks. `service` is made on first use, so that building costs nothing."""
    box = [service]

    def get_service():
        if box[0] is None:
            box[0] = Service()
        return box[0]

    def leave(request: gr.Request):
        if box[0] is not None:
            box[0].sessions.leave(request.session_hash)

    patch()
    gr.set_static_paths([edit_tab.PORTRAITS])  # found wherever the app is started from
    with gr.Blocks(title="AgeEdit", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        visit = gr.State(None, time_to_live=3600)
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
            *compared["arrive"], show_progress_on=[compared["grid"]], api_visibility="private", **ONE
        )
        third.select(*device["arrive"], **QUIET)
        api.build(get_service)
        page.load(*edit["load"], api_visibility="private")
        page.unload(leave)
    return page
