"""A visitor's photo file: decoded for the editor, and what its edits are called."""

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from agedit import AgeEditError
from agedit.photo import Photo, edited_name, open_photo


@dataclass(frozen=True)
class Upload:
    """A file that this visitor sent. name: as it was called on the visitor's own device."""

    path: str
    name: str = ""


@dataclass(frozen=True)
class Saved:
    """A file to save. path: on the server. name: which the browser gives it."""

    path: str
    name: str


def decode(path: str, name: str) -> Photo:
    """The photo at `path`. Raises AgeEditError, which calls it by the visitor's own name for it."""
    try:
        return open_photo(path)
    except AgeEditError as error:
        raise AgeEditError(str(error).replace(Path(path).name, name or "The picture")) from None


def stem(name: str) -> str:
    """A file's name without folder and ending, in the way of whatever system it comes from."""
    return PureWindowsPath(name).stem or "photo"


def ages_name(name: str, ending: str) -> str:
    """What a strip or film of a photo is called: `me_ages.gif`."""
    unwanted = f"_+0_years{ending}"
    return edited_name(f"{stem(name)}_ages", 0, ending).removesuffix(unwanted) + ending
