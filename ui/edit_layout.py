"""What is on the Edit tab, and where."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from ui.components import FileInput, PhotoInput, SaveButton, Slider, budget_slider
from ui.portraits import PORTRAITS, credits
from ui.words import t

FIRST_YEARS = 20
"""Years of a new photo's first edit: it shows one at once."""

LOWEST_YEARS = -40
"""Ends of the slider until the calibration's own are known."""

HIGHEST_YEARS = 50


@dataclass
class Picture:
    """The result and what is asked for."""

    result: gr.ImageSlider
    beside: gr.Image
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
class Widgets:
    """What is on the tab."""

    gallery: gr.Gallery
    photo: PhotoInput
    paste: FileInput
    picture: Picture
    budget: Slider
    saves: list[SaveButton]
    """PNG and JPEG."""
    film: Film
    strict: gr.Checkbox
    mark: gr.Checkbox

    def shown(self) -> list[Component]:
        """What an edit changes."""
        picture = self.picture
        return [picture.result, picture.beside, picture.line, picture.years]

    def asked(self) -> list[Component]:
        """What an edit depends on, in the order of `visit.Asked`."""
        return [self.picture.years, self.budget, self.picture.who, self.picture.view, self.strict]


def lay_out() -> Widgets:
    """The whole tab; call inside gr.Tab."""
    gallery = _gallery()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=260):
            photo = _photo()
            paste = _paste()
            gr.Markdown(t("examples"), elem_id="hint")
        with gr.Column(scale=3, min_width=300):
            picture = _picture()
            budget = budget_slider("budget")
            saves = _saves()
            film = _film()
            with gr.Accordion(t("advanced"), open=False):
                strict = gr.Checkbox(False, label=t("strict"), elem_id="strict")
                mark = gr.Checkbox(True, label=t("mark"), elem_id="mark")
    return Widgets(gallery, photo, paste, picture, budget, saves, film, strict, mark)


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


def _photo() -> PhotoInput:
    return PhotoInput(
        label=t("photo"),
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),
        height=300,
        elem_id="photo",
        buttons=[],
    )


def _paste() -> FileInput:
    with gr.Column(elem_id="paste", min_width=0):
        return FileInput(t("photo"), type="filepath")


def _picture() -> Picture:
    result = gr.ImageSlider(
        label=t("result"),
        format="png",
        interactive=False,
        elem_id="result",
        max_height=560,
        buttons=["fullscreen"],
    )
    beside = gr.Image(
        show_label=False, visible=False, interactive=False, elem_id="beside", buttons=["fullscreen"]
    )
    years = Slider(
        LOWEST_YEARS, HIGHEST_YEARS, FIRST_YEARS, step=1, label=t("years"), elem_id="years", buttons=[]
    )
    line = gr.Markdown("", elem_id="line")
    who = gr.Radio([], label=t("who"), visible=False, elem_id="who")
    with gr.Row(elem_id="views"):
        view = gr.Radio(
            [(t("view_photo"), "photo"), (t("view_face"), "face"), (t("view_beside"), "beside")],
            value="photo",
            show_label=False,
            container=False,
            elem_id="view",
            scale=3,
            min_width=300,
        )
        gr.Button(t("hold"), elem_id="hold", size="sm", scale=1, min_width=140)
    return Picture(result, beside, years, line, who, view)


def _saves() -> list[SaveButton]:
    with gr.Row(elem_id="downloads"):
        png = SaveButton(
            t("download"), interactive=False, elem_id="download", variant="primary", scale=3, min_width=200
        )
        jpeg = SaveButton(
            t("download_jpeg"), interactive=False, elem_id="download-jpeg", scale=2, min_width=120
        )
    return [png, jpeg]


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
