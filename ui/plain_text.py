"""Text of others on the page: shown letter by letter, never read as markup, an address or a formula."""


def in_markdown(text: object) -> str:
    """Text that a gr.Markdown shows as it is, on one line, inside bold too.

    Every ASCII sign but letters, digits and spaces becomes its HTML entity: what is no sign any more opens no
    tag, no link (`www.example.org` is one without any markup) and no emphasis.
    """
    line = " ".join(str(text).split())
    return "".join(c if c.isalnum() or c == " " or not c.isascii() else f"&#{ord(c)};" for c in line)


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters, the last an ellipsis where some were left out."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
