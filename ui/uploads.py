"""Uploads: received whole or not at all, under names that say nothing of the visitor."""

import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from gradio import route_utils, routes
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ui.files import sessions

MOST_FILES = 16  # in one request; the page sends one
FULL = "The disk is full; free some space and try again."


class Parser(route_utils.GradioMultiPartParser):
    """Gradio's parser, which leaves its temporary files behind when a visitor goes away in the middle."""

    def discard(self) -> None:
        """Delete every temporary file that was not moved away under a name of its own."""
        for file in self._files_to_close_on_error:
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                os.unlink(file.name)


def neutral_name(name: str | None) -> str:
    """ "photo" with the file's ending, which decides what the browser takes it for."""
    ending = Path(name or "").suffix.lower()
    known = 1 < len(ending) <= 6 and ending[1:].isascii() and ending[1:].isalnum()
    return "photo" + (ending if known else "")


def _place(file: Any, folder: Path) -> str:
    """Move a received file to an address that nobody can guess; its path."""
    if not isinstance(file, route_utils.GradioUploadFile):
        raise HTTPException(400, "A file was expected.")
    home = folder / hashlib.sha256(secrets.token_bytes(32)).hexdigest()
    home.mkdir(mode=0o700)
    path = home / neutral_name(file.filename)
    file.file.close()
    os.rename(file.file.name, path)
    return str(path)


async def receive(
    request: Request,
    upload_dir: str,
    max_file_size: int | float,
    upload_id: str | None,
    force_move: bool = True,
    upload_progress: route_utils.FileUploadProgress | None = None,
) -> tuple[list[str], list[str], list[str]]:
    """In place of `gradio.routes.upload_fn`: the new paths; nothing is left to be moved later."""
    kind, _ = route_utils.parse_options_header(request.headers.get("Content-Type") or "")
    if kind != b"multipart/form-data":
        raise HTTPException(400, "Invalid content type.")
    tracked = upload_progress if upload_id else None
    if tracked is not None and upload_id:
        tracked.track(upload_id)
    parser = Parser(
        request.headers,
        request.stream(),
        max_files=MOST_FILES,
        max_fields=MOST_FILES,
        upload_dir=upload_dir,
        max_file_size=max_file_size,
        upload_id=upload_id,
        upload_progress=tracked,
    )
    paths: list[str] = []
    try:
        Path(upload_dir).mkdir(exist_ok=True, parents=True)
        form = await parser.parse()
        for file in form.getlist("files"):
            paths.append(_place(file, Path(upload_dir)))
            sessions.received(paths[-1], by_a_page="origin" in request.headers)
    except BaseException as error:  # also when the request is cancelled: the visitor went away
        for path in paths:
            sessions.drop(path)
        if tracked is not None and upload_id:
            tracked.set_done(upload_id)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise route_utils.MultiPartException(FULL) from None
        raise
    finally:
        parser.discard()
    return paths, [], []


def install() -> None:
    """Let Gradio's upload route use `receive`."""
    if not callable(getattr(routes, "upload_fn", None)):
        raise RuntimeError("gradio.routes.upload_fn is gone: uploads would be kept when they are broken off.")
    routes.upload_fn = receive
