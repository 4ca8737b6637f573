"""A visitor's photo file: decoded for the editor, and how an edit of it is saved."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from agedit import AgeEditError, load_photo
from agedit.mark import XMP

LONGEST_STEM = 60  # characters of the photo's own name that a saved picture takes over
BEST = {"quality": 95, "subsampling": "4:4:4"}  # for photos that were no JPEG


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


def decode(path: str, name: str) -> npt.NDArray[np.uint8]:
    """RGB (H, W, 3). Raises AgeEditError with the reason, which calls the photo by the visitor's own name for it."""
    try:
        return load_photo(path)
    except AgeEditError as error:
        raise AgeEditError(str(error).replace(Path(path).name, name or "The picture")) from None


def jpeg_options(path: str) -> dict[str, Any]:
    """How the photo itself was compressed, as Pillow's options; the best for one that was no JPEG."""
    try:
        with Image.open(path) as image:
            if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("RGB", "L"):
                return dict(BEST)
            tables = {number: list(table) for number, table in image.quantization.items()}
            sampling = JpegImagePlugin.get_sampling(image)
    except Exception:  # it was decoded before: whatever is odd about its header is no reason to save nothing
        return dict(BEST)
    if len(tables) == 1:  # grey: the edit has colours, which get the same table
        tables[1] = tables[0]
    return {"qtables": tables, "subsampling": sampling if sampling in (0, 1, 2) else 0}


def encode_jpeg(rgb: npt.NDArray[np.uint8], like: str, synthetic: bool) -> bytes:
    """RGB (H, W, 3) as a JPEG without EXIF, at the quality of the photo at `like`; synthetic: says so in its metadata."""
    marked: dict[str, Any] = {"xmp": XMP} if synthetic else {}
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", **jpeg_options(like), **marked)
    return buffer.getvalue()


def edited_name(name: str, years: float, ending: str) -> str:
    """What an edit is called, after its photo: `me_older+20.png`."""
    stem = "".join(c for c in Path(name.replace("\\", "/")).stem if c.isprintable() and c not in '<>:"/\\|?*')
    stem = stem.strip(" .")[:LONGEST_STEM] or "photo"
    if years == 0:
        return f"{stem}{ending}"
    return f"{stem}_{'older' if years > 0 else 'younger'}{years:+.0f}{ending}"
