"""Which uploads and visits belong to which page, and the end of both when the page is closed."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from typing import Protocol

from agedit import AgeEditError
from ui.files import STRAY, Forgotten, purge, remove

GRACE = 8.0
"""Seconds in which a page that lost its connection may come back."""

UNCLAIMED = 15.0
"""Seconds after which an upload by a page that asked for nothing is deleted."""

CALL = 120.0
"""Seconds that a program without an open session has to use its upload and fetch its results."""

REMEMBERED = 10_000
"""Sessions that are known to have ended."""

CHECKS_EVERY = 1.0
"""Seconds."""

NOT_UPLOADED = "That picture was not uploaded here; upload it and try again."


class Deletable(Protocol):
    """What is deleted with a session."""

    def delete(self) -> None:
        """Nothing of it stays."""
        ...


class VisitOfPath(Deletable, Protocol):
    """A visit, as far as sessions know it."""

    @property
    def path(self) -> str | Path:
        """Of its upload."""
        ...

    @property
    def token(self) -> str:
        """Names it to the page that shows it, and to nobody else."""
        ...


@dataclass
class _Session:
    """One open page, or one program that calls."""

    seen: float
    """When its last connection ended; without any, when it was last active. Seconds of the clock."""
    connections: int = 0
    was_connected: bool = False
    patience: float = GRACE
    """Seconds that it may be without a connection."""
    opening: int = 0
    """How many photos were chosen; only the last one's visit is shown."""
    visit: VisitOfPath | None = None
    kept: list[Deletable] = field(default_factory=list)
    """What else is deleted with it."""
    uploads: set[Path] = field(default_factory=set)


@dataclass
class _Upload:
    """An upload and the session that it belongs to, None before anybody asked for it."""

    received: float
    """When, in seconds of the clock."""
    patience: float
    """Seconds that it may wait for somebody to ask for it."""
    owner: str | None = None


def _nothing_waits(_path: str) -> bool:
    return False


class Sessions:
    """Whose uploads and visits are whose, so that a closed page leaves nothing behind.

    A page is open while it holds the connection that `ui.presence` watches, and `GRACE` seconds longer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._gate = threading.RLock()
        self._open: dict[str, _Session] = {}
        self._uploads: dict[Path, _Upload] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._cleaner: threading.Thread | None = None
        self.wanted: Callable[[str], bool] = _nothing_waits  # whether a call that waits names this upload
        self.after_checks: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._open)

    @property
    def uploads(self) -> list[Path]:
        """Paths that are known."""
        return list(self._uploads)

    # who is there

    def connected(self, session: str) -> None:
        """A page holds a connection open, or one more."""
        with self._gate:
            self._ended.pop(session, None)
            mine = self._of(session)
            mine.connections += 1
            mine.was_connected = True
            mine.patience = GRACE

    def disconnected(self, session: str) -> None:
        """One of a page's connections ended."""
        with self._gate:
            if session in self._open:
                mine = self._open[session]
                mine.connections = max(0, mine.connections - 1)
                mine.seen = self._clock()

    def is_open(self, session: str) -> bool:
        """Whether the page is there, or may still come back."""
        with self._gate:
            mine = self._open.get(session)
            return mine is not None and self._is_alive(mine)

    def has_ended(self, session: str) -> bool:
        """Whether the page was there and is gone."""
        with self._gate:
            return session in self._ended

    def _is_alive(self, mine: _Session) -> bool:
        return mine.connections > 0 or self._clock() - mine.seen < mine.patience

    def _of(self, session: str) -> _Session:
        if session in self._ended:
            raise Forgotten
        if session not in self._open:
            self._open[session] = _Session(self._clock())
        mine = self._open[session]
        if not mine.was_connected:  # a handler that comes back late makes no closed page live longer
            mine.seen = self._clock()
        self._start()
        return mine

    # uploads

    def received(self, path: str | Path, by_a_page: bool = True) -> None:
        """An upload is there; whose it is shows when it is asked for."""
        with self._gate:
            self._uploads[Path(path)] = _Upload(self._clock(), UNCLAIMED if by_a_page else CALL)
            self._start()

    def claim(self, session: str, path: str | Path) -> Path:
        """The upload at `path`, from now on this session's. Raises AgeEditError for any other path."""
        with self._gate:
            mine = self._of(session)
            found = self._uploads.get(Path(path))
            if found is None or found.owner not in (None, session):
                raise AgeEditError(NOT_UPLOADED)
            mine.uploads.add(Path(path))
            found.owner = session
            return Path(path)

    def drop(self, path: str | Path) -> None:
        """Delete one upload. Never raises, and touches nothing but uploads."""
        with self._gate:
            known = self._uploads.pop(Path(path), None)
            if known is not None and known.owner in self._open:
                self._open[known.owner].uploads.discard(Path(path))
        if known is not None:
            remove(Path(path).parent)  # a folder of its own, made by `ui.uploads`

    # visits

    def chooses(self, session: str) -> int:
        """Another photo was chosen, or none: what was made of the one before goes, what computes stops.

        Returns a number for `shows`. Raises Forgotten if the page was closed.
        """
        with self._gate:
            mine = self._of(session)
            mine.opening += 1
            number = mine.opening
            before = mine.visit
            mine.visit = None
        if before is not None:
            before.delete()
            self.drop(before.path)
        return number

    def shows(self, session: str, visit: VisitOfPath, number: int) -> bool:
        """From now on the page shows `visit`; False if another photo was chosen meanwhile, which deletes it.

        number: from `chooses`. Raises Forgotten if the page was closed.
        """
        with self._gate:
            mine = self._open.get(session)
            if mine is not None and mine.opening == number:
                self._of(session).visit = visit
                return True
        visit.delete()
        self.drop(visit.path)
        if mine is None:
            raise Forgotten
        return False

    def keep(self, session: str, what: Deletable) -> None:
        """Results of a call: deleted with its session, or some time after a call without one."""
        with self._gate:
            try:
                mine = self._of(session)
            except Forgotten:
                what.delete()
                raise
            if not mine.was_connected:
                mine.patience = CALL
            mine.kept.append(what)

    def has_chosen(self, session: str) -> bool:
        """Whether a photo was chosen on this page."""
        with self._gate:
            mine = self._open.get(session)
            return mine is not None and mine.opening > 0

    def take_over(self, session: str, token: str) -> VisitOfPath | None:
        """A page was loaded again: the visit of that name is its own from now on, with its upload.

        None where there is none any more. Raises Forgotten if the page was closed.
        """
        with self._gate:
            mine = self._of(session)
            for other in self._open.values():
                visit = other.visit
                if visit is None or other is mine or not compare_digest(visit.token.encode(), token.encode()):
                    continue
                other.visit = None
                mine.visit = visit
                mine.opening += 1
                path = Path(visit.path)
                if path in other.uploads:
                    other.uploads.discard(path)
                    mine.uploads.add(path)
                    self._uploads[path].owner = session
                return visit
        return None

    def anybody(self) -> bool:
        """Whether a page is open."""
        with self._gate:
            return any(mine.connections > 0 for mine in self._open.values())

    # the end

    def check(self) -> None:
        """Delete what belongs to nobody any more. Never raises: one file that stays stops nothing."""
        with self._gate:
            ended = [session for session, mine in self._open.items() if not self._is_alive(mine)]
        for session in ended:
            with contextlib.suppress(Exception):
                self._end(session)
        now = self._clock()
        with self._gate:
            due = [
                path
                for path, upload in self._uploads.items()
                if upload.owner is None and now - upload.received > upload.patience
            ]
        for path in due:
            if not self.wanted(str(path)):
                self.drop(path)
        for call in self.after_checks:
            with contextlib.suppress(Exception):
                call()

    def _end(self, session: str) -> None:
        with self._gate:
            mine = self._open.pop(session)
            self._ended[session] = None
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        for what in (mine.visit, *mine.kept):
            if what is not None:
                with contextlib.suppress(Exception):
                    what.delete()
        for path in mine.uploads:
            self.drop(path)

    def _start(self) -> None:
        """The thread that checks, at the first thing that there is to check."""
        if self._cleaner is None and self._clock is time.monotonic:
            self._cleaner = threading.Thread(target=self._clean, daemon=True, name="cleaner")
            self._cleaner.start()

    def _clean(self) -> None:
        next_purge = 0.0
        while True:
            time.sleep(CHECKS_EVERY)
            self.check()
            if time.monotonic() > next_purge:
                next_purge = time.monotonic() + STRAY / 4
                purge(set(self.uploads))


sessions = Sessions()
"""The sessions of this process."""
