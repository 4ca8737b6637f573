"""Files that visits put on the page; deleted with the visit."""

import contextlib
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from gradio.data_classes import _StaticFiles

from agedit import AgeEditError
from ui import workspace
from ui.compat import DISK_FULL, is_disk_full

KEPT = 8
"""Versions of a picture that a slow browser may still fetch."""

STRAY = 3600.0
"""Seconds after which a temporary file that nobody is known to need is deleted."""

FORGOTTEN = "The page was closed and the photo was forgotten; choose it again."


class Forgotten(AgeEditError):  # noqa: N818  an end, not a fault
    """The visit has ended; nothing of it may come back."""

    def __init__(self) -> None:
        super().__init__(FORGOTTEN)


class Files:
    """The files of one visit; deleted with it, and none is written afterwards."""

    def __init__(self) -> None:
        self.folder = visits_folder() / secrets.token_hex(16)
        self.versions: dict[str, deque[Path]] = {}
        self.lasting: dict[str, str] = {}
        self._gate = threading.RLock()
        self._deleted = False

    def write(self, data: bytes, name: str, kind: str | None = None, kept: int = KEPT) -> str:
        """Path of a new file, at an address of its own, so that no browser shows an older one.

        The last `kept` of a kind stay.

        Raises:
            AgeEditError: the disk is full; Forgotten, after the end.
        """
        with self._gate:
            if self._deleted:
                raise Forgotten
            folder = self.folder / secrets.token_hex(16)
            path = folder / name
            try:
                self.folder.mkdir(mode=0o700, exist_ok=True)
                folder.mkdir(mode=0o700)
                path.write_bytes(data)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise AgeEditError(_why_not_written(error)) from None
            versions = self.versions.setdefault(kind or name, deque())
            versions.append(path)
            while len(versions) > kept:
                shutil.rmtree(versions.popleft().parent, ignore_errors=True)
        return str(path)

    def once(self, name: str, make: Callable[[], bytes]) -> str:
        """Path of a file that stays the same; make() gives its bytes when it is not there."""
        with self._gate:
            path = self.lasting.get(name)
            if path is None or not Path(path).exists():
                path = self.write(make(), name)
                self.lasting[name] = path
            return path

    def delete(self) -> None:
        """All of them; nothing is written afterwards."""
        with self._gate:
            self._deleted = True
            self.versions = {}
            self.lasting = {}
            shutil.rmtree(self.folder, ignore_errors=True)


def _why_not_written(error: OSError) -> str:
    if is_disk_full(error):
        return DISK_FULL
    return f"A temporary file could not be written ({error.strerror}); restart the program and try again."


def visits_folder() -> Path:
    """Gradio serves what is in here as it is, without copies: what is deleted here is gone."""
    folder = workspace.root() / workspace.VISITS
    if folder not in _StaticFiles.all_paths:
        gr.set_static_paths([folder])
    return folder


def remove(path: Path) -> None:
    """Delete a file or folder below this process's own folder. Never raises."""
    with contextlib.suppress(OSError, ValueError):
        if path.is_symlink() or not path.resolve().is_relative_to(workspace.root()):
            return
        if path.resolve() in (workspace.root(), *workspace.root().iterdir()):
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def purge(known: set[Path], older_than: float = STRAY) -> None:
    """Delete temporary files that no visit is known to need. Never raises."""
    limit = time.time() - older_than
    for name in (workspace.UPLOADS, workspace.SPOOL):
        with contextlib.suppress(OSError):
            for entry in list((workspace.root() / name).iterdir()):
                needed = any(path.is_relative_to(entry) for path in known)
                if not needed and entry.lstat().st_ctime < limit:
                    remove(entry)
