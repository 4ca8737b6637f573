"""Files in and out over HTTP: the door for uploads, and what is handed out of the folders that are ours.

An upload is held in memory until all of it is here, and then gets a random name: nothing of an upload that
breaks off, and nothing of what the visitor calls the photo, reaches the disk or an address.
"""

import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from ui.security.limits import UPLOAD_BYTES
from ui.security.refusal import RefusalError

FILES_AT_ONCE = 4
"""Most files in one form."""

FOLDER_BYTES = 2 << 30
"""Largest size of all uploads together, bytes; what is over an hour old is deleted anyway."""

# endings that are kept, and how a file that ends so is shown: nothing here can hold a script
SHOWN = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
SAVED = {".json": "application/json", ".csv": "text/csv; charset=utf-8"}
TAKEN = frozenset(SHOWN) | {".tif", ".tiff", ".heic", ".heif", ".json"}
OTHER = "application/octet-stream"
NAME = re.compile(r"[0-9a-f]{32}\.[a-z0-9]{2,5}")
"""What an upload is called here."""

Roots = Callable[[], Iterable[Path]]


class _InMemory(MultiPartParser):
    """Starlette's parser; no file is put on the disk while it arrives."""

    spool_max_size = UPLOAD_BYTES + 1


def ending(name: str | None) -> str:
    """A file name's ending if it is one that we know, else '.bin'."""
    suffix = Path(name or "").suffix.lower()
    return suffix if suffix in TAKEN else ".bin"


async def take(scope: Scope, receive: Receive, send: Send, folder: Path, kept: Callable[[str], None]) -> None:
    """Take a form's files into `folder` and answer with their paths, in order. kept: told of each path."""
    request = Request(scope, receive)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RefusalError(415)
    try:
        form = await _InMemory(
            request.headers, request.stream(), max_files=FILES_AT_ONCE, max_fields=0
        ).parse()
    except (MultiPartException, KeyError, ValueError):
        raise RefusalError(
            400, "This upload was not understood; send one photo as a form with the field 'files'."
        ) from None
    except ClientDisconnect:
        return
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    try:
        if not files:
            raise RefusalError(
                400, "This upload holds no file; send one photo as a form with the field 'files'."
            )
        paths = [await anyio.to_thread.run_sync(_store, file, folder) for file in files]
    finally:
        await form.close()
    for path in paths:
        kept(path)
    await JSONResponse(paths)(scope, receive, send)


def _store(file: UploadFile, folder: Path) -> str:
    """Path of the upload, under a name of our own."""
    place = folder / secrets.token_hex(16)
    try:
        if _size(folder) + (file.size or 0) > FOLDER_BYTES:
            raise RefusalError(507)
        place.mkdir(parents=True, mode=0o700)
        path = place / (secrets.token_hex(16) + ending(file.filename))
        with path.open("wb") as out:
            shutil.copyfileobj(file.file, out, 1 << 20)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)
        raise RefusalError(507) from None
    return str(path)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # deleted meanwhile
            continue
    return total


def locate(named: str, roots: Iterable[Path]) -> Path | None:
    """The file of that name if it is one of ours: an absolute path, links followed, inside one of `roots`."""
    if not named.startswith("/") and not re.match(r"[A-Za-z]:[\\/]", named):
        return None
    if "\x00" in named or "://" in named:
        return None
    try:
        path = Path(named).resolve(strict=True)
        inside = any(path.is_relative_to(root) for root in roots)
        return path if inside and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # missing, a loop of links, a name too long
        return None


async def give(scope: Scope, receive: Receive, send: Send, roots: Roots) -> None:
    """Hand out one of our own files, as a picture or a film, or else to be saved; never as a page."""
    path = locate(scope["path"].partition("=")[2], roots())
    if path is None:
        raise RefusalError(404)
    kind = SHOWN.get(path.suffix.lower())
    headers = {"content-disposition": "inline"}
    if kind is None:
        kind = SAVED.get(path.suffix.lower(), OTHER)
        headers = {"content-disposition": f"attachment; filename*=utf-8''{quote(path.name, safe='')}"}
    await FileResponse(path, headers=headers, media_type=kind)(scope, receive, send)


async def progress(scope: Scope, receive: Receive, send: Send) -> None:
    """How far an upload is: to a server on the same machine it is done before anybody could read the
    answer.
    """
    await StreamingResponse(iter(['data: {"msg": "done"}\n\n']), media_type="text/event-stream")(
        scope, receive, send
    )
