"""Edits of many photos, several at a time: threads over one engine, which share the weights."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2

from agedit.batch.choices import PIPE
from agedit.batch.one import Asked, edit_and_save
from agedit.editor import AgeEditor
from agedit.engine import Engine
from agedit.errors import AgeEditError
from agedit.photo import Photo, open_photo

MEGAPIXELS_A_WORKER = 13
"""Of decoded photos, for each worker; with more in memory no further one is opened. A phone's has 12."""

WRITTEN: Literal["written"] = "written"
SKIPPED: Literal["skipped"] = "skipped"
FAILED: Literal["failed"] = "failed"


@dataclass(frozen=True)
class Task:
    """One photo. source: its path, or the file's content. outputs: {years: path of the edit}."""

    photo: str
    source: str | bytes
    outputs: Mapping[float, Path]


@dataclass(frozen=True)
class Outcome:
    """What became of a photo.

    kind: WRITTEN, SKIPPED or FAILED. lines: data of each edit that was written (see `one.edit_and_save`).
    reason: why it failed, one sentence.
    """

    task: Task
    kind: Literal["written", "skipped", "failed"]
    lines: Sequence[dict[str, Any]] = ()
    reason: str = ""


class Stopped(Exception):  # noqa: N818  nothing is wrong
    """The run was interrupted before this photo's next step."""


class Room:
    """Keeps the photos in memory within bounds: a photo is opened when there is room, one at a time.

    Args:
        pixels: held by photos that are open, at which no further one is opened.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._change = threading.Condition()
        self._opening = threading.Lock()

    @contextlib.contextmanager
    def opened(self, source: str | bytes) -> Iterator[Photo]:
        """A photo, which counts until the end. Raises AgeEditError where it cannot be read."""
        with self._opening:
            with self._change:
                self._change.wait_for(lambda: self._held <= self.pixels)
            photo = open_photo(source)
            size = photo.rgb.shape[0] * photo.rgb.shape[1]
            with self._change:
                self._held += size
        try:
            yield photo
        finally:
            with self._change:
                self._held -= size
                self._change.notify_all()


class Run:
    """One command's photos.

    Args:
        engine: shared by all workers; it serves `engine.workers` of them at the same time.
        asked: what is done to each photo.
        resume: leave out edits that are there already and not older than their photo.
    """

    def __init__(self, engine: Engine, asked: Asked, resume: bool = False) -> None:
        self.engine = engine
        self.asked = asked
        self.resume = resume
        self._room = Room(MEGAPIXELS_A_WORKER * 1_000_000 * engine.workers)
        self._stop = threading.Event()

    def edit(self, tasks: Sequence[Task], tell: Callable[[Outcome], object]) -> None:
        """Edit them all.

        Args:
            tell: called in the caller's thread with each photo's outcome, as they come.

        Raises:
            KeyboardInterrupt: photos that were being worked on are left out; every edit that was written is
                whole.
        """
        threads_before = cv2.getNumThreads()
        if self.engine.workers > 1:
            cv2.setNumThreads(self.engine.cores)
        pool = ThreadPoolExecutor(self.engine.workers, thread_name_prefix="photo")
        try:
            futures: list[Future[Outcome]] = [pool.submit(self._outcome, task) for task in tasks]
            for future in as_completed(futures):
                tell(future.result())
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(threads_before)

    def _outcome(self, task: Task) -> Outcome:
        """Never raises but `Stopped`: what is wrong with one photo does not stop the others."""
        wanted = {years: path for years, path in task.outputs.items() if not self._is_there(task, path)}
        if not wanted:
            return Outcome(task, SKIPPED)
        lines: list[dict[str, Any]] = []
        try:
            self._edit_photo(task, wanted, lines)
        except Stopped:
            raise
        except AgeEditError as error:
            return Outcome(task, FAILED, lines, str(error))
        except MemoryError:
            return Outcome(task, FAILED, lines, "There is not enough memory for it; shrink it and try again.")
        except Exception as error:  # a library's; the other photos go on
            words = " ".join(str(error).split()) or type(error).__name__
            return Outcome(task, FAILED, lines, f"It could not be edited ({words}).")
        return Outcome(task, WRITTEN, lines)

    def _edit_photo(self, task: Task, wanted: Mapping[float, Path], lines: list[dict[str, Any]]) -> None:
        self._go_on()
        editor = AgeEditor(self.engine, self.asked.submodel)
        with self._room.opened(task.source) as photo:
            self._go_on()
            editor.set_photo(photo.rgb)
            for years, path in wanted.items():
                self._go_on()
                lines.append(edit_and_save(editor, photo, years, path, self.asked))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _is_there(self, task: Task, path: Path) -> bool:
        """Whether an edit of the photo as it is now was written before; writing is all or nothing."""
        if not self.resume:
            return False
        try:
            written = path.stat().st_mtime_ns
            return task.photo == PIPE or os.stat(task.photo).st_mtime_ns <= written
        except OSError:
            return False
