"""One temporary folder for everything of this process, and the end of what dead processes left.

<temporary folder>/agedit-<random>/    mode 0700, this user's
    in-use      locked for as long as the process lives; the system lets go of it whatever ends the process
    uploads/    what visitors sent
    visits/     what the page shows them
    spool/      temporary files of every library
"""

import atexit
import contextlib
import functools
import os
import shutil
import stat
import tempfile
from pathlib import Path

from agedit import AgeEditError

try:
    import fcntl
except ImportError:  # Windows: a file that somebody holds open cannot be deleted there, which tells as much
    fcntl = None

PREFIX = "agedit-"
LOCK = "in-use"
UPLOADS = "uploads"
VISITS = "visits"
SPOOL = "spool"

_held: list[int] = []  # descriptors of lock files, open for as long as the process lives


def base() -> Path:
    """The folder for temporary folders that the user or the system names."""
    try:
        return Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    except OSError:
        raise AgeEditError(
            "There is no temporary folder that can be written; name one with TMPDIR and start again."
        ) from None


def make(parent: Path) -> Path:
    """A new folder of ours in `parent`, locked, with its sub-folders. Raises AgeEditError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            if _hold(folder / LOCK):
                break  # otherwise another instance, just starting, took it for a dead one's
        for name in (UPLOADS, VISITS, SPOOL):
            (folder / name).mkdir(mode=0o700)
    except OSError as error:
        raise AgeEditError(
            f"The temporary folder cannot be written ({error.strerror}); "
            "free some space, or name another with TMPDIR, and start again."
        ) from None
    return folder


def _hold(lock: Path) -> bool:
    """Make the lock file and keep it locked. False when somebody else was quicker."""
    descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(lock)  # fails where another instance's sweep deleted the file before it was locked
        except OSError:
            os.close(descriptor)
            return False
    _held.append(descriptor)
    return True


def sweep(parent: Path) -> list[Path]:
    """Delete what dead processes of this user left in `parent`; returns what was deleted. Never raises."""
    swept = []
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if _is_ours(entry) and _claim_dead(Path(entry.path)):
                shutil.rmtree(entry.path, ignore_errors=True)  # follows no link
                swept.append(Path(entry.path))
    return swept


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """A real folder with our prefix that belongs to this user."""
    try:
        if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
            return False
        return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False


def _claim_dead(folder: Path) -> bool:
    """Remove the lock file of a folder if nobody holds it; True where the caller may delete the folder.

    A folder without a lock file was not made here.
    """
    lock = folder / LOCK
    try:
        if not stat.S_ISREG(lock.lstat().st_mode):
            return False
        if fcntl is None:
            lock.unlink()
            return True
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that it is gone
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


@functools.lru_cache(maxsize=1)
def root() -> Path:
    """This process's folder, made on first use and deleted at its end."""
    folder = make(base())
    atexit.register(shutil.rmtree, folder, True)
    return folder


def move_in() -> Path:
    """Before the server starts: sweep, and make this process's folder that of every library's files."""
    parent = root().parent
    sweep(parent)
    os.environ["GRADIO_TEMP_DIR"] = str(root() / UPLOADS)
    os.environ["TMPDIR"] = str(root() / SPOOL)  # for processes that are started from here
    tempfile.tempdir = str(root() / SPOOL)
    return root()
