"""Files that visits put on the page, and their end: when newer ones follow, and when the page is closed."""

import atexit
import functools
import shutil
import tempfile
import threading
import time
import weakref
from collections import deque
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

KEPT = 8  # versions of a picture that a slow browser may still fetch
GRACE = 10  # seconds: a page that lost its connection may come back, or be a reload


@functools.lru_cache(maxsize=1)
def root():
    """Folder of all visits of this process. Gradio serves it as it is, without copies: what is deleted here is gone."""
    folder = Path(tempfile.mkdtemp(prefix="agedit-")).resolve()
    atexit.register(shutil.rmtree, folder, True)
    gr.set_static_paths([folder])
    return folder


class Files:
    """The files of one visit; deleted with it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(dir=root()))
        self.versions, self.lasting = {}, {}
        weakref.finalize(self, shutil.rmtree, self.folder, True)

    def write(self, data, name, kind=None, kept=KEPT):
        """Path of a new file, at an address of its own, so that no browser shows an older one; the last `kept` of a kind stay."""
        versions = self.versions.setdefault(kind or name, deque())
        self.folder.mkdir(parents=True, exist_ok=True)  # deleted when the page was away; now it is back
        path = Path(tempfile.mkdtemp(dir=self.folder)) / name
        path.write_bytes(data)
        versions.append(path)
        while len(versions) > kept:
            shutil.rmtree(versions.popleft().parent, ignore_errors=True)
        return str(path)

    def once(self, name, make):
        """Path of a file that stays the same; make() gives its bytes when it is not there."""
        path = self.lasting.get(name)
        if path is None or not Path(path).exists():
            path = self.lasting[name] = self.write(make(), name)
        return path

    def delete(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """Whose uploads and visits are whose, so that a closed page leaves nothing behind."""

    def __init__(self):
        self._gate, self._uploads, self._visits = threading.Lock(), {}, {}

    def uploaded(self, session, path):
        with self._gate:
            self._uploads.setdefault(session, set()).add(Path(path).resolve())

    def shows(self, session, visit):
        """visit: what has a `delete`, to be called when the page was closed."""
        with self._gate:
            self._visits.setdefault(session, weakref.WeakSet()).add(visit)

    def leave(self, session):
        """The page was closed: in GRACE seconds its uploads, and what was made of them, are deleted."""
        timer = threading.Timer(GRACE, self._end, [session, time.time()])
        timer.daemon = True
        timer.start()

    def _end(self, session, left):
        with self._gate:
            uploads, visits = self._uploads.pop(session, set()), list(self._visits.pop(session, ()))
            used = set().union(*self._uploads.values())  # the same picture has the same path for everyone
        for visit in visits:
            visit.delete()
        folder = Path(get_upload_folder()).resolve()
        for path in uploads - used:
            try:
                if path.is_relative_to(folder) and path.stat().st_ctime < left:
                    path.unlink()
            except OSError:
                continue
