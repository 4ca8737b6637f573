"""Writing pictures: formats, quality, transparency, marks, names. No metadata of the photo is written."""

import contextlib
import errno
import io
import os
import re
import secrets
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from agedit.credentials import add_credentials
from agedit.errors import AgeEditError
from agedit.mark import WORDS, XMP, stamp

if TYPE_CHECKING:
    from agedit.photo import Photo

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
KEEPS_ALPHA = ("PNG", "WEBP", "TIFF")
# numbers of TIFF tags
TIFF_DESCRIPTION = 270
TIFF_SOFTWARE = 305
TIFF_XMP = 700
NAME_BYTES = 255  # of one file name, on every usual file system
LASTING = {"quality": 95, "subsampling": "4:4:4"}
PASSING = {"quality": 93, "subsampling": "4:2:0"}
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")  # by Windows, with any ending


@dataclass(frozen=True)
class JpegSettings:
    """How a JPEG was compressed.

    tables: its quantization tables. subsampling: Pillow's number, -1 for an odd one.
    """

    tables: list[list[int]]
    subsampling: int | None

    def options(self) -> dict[str, Any]:
        """Pillow's, to compress another picture alike."""
        odd = self.subsampling not in (0, 1, 2)
        usable = 1 <= len(self.tables) <= 4 and all(1 <= v <= 255 for table in self.tables for v in table)
        if not usable:
            return LASTING
        return {"qtables": self.tables, "subsampling": "4:4:4" if odd else self.subsampling}


def encode_photo(
    picture: npt.NDArray[np.uint8],
    format: str = "PNG",
    synthetic: bool = False,
    lasting: bool = False,
    jpeg: JpegSettings | None = None,
) -> bytes:
    """A picture as file content, without EXIF; quick rather than small, because the visitor waits.

    Args:
        picture: RGB uint8 (H, W, 3), or RGBA uint8 (H, W, 4), laid on white where the format has no
            transparency.
        format: one of FORMATS' values.
        synthetic: also write that the picture was edited: as metadata (see `agedit.mark` and, in what is to
            keep, `agedit.credentials`), which changes no pixel. BMP has none, so there the words are in the
            picture.
        lasting: a JPEG to keep, not to look at in passing: every pixel its own colour.
        jpeg: compress a JPEG as this one was.
    """
    if picture.shape[2] == 4 and format not in KEEPS_ALPHA:
        picture = on_white(picture)
    if synthetic and format == "BMP":
        picture = stamp(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(
        buffer, format, **_options(format, picture.shape[2] == 4, lasting, jpeg), **_mark(format, synthetic)
    )
    data = buffer.getvalue()
    passing = format == "JPEG" and not lasting  # a look at an edit while the slider moves
    return add_credentials(data, format) if synthetic and not passing else data


def _options(format: str, alpha: bool, lasting: bool, jpeg: JpegSettings | None) -> dict[str, Any]:
    if format == "JPEG":
        if jpeg is not None:
            return jpeg.options()
        return LASTING if lasting else PASSING
    if format == "WEBP":  # a lossy one would change the pixels behind transparency, and the edge with them
        return {"lossless": True, "exact": True, "quality": 25} if alpha else {"quality": 95}
    return {"compress_level": 1} if format == "PNG" else {}


def _mark(format: str, synthetic: bool) -> dict[str, Any]:
    """Pillow's options that write the mark."""
    if not synthetic:
        return {}
    if format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        info.add_text("Comment", WORDS)
        return {"pnginfo": info}
    if format in ("JPEG", "WEBP"):
        return {"xmp": XMP} | ({"comment": WORDS} if format == "JPEG" else {})
    if format == "TIFF":
        return {"tiffinfo": {TIFF_DESCRIPTION: WORDS, TIFF_SOFTWARE: "AgeEdit", TIFF_XMP: XMP}}
    return {}


def encode_like(
    photo: "Photo",
    edited: npt.NDArray[np.uint8],
    format: str | None = None,
    synthetic: bool = False,
    words: bool = False,
) -> bytes:
    """An edit as file content, in the photo's own way: its transparency, and as JPEG its quality and
    subsampling.

    Args:
        photo: what was edited.
        edited: RGB uint8 (H, W, 3), an edit of `photo.rgb`.
        format: "PNG", "JPEG", "WEBP", "TIFF" or "BMP"; default: JPEG for what was one, else PNG.
        synthetic: as in `encode_photo`.
        words: also write the words of `mark.stamp` into the picture.
    """
    format = format or ("JPEG" if photo.jpeg is not None else "PNG")
    picture = _like(photo, edited)
    if words and not (synthetic and format == "BMP"):
        picture = stamp(picture)
    return encode_photo(picture, format, synthetic, lasting=True, jpeg=photo.jpeg)


def _like(photo: "Photo | None", edited: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    # the strict form's picture is a face alone, of another size: nothing of the photo's transparency belongs
    # to it
    if photo is None or edited.shape != photo.rgb.shape:
        return edited
    return photo.cut_out(edited)


def on_white(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """RGBA uint8 (H, W, 4) laid on white: RGB uint8 (H, W, 3)."""
    image = Image.fromarray(picture)
    out = Image.new("RGB", image.size, "white")
    out.paste(image, mask=image.getchannel("A"))
    return np.asarray(out)


def check_output(path: str | os.PathLike[str]) -> Path:
    """Refuse a picture path that cannot be written, before any work is done. Raises AgeEditError."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise AgeEditError(
            f"{path.name} has no known picture ending; use one of {', '.join(sorted(FORMATS))}."
        )
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise AgeEditError("The output's name is too long; choose a shorter one.") from None
    if not os.path.isdir(path.parent):
        raise AgeEditError(f"The folder {path.parent} does not exist; make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise AgeEditError(f"The folder {path.parent} may not be written; choose another place.")
    return path


def save_photo(
    path: str | os.PathLike[str],
    rgb: npt.NDArray[np.uint8],
    synthetic: bool = False,
    like: "Photo | None" = None,
) -> None:
    """Write a picture; the ending chooses the format.

    Args:
        path: whole or not at all: the old picture is never lost.
        rgb: RGB uint8 (H, W, 3), or RGBA uint8 (H, W, 4).
        synthetic: as in `encode_photo`.
        like: the photo that `rgb` is an edit of, for its transparency and its JPEG quality.

    Raises:
        AgeEditError: why it could not be written.
    """
    path = check_output(path)
    # short: path's own name may be as long as allowed
    temporary = path.with_name(f".agedit-{secrets.token_hex(4)}.tmp")
    format = FORMATS[path.suffix.lower()]
    jpeg = like.jpeg if like else None
    try:
        data = encode_photo(_like(like, rgb), format, synthetic, lasting=True, jpeg=jpeg)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):  # a folder that may not be written has nothing to delete
            temporary.unlink()
        raise AgeEditError(
            f"{path} could not be written ({getattr(error, 'strerror', None) or error}); "
            "choose another place or ending."
        ) from None


def edited_name(stem: str, years: float, suffix: str = ".png") -> str:
    """A file name for an edit of the photo called `stem`, which every system can have: "me_+20_years.png".

    Characters that Windows, a shell or a reader would stumble over become _; the whole has 255 bytes at most.
    """
    ending = f"_{years:+g}_years{suffix}"
    return _safe_stem(stem, NAME_BYTES - len(ending.encode())) + ending


def _safe_stem(stem: str, most: int) -> str:
    stem = unicodedata.normalize("NFC", stem)
    # "C": controls, turns of the reading direction, halves of characters; "Z": odd spaces and line ends
    stem = "".join(map(_safe, stem)).strip(" .~-")
    while len(stem.encode()) > most:
        stem = stem[:-1]
    stem = stem.rstrip(" .")
    if RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    return stem or "photo"


def _safe(character: str) -> str:
    """The character, or what is written in its place."""
    if unicodedata.category(character)[0] == "Z":
        return " "
    return "_" if _odd(character) else character


def _odd(character: str) -> bool:
    return character in "<>:\"/\\|?*%$`'" or unicodedata.category(character)[0] == "C"
