"""The fourth tab: the method in one picture, the model card, fair use, and the privacy promise."""

import gradio as gr

from agedit.paths import weights_folder
from ui.portraits import credits
from ui.words import t


def build() -> None:
    """Lay out the tab inside a gr.Tab."""
    gr.Markdown(t("method"), elem_id="method", sanitize_html=False)
    gr.Markdown(t("about_text"), elem_id="about-text")
    people = sorted({f"{row['credit']} ({row['licence']})" for row in credits()})
    gr.Markdown(f"Portraits: {'; '.join(people)}.")
    card = weights_folder() / "MODEL_CARD.md"
    with gr.Accordion(t("model_card"), open=False):
        gr.Markdown(card.read_text(encoding="utf-8") if card.exists() else "", elem_id="card")
