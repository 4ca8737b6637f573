"""The command `edit` for many photos: a folder of edits, a line for each, and an exit status that tells."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from tqdm import tqdm

from agedit.batch.choices import (
    PIPE,
    Choices,
    check_one_of_both,
    choose_submodel,
    face_number,
    named_submodel,
    read_pipe,
)
from agedit.batch.inputs import list_photos, name_outputs, take_shard
from agedit.batch.one import Asked, summary
from agedit.batch.run import Outcome, Run, Task
from agedit.commands import BAD_INPUT_STATUS
from agedit.editor import AgeEditor
from agedit.engine import Engine
from agedit.errors import AgeEditError
from agedit.photo import FORMATS
from agedit.runtime.host import one_heap, usable_cores

SOME_FAILED_STATUS = 1
"""Exit status where some photos have no edit and the others do, as of ls."""

INTERRUPTED_STATUS = 130
"""As of a shell."""


def edit_many(photos: Sequence[str], output: str, choices: Choices) -> None:
    """Edit them all, tell of each, and leave with the exit status."""
    check_one_of_both(choices)
    face = face_number(choices.face)
    folder = _check_folder(output)
    listing = list_photos(photos)
    tasks = _tasks(listing.photos, folder, choices)
    tasks = [tasks[photo] for photo in take_shard(list(tasks), choices.shard)]
    told = Told(len(tasks), choices.as_json)
    for asked_for, reason in listing.failed:
        told.failed(asked_for, reason)
    if tasks:
        one_heap()
        shared = _shared_engine(choices, len(tasks))
        for years in choices.years:
            shared.weights.calibration.check(years)
        asked = _asked(shared, face, choices)
        _make_folder(folder)
        try:
            Run(shared, asked, choices.resume).edit(tasks, told.outcome)
        except KeyboardInterrupt:
            told.end()
            click.echo("Interrupted; the same command with --resume goes on from here.", err=True)
            click.get_current_context().exit(INTERRUPTED_STATUS)
    told.end()
    click.get_current_context().exit(told.status)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AgeEditError(f"The folder {folder} cannot be made ({reason}); choose another.") from None


def _check_folder(output: str) -> Path:
    """The folder that -o names, which need not exist. Raises AgeEditError for a file, and for a picture."""
    folder = Path(output)
    if output == PIPE or (not folder.is_dir() and (folder.exists() or folder.suffix.lower() in FORMATS)):
        raise AgeEditError(f"{output} is no folder; of several edits, -o names the folder that they go to.")
    return folder


def _tasks(photos: Sequence[str], folder: Path, choices: Choices) -> dict[str, Task]:
    """{photo: its task}. Raises AgeEditError where an edit would be written over one of the photos.

    With --resume such a photo is taken for the edit that it is called.
    """
    places = {_place(photo): photo for photo in photos if photo != PIPE}
    tasks = {}
    edits = set()
    for photo, names in name_outputs(photos, choices.years).items():
        outputs = {years: folder / name for years, name in names.items()}
        for path in outputs.values():
            covered = places.get(_place(path))
            if covered is not None and not choices.resume:
                raise AgeEditError(
                    f"{path} is one of the photos; choose another folder, so that it is not lost."
                )
            edits.add(covered)
        tasks[photo] = Task(photo, read_pipe() if photo == PIPE else photo, outputs)
    return {photo: task for photo, task in tasks.items() if photo not in edits}


def _place(path: str | os.PathLike[str]) -> object:
    """What is equal for two paths to one file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.abspath(path)
    return found.st_dev, found.st_ino


def _shared_engine(choices: Choices, photos: int) -> Engine:
    """An engine for as many workers as are asked for and needed, each with its share of the cores."""
    cores = usable_cores()
    workers = min(choices.jobs or cores, photos)
    return Engine(threads=max(1, cores // workers), workers=workers)


def _asked(shared: Engine, face: int | Literal["all"], choices: Choices) -> Asked:
    """What is done to each photo, its sub-model chosen for the budget once."""
    submodel = named_submodel(shared, choices)
    if choices.budget is not None:
        editor = AgeEditor(shared)
        for note in choose_submodel(editor, choices.budget):
            click.echo(note, err=True)
        submodel = editor.submodel
    return Asked(face, choices.strict, submodel)


class Told:
    """What the terminal is told of many photos: a line for each edit, one for each that failed, and a bar.

    Args:
        photos: how many there are.
        as_json: an object a line, on standard output, for all of it.
    """

    def __init__(self, photos: int, as_json: bool) -> None:
        self.as_json = as_json
        self.counts = {"written": 0, "skipped": 0, "failed": 0}
        # without a terminal there is no bar
        self.bar = tqdm(total=photos, unit="photo", file=sys.stderr, disable=None if photos else True)

    @property
    def status(self) -> int:
        """The exit status."""
        if not self.counts["failed"]:
            return 0
        done = self.counts["written"] + self.counts["skipped"]
        return SOME_FAILED_STATUS if done else BAD_INPUT_STATUS

    def outcome(self, outcome: Outcome) -> None:
        """One photo is through."""
        photo = outcome.task.photo
        self.counts[outcome.kind] += outcome.kind != "failed"
        for data in outcome.lines:
            self._line({"photo": photo, **data}, data)
        if outcome.kind == "skipped" and self.as_json:
            for path in outcome.task.outputs.values():
                self._line({"photo": photo, "output": os.fspath(path), "skipped": True})
        if outcome.kind == "failed":
            self.failed(photo, outcome.reason)
        self.bar.update()

    def failed(self, photo: str, reason: str) -> None:
        """One photo has no edit, or one that was asked for is none."""
        self.counts["failed"] += 1
        if self.as_json:
            self._line({"photo": photo, "error": reason})
        else:
            with self.bar.external_write_mode(file=sys.stderr):
                click.echo(one_line(f"agedit: {photo}: {reason}"), err=True)

    def end(self) -> None:
        """Take the bar away and sum up."""
        self.bar.close()
        if not self.as_json:
            click.echo(", ".join(f"{count} {kind}" for kind, count in self.counts.items() if count), err=True)

    def _line(self, row: dict[str, Any], data: dict[str, Any] | None = None) -> None:
        with self.bar.external_write_mode(file=sys.stdout):
            if self.as_json:
                click.echo(json.dumps(row))
            elif data:
                click.echo("\n".join(map(one_line, [summary(data), *data["notes"]])))


def one_line(text: str) -> str:
    """The text with what would end its line or move a cursor, as a file's name may, written as numbers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
