"""One face through all ages: a strip to print and a film to send."""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from agedit.align import align
from agedit.credentials import add_credentials
from agedit.errors import AgeEditError
from agedit.mark import TEXT, is_whole_mp4, mark_gif, mark_mp4, stamp

FRAMES_A_SECOND = 12
PROBE = bytes(4096)
LABEL = 34  # pixels under a picture of the strip


def journey(editor, face=0, submodel=None, stops=7, between=8, size=384):
    """Yield (done, all, years, crop) along the whole range of years, youngest first; stop asking to cancel.

    Args:
        stops: pictures of the strip. between: steps of the film from one stop to the next.
        crop: RGB uint8 (size, size, 3), the aligned face with the change added at that size.
    """
    low, high = editor.engine.weights.years_range
    every = np.linspace(low, high, (stops - 1) * between + 1)
    every[np.argmin(np.abs(every))] = 0.0  # the person as they are is part of it
    prepared = editor.prepare(face)
    base = align(editor.rgb, prepared.face, size)
    for k, years in enumerate(every):
        crop = prepared.shown(base, editor.change(years, face, submodel)) if years else base.copy()
        yield k + 1, len(every), float(years), crop


def strip(frames, stops=7, gap=6):
    """The strip of `stops` pictures out of [(years, crop)]: RGB uint8, one row.

    Under each its years, and that it was edited.
    """
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, stops)]
    cells = []
    for years, crop in chosen:
        cells += [_labelled(crop, years), np.full((crop.shape[0] + LABEL, gap, 3), 255, np.uint8)]
    return np.hstack(cells[:-1])


def _labelled(crop: npt.NDArray[np.uint8], years: float) -> npt.NDArray[np.uint8]:
    size = crop.shape[0]
    cell = np.full((size + LABEL, size, 3), 255, np.uint8)
    cell[:size] = crop
    text = "photo" if years == 0 else f"{years:+.0f} years, {TEXT}"
    scale = 0.7
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    if width > size - 4:  # a small strip
        scale *= (size - 4) / width
        width = size - 4
    at = (size - width) // 2, size + 25
    cv2.putText(cell, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)
    return cell


@contextlib.contextmanager
def _whole_or_not(path: str | os.PathLike[str]) -> Iterator[None]:
    """Nothing is left of a film that could not be written to its end, and a sentence says so."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise AgeEditError("The film could not be written; free some space and try again.") from None


def write_gif(path: str | os.PathLike[str], pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
    """There and back again, for ever, marked as synthetic.

    Args:
        pictures: RGB uint8, all of one size.

    Raises:
        AgeEditError: it could not be written; nothing of it is left.
    """
    with _whole_or_not(path):
        _write_gif(path, pictures)


def _write_gif(path: str | os.PathLike[str], pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
    there = [
        Image.fromarray(stamp(p)).convert("P", palette=Image.Palette.ADAPTIVE, colors=128) for p in pictures
    ]
    there[0].save(
        path,
        save_all=True,
        append_images=there[1:] + there[-2:0:-1],
        duration=1000 // FRAMES_A_SECOND,
        loop=0,
        optimize=False,
    )
    mark_gif(path)
    _sign(path, "GIF")


def write_mp4(path: str | os.PathLike[str], pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
    """There and back again, marked as synthetic.

    VP9 in MP4: the one free codec that browsers play and OpenCV brings along.

    Args:
        pictures: RGB uint8, all of one size.

    Raises:
        AgeEditError: it could not be written, or OpenCV has no such codec; nothing of it is left.
    """
    with _whole_or_not(path):
        Path(path).write_bytes(PROBE)  # fails where nothing can be written, which OpenCV would not say
        _write_mp4(path, pictures)


def _write_mp4(path: str | os.PathLike[str], pictures: Sequence[npt.NDArray[np.uint8]]) -> None:
    height, width = pictures[0].shape[:2]
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    writer = cv2.VideoWriter(
        os.fspath(path), cv2.VideoWriter.fourcc(*"vp09"), FRAMES_A_SECOND, (width, height)
    )
    if not writer.isOpened():
        raise AgeEditError("This OpenCV cannot write VP9 films; save the GIF instead.")
    for p in [*pictures, *pictures[-2:0:-1]]:
        writer.write(np.ascontiguousarray(stamp(p)[:, :, ::-1]))
    writer.release()
    if not is_whole_mp4(path):  # nor does it say that the disk is full
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    mark_mp4(path)
    _sign(path, "MP4")


def _sign(path: str | os.PathLike[str], format: str) -> None:
    file = Path(path)
    file.write_bytes(add_credentials(file.read_bytes(), format))
