"""Reading photos as the eye sees them: orientation, colour, transparency, limits, plain errors."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from agedit import decoder
from agedit.decoding import MAX_PIXELS, MAX_RATIO, RefusedError, is_file
from agedit.errors import AgeEditError
from agedit.picture_files import (
    FORMATS,
    JpegSettings,
    check_output,
    edited_name,
    encode_like,
    encode_photo,
    save_photo,
)

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "READ_ENDINGS",
    "Photo",
    "check_output",
    "edited_name",
    "encode_like",
    "encode_photo",
    "load_photo",
    "open_photo",
    "save_photo",
]

READ_ENDINGS = frozenset(FORMATS) | {".jpe", ".jfif", ".mpo", ".gif", ".heic", ".heif", ".hif", ".avif"}
PictureSource = str | os.PathLike[str] | bytes | Image.Image

# each is one sentence; {name} is the file's
REASONS = {
    "unknown": "{name} is not a picture that can be read; use a JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or "
    "GIF photo.",
    "damaged": "{name} is damaged or incomplete; save or download it again.",
    "pixels": "{name} has {megapixels:.0f} megapixels; shrink it below {limit} megapixels and try again.",
    "many pixels": "{name} has more than {limit} megapixels; shrink it and try again.",
    "slim": "{name} is {width} by {height} pixels, too narrow for a photo; its longer side may be {ratio} "
    "times the shorter one at most, so crop it.",
    "animated": "{name} is an animation; save one of its frames as a picture and use that.",
    "pages": "{name} holds several pages; save one of them as a picture and use that.",
    "slow": "{name} takes too long to decode; save it again as an ordinary JPEG and use that.",
    "memory": "{name} needs too much memory to decode; save it again as an ordinary JPEG and use that.",
}

# how numpy undoes each EXIF orientation: (quarter turns to the left, then mirrored left to right)
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}

# share of colour under which a change is not made good in full: it would blow up at the edge of a cutout
FAINT = 0.5
BLOCK = 1 << 20  # pixels that are computed at a time


@dataclass(frozen=True)
class Photo:
    """A photo that was read.

    rgb: uint8 (H, W, 3), sRGB, upright; what is transparent is laid on white. This is what the networks see.
    colours: uint8 (H, W, 3), the colours as stored, also where nothing of them shows; equal to rgb without
        alpha.
    alpha: uint8 (H, W), or None where the whole photo is opaque.
    format: of the file: "JPEG", "PNG", "HEIF" and so on. stem: its name without folder and ending.
    jpeg: how it was compressed, where it is a JPEG.
    """

    rgb: npt.NDArray[np.uint8]
    colours: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.uint8] | None = None
    format: str = ""
    stem: str = "photo"
    jpeg: JpegSettings | None = None

    def cut_out(self, edited: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """An edit of `rgb` with the photo's own transparency.

        Args:
            edited: RGB uint8 (H, W, 3).

        Returns:
            `edited` itself for an opaque photo, else RGBA uint8 (H, W, 4). Where alpha is 0 the pixels are
            the photo's.
        """
        if self.alpha is None:
            return edited
        out = np.dstack([self.colours, self.alpha])
        for rows in _blocks(self.alpha):
            alpha = self.alpha[rows][..., None].astype(np.float32) / 255
            change = edited[rows].astype(np.float32) - self.rgb[rows]  # as it shows on white
            changed = self.colours[rows] + change / np.maximum(alpha, FAINT)
            out[rows][..., :3] = np.where(alpha > 0, np.clip(np.rint(changed), 0, 255), self.colours[rows])
        return out


def open_photo(source: PictureSource) -> Photo:
    """Read a picture with what is needed to write its edit in its own way (`picture_files.encode_like`).

    It is decoded in a process of its own, with limits of pixels, memory and time; call it outside of any
    lock.

    Args:
        source: path, file content, or a PIL image. Any mode (grey, CMYK, 16 and 32 bit, fractions, palette,
            with alpha or without), any colour profile, any EXIF turn.

    Raises:
        AgeEditError: one sentence: not a picture, damaged, animated, too large, too narrow, or too slow to
            decode.
    """
    name, stem = _names(source)
    try:
        decoded = _decode(source)
    except RefusedError as error:
        raise AgeEditError(_sentence(error, name)) from None
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise AgeEditError(f"There is no picture at {source}; check the path.") from None
    except PermissionError:
        raise AgeEditError(f"{name} may not be read; check its permissions.") from None
    except (OSError, ValueError):  # a name that no file can have
        raise AgeEditError("There is no picture of that name; check the path.") from None
    header = decoded.header
    colours = _turned(decoded.colours, header.orientation)
    alpha = None if decoded.alpha is None else _turned(decoded.alpha, header.orientation)
    jpeg = None if header.tables is None else JpegSettings(header.tables, header.subsampling)
    rgb = colours if alpha is None else _on_white(colours, alpha)
    return Photo(rgb, colours, alpha, header.format, stem, jpeg)


def load_photo(source: PictureSource) -> npt.NDArray[np.uint8]:
    """`open_photo(source).rgb`: RGB uint8 (H, W, 3), in sRGB, upright, on white. Raises AgeEditError."""
    return open_photo(source).rgb


def _names(source: PictureSource) -> tuple[str, str]:
    """What a sentence calls the picture, and what its edits are named after."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return re.sub(r"\s", " ", path.name) or str(source), path.stem
    return "The picture", "photo"


def _decode(source: PictureSource) -> decoder.Decoded:
    if isinstance(source, Image.Image):
        return decoder.decode_here(source)
    if isinstance(source, bytes):
        return decoder.shared().decode(source)
    path = os.path.abspath(source)
    if not is_file(path):
        raise FileNotFoundError
    open(path, "rb").close()  # says itself why it cannot be read
    return decoder.shared().decode(path)


def _sentence(error: RefusedError, name: str) -> str:
    reason = error.reason
    if reason == "pixels" and error.values["megapixels"] is None:
        reason = "many pixels"
    values = {"limit": MAX_PIXELS // 1_000_000, "ratio": MAX_RATIO} | error.values
    return REASONS[reason].format(name=name, **values)


def _turned(picture: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    quarters, mirrored = TURNS.get(orientation, (0, False))
    picture = np.rot90(picture, quarters)
    return np.ascontiguousarray(picture[:, ::-1] if mirrored else picture)


def _on_white(colours: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    out = np.empty_like(colours)
    for rows in _blocks(alpha):
        share = alpha[rows][..., None].astype(np.uint16)
        out[rows] = (colours[rows] * share + 255 * (255 - share) + 127) // 255
    return out


def _blocks(plane: npt.NDArray[np.uint8]) -> list[slice]:
    step = max(1, BLOCK // plane.shape[1])
    return [slice(top, top + step) for top in range(0, plane.shape[0], step)]
