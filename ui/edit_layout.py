"""What is on the Edit tab. Where it stands says `stage.css`; the stage and the strip are drawn by scripts."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from ui.board import nothing, words_for_scripts
from ui.components import FileInput, SaveButton, Slider, budget_slider
from ui.portraits import PORTRAITS, credits
from ui.texts import WORDS
from ui.words import t

FIRST_YEARS = 20
"""Years of a new photo's first edit: it shows one at once."""

LOWEST_YEARS = -30
"""Ends of the slider until the calibration's own are known."""

HIGHEST_YEARS = 40


@dataclass
class Picture:
    """The result and what is asked for."""

    board: gr.Markdown
    """`board.Board` for the stage."""
    keys: gr.Markdown
    """`board.Keys` for the strip."""
    years: Slider
    line: gr.Markdown
    who: gr.Radio
    view: gr.Radio


@dataclass
class Film:
    """The age journey."""

    make: gr.Button
    cancel: gr.Button
    told: gr.Markdown
    strip: gr.Image
    saves: list[SaveButton]
    """Strip, GIF and MP4."""


@dataclass
class Saves:
    """The picture as a file."""

    png: gr.Button
    jpeg: gr.Button
    outbox: gr.Markdown
    """The file that the page saves when this changes."""


@dataclass
class Widgets:
    """What is on the tab."""

    token: gr.Textbox
    """Of the visit that the page showed before it was loaded again."""
    start: gr.Button
    """A script clicks it when the page is ready."""
    gallery: gr.Gallery
    photo: FileInput
    picture: Picture
    budget: Slider
    saves: Saves
    film: Film
    strict: gr.Checkbox
    mark: gr.Checkbox

    def shown(self) -> list[Component]:
        """What an edit changes."""
        return [self.picture.board, self.picture.line, self.picture.years]

    def asked(self) -> list[Component]:
        """What an edit depends on, in the order of `visit.Asked`."""
        return [self.picture.years, self.budget, self.picture.who, self.picture.view, self.strict]


def _letter(name: str, value: str = "") -> gr.Markdown:
    """What scripts read and nobody sees."""
    return gr.Markdown(value, sanitize_html=False, elem_id=name, elem_classes="letter")


def lay_out() -> Widgets:
    """The whole tab; call inside gr.Tab."""
    with gr.Column(elem_id="try"):
        with gr.Column(elem_id="letters", min_width=0):
            _letter("words", words_for_scripts(WORDS))
            board = _letter("board", nothing())
            keys = _letter("keys", nothing())
            outbox = _letter("outbox", nothing())
            token = gr.Textbox("", label="token", elem_id="token", container=False)
            start = gr.Button("start", elem_id="start")
            view = gr.Radio(["photo", "face"], value="photo", label="view", elem_id="view")
        with gr.Column(elem_id="rail", min_width=0):
            with gr.Column(elem_id="photo", min_width=0):
                photo = FileInput(t("photo"), type="filepath", size="sm")
            gallery = _gallery()
        gr.Markdown("", elem_id="stage")
        with gr.Column(elem_id="side", min_width=0):
            gr.Markdown("", elem_id="ages")
            png = gr.Button(t("download"), variant="primary", elem_id="download")
            jpeg = gr.Button(t("download_jpeg"), elem_id="download-jpeg")
        with gr.Column(elem_id="age", min_width=0):
            gr.Markdown("", elem_id="strip")
            years = Slider(
                LOWEST_YEARS,
                HIGHEST_YEARS,
                FIRST_YEARS,
                step=1,
                label=t("years"),
                elem_id="years",
                buttons=[],
            )
        with gr.Column(elem_id="settings", min_width=0):
            line = gr.Markdown("", elem_id="line")
            budget = budget_slider("budget")
            who = gr.Radio([], label=t("who"), visible=False, elem_id="who")
            strict = gr.Checkbox(False, label=t("strict"), elem_id="strict")
            mark = gr.Checkbox(True, label=t("mark"), elem_id="mark")
            film = _film()
    picture = Picture(board, keys, years, line, who, view)
    saves = Saves(png, jpeg, outbox)
    return Widgets(token, start, gallery, photo, picture, budget, saves, film, strict, mark)


def _gallery() -> gr.Gallery:
    portraits = [str(PORTRAITS / row["file"]) for row in credits()]
    return gr.Gallery(
        portraits,
        show_label=False,
        columns=len(portraits),
        height="auto",
        object_fit="cover",
        allow_preview=False,
        elem_id="examples",
        interactive=False,
        buttons=[],
    )


def _film() -> Film:
    with gr.Accordion(t("journey"), open=False, elem_id="journey"):
        with gr.Row():
            make = gr.Button(t("journey_make"), elem_id="make", size="sm")
            cancel = gr.Button(t("cancel"), elem_id="cancel", size="sm", interactive=False)
        told = gr.Markdown("", elem_id="told")
        strip = gr.Image(
            show_label=False, interactive=False, visible=False, elem_id="film", buttons=["fullscreen"]
        )
        with gr.Row():
            saves = [
                SaveButton(t(name), size="sm", interactive=False, elem_id=f"save-{name}")
                for name in ("strip", "gif", "mp4")
            ]
    return Film(make, cancel, told, strip, saves)
