"""The method in one picture: the chain as inline SVG that follows the theme's text colour."""

from collections.abc import Sequence
from html import escape


def diagram(boxes: Sequence[tuple[str, str, str]], note: str, label: str) -> str:
    """The picture as SVG text; all words in it are text, whatever signs they hold.

    Args:
        boxes: five of (name, first line, second line), in order.
        note: under the fourth.
        label: for screen readers.
    """
    note = escape(note)
    label = escape(label)
    parts = []
    x = 6
    for k, box in enumerate(boxes):
        name, one, two = map(escape, box)
        parts.append(
            f'<rect x="{x}" y="34" width="150" height="74" rx="10" fill="none" stroke="currentColor" '
            'opacity=".55"/>'
            f'<text x="{x + 75}" y="58" text-anchor="middle" font-weight="700">{name}</text>'
            f'<text x="{x + 75}" y="79" text-anchor="middle" font-size="13">{one}</text>'
            f'<text x="{x + 75}" y="97" text-anchor="middle" font-size="13">{two}</text>'
        )
        if k:
            parts.append(f'<path d="M{x - 30} 71h22m-7 -5l7 5l-7 5" fill="none" stroke="currentColor"/>')
        x += 188
    parts.append(
        '<path d="M645 150v-36m-5 7l5 -7l5 7" fill="none" stroke="#6366f1"/>'
        f'<text x="645" y="168" text-anchor="middle" font-size="13" fill="#6366f1">{note}</text>'
    )
    return (
        f'<svg viewBox="0 0 920 180" role="img" aria-label="{label}" '
        'style="width:100%;max-width:920px;min-width:560px" '
        f'font-family="system-ui,sans-serif" font-size="15" fill="currentColor">{"".join(parts)}</svg>'
    )
