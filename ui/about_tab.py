"""The fourth tab: the method in one picture, the model card, fair use, and how to check the privacy promise."""
import gradio as gr

from agedit.weights import FOLDER
from ui.edit_tab import credits
from ui.words import t


def diagram():
    """The chain as inline SVG that follows the theme's text colour."""
    boxes = (("align", "landmarks,", "one similarity"), ("encode", "f = E(photo)", "512 numbers"), ("shift", "f' = f + alpha n", "n: linear SVM"),
             ("generate", "G(f') - G(f)", "size r, width c"), ("blend", "photo + change,", "full resolution"))
    parts, x = [], 6
    for k, (name, one, two) in enumerate(boxes):
        parts.append(f'<rect x="{x}" y="34" width="150" height="74" rx="10" fill="none" stroke="currentColor" opacity=".55"/>'
                     f'<text x="{x + 75}" y="58" text-anchor="middle" font-weight="700">{name}</text>'
                     f'<text x="{x + 75}" y="79" text-anchor="middle" font-size="13">{one}</text>'
                     f'<text x="{x + 75}" y="97" text-anchor="middle" font-size="13">{two}</text>')
        if k:
            parts.append(f'<path d="M{x - 30} 71h22m-7 -5l7 5l-7 5" fill="none" stroke="currentColor"/>')
        x += 188
    parts.append('<path d="M645 150v-36m-5 7l5 -7l5 7" fill="none" stroke="#6366f1"/>'
                 '<text x="645" y="168" text-anchor="middle" font-size="13" fill="#6366f1">chosen by timing this device against the waiting budget</text>')
    return ('<svg viewBox="0 0 920 180" role="img" aria-label="align, encode, shift, generate, blend; the size is chosen by timing" '
            f'style="width:100%;max-width:920px;min-width:560px" font-family="system-ui,sans-serif" font-size="15" fill="currentColor">{"".join(parts)}</svg>')


def build():
    gr.HTML(diagram(), elem_id="method")
    gr.Markdown(t("about_text"), elem_id="about-text")
    people = "; ".join(sorted({f"{row['credit']} ({row['licence']})" for row in credits()}))
    gr.Markdown(f"Portraits: {people}.")
    card = FOLDER / "MODEL_CARD.md"
    with gr.Accordion(t("model_card"), open=False):
        gr.Markdown(card.read_text() if card.exists() else "")
