"""Every word of the page in the visitor's language: English, or Chinese. The browser decides."""

import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ui.error_texts import ERRORS
from ui.texts import WORDS

__all__ = ["ERRORS", "WORDS", "i18n", "language", "plainly", "say", "t"]

i18n = gr.I18n(**WORDS)


def t(key: str) -> Any:
    """A label that the browser translates. Every component takes it, though some are declared for str."""
    return i18n(key)


def language(request: object) -> str:
    """'zh' or 'en', by the browser's Accept-Language.

    Args:
        request: anything with headers, as a gr.Request; None outside a request.
    """
    headers: Mapping[str, str] | None = getattr(request, "headers", None)
    header = (headers.get("accept-language") or "") if headers else ""
    return "zh" if header.strip().lower().startswith("zh") else "en"


def say(request: object, key: str, **values: Any) -> str:
    """A sentence with values in it, which only the server can fill in."""
    return WORDS[language(request)][key].format(**values)


def plainly(request: object, sentence: str) -> str:
    """A sentence about an error; one that has no translation stays as it is."""
    if language(request) != "zh":
        return sentence
    for pattern, words in ERRORS:
        if re.fullmatch(pattern, sentence, re.DOTALL):
            return re.sub(pattern, words, sentence, count=1, flags=re.DOTALL)
    return sentence
