"""Age editing on the user's own machine: align, encode, shift, generate, with a sub-model chosen by timing.

from agedit import AgeEditor, load_photo, save_photo
editor = AgeEditor()
editor.set_photo(load_photo("me.jpg"))
save_photo("older.png", editor.edit(years=+20).picture)
"""

from typing import TYPE_CHECKING, Any

from agedit.compat import silence

silence()  # first: of any module of the package this one runs before, so no library has been imported yet

from agedit.errors import AgeEditError  # noqa: E402

if TYPE_CHECKING:
    from agedit.editor import AgeEditor, Edit
    from agedit.engine import Engine
    from agedit.photo import load_photo, save_photo

__version__ = "0.1.0"
__all__ = ["AgeEditError", "AgeEditor", "Edit", "Engine", "load_photo", "save_photo"]

MODULES = {
    "AgeEditor": "editor",
    "Edit": "editor",
    "Engine": "engine",
    "load_photo": "photo",
    "save_photo": "photo",
}
"""Where the public names live that are loaded on first use."""


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that training and tools that need one module do not wait for all."""
    import importlib

    if name not in MODULES:
        raise AttributeError(f"module 'agedit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"agedit.{MODULES[name]}"), name)
