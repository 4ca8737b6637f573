"""The command `edit`: one photo, a pipe, or many photos into a folder."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from agedit.batch.choices import (
    PIPE,
    Choices,
    check_one_of_both,
    choose_submodel,
    face_number,
    named_submodel,
    read_pipe,
    refuse_terminal,
)
from agedit.clock import milliseconds_since
from agedit.commands import engine, report
from agedit.errors import AgeEditError

if TYPE_CHECKING:
    from agedit.editor import AgeEditor
    from agedit.photo import Photo

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


class YearsList(click.ParamType):
    """A number, or several with commas between them: a tuple of floats."""

    name = "years"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails for what is no number."""
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number of years.", param, ctx)


class SeveralYears(click.Command):
    """A command whose --years takes all numbers that follow it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each further number an option of its own, which is all that click knows."""
        return super().parse_args(ctx, list(_one_number_each(args)))


def _one_number_each(args: Sequence[str]) -> Iterator[str]:
    numbers_follow = False
    for index, word in enumerate(args):
        if word == "--":
            yield from args[index:]
            return
        given = index > 0 and args[index - 1] == "--years"  # its first value, whatever that is
        if numbers_follow and not given and NUMBER.fullmatch(word) and not os.path.lexists(word):
            yield f"--years={word}"
            continue
        yield word
        numbers_follow = word.startswith("--years") or given


@click.command(cls=SeveralYears)
@click.argument("photos", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.png|FOLDER|-",
    help="Where the edited picture goes; the ending is its format. Of several, the folder.",
)
@click.option(
    "--years",
    required=True,
    multiple=True,
    type=YearsList(),
    metavar="N...",
    help="Change of age: 20 is older, -20 younger. Several make an edit each.",
)
@click.option("--budget", type=float, metavar="MS", help="Waiting budget; the best sub-model within it runs.")
@click.option("--submodel", metavar="R:C", help="Run this sub-model, e.g. 128:0.5.")
@click.option("--face", default="0", show_default=True, metavar="K|all", help="Which face, largest first.")
@click.option("--strict", is_flag=True, help="The patent's own form: write the generated face G(f') alone.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Photos at the same time; default: one a core."
)
@click.option("--resume", is_flag=True, help="Leave out edits that are in the folder already.")
@click.option("--shard", metavar="K/N", help="The K-th of N parts of the photos, for N machines.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, of several edits one a line.")
def edit(photos: tuple[str, ...], output: str, years: tuple[tuple[float, ...], ...], **options: Any) -> None:
    """Make the person in each of PHOTOS older or younger.

    PHOTOS are files, folders, patterns such as 'photos/*.jpg', or - for standard input. With one photo and
    one change of age -o names the picture, or - for standard output; otherwise it names a folder, whose
    pictures are called after photo and years.

    Exit status: 0 when all was done, 1 when some photos failed, 2 when nothing could be done.
    """
    choices = Choices(years=tuple(dict.fromkeys(y for several in years for y in several)), **options)
    if _means_folder(photos, output, choices):
        from agedit.batch.command import edit_many

        edit_many(photos, output, choices)
    else:
        _edit_one(photos[0], output, choices)


def _means_folder(photos: Sequence[str], output: str, choices: Choices) -> bool:
    from agedit.batch.inputs import is_pattern

    several = len(photos) > 1 or os.path.isdir(photos[0]) or is_pattern(photos[0])
    return several or choices.of_many or os.path.isdir(output) or output.endswith(("/", os.sep))


def _edit_one(photo: str, output: str, choices: Choices) -> None:
    from agedit.batch.inputs import same_file
    from agedit.batch.one import Asked, edit_and_save, rounded, summary
    from agedit.photo import check_output, open_photo

    if output == PIPE:
        refuse_terminal(sys.stdout, "The picture would go to the terminal; send it to a file or a program.")
    else:
        check_output(output)
        if same_file(photo, output):
            raise AgeEditError(
                f"{output} is the photo itself; choose another output, so that it is not lost."
            )
    start = time.perf_counter()
    opened = open_photo(read_pipe() if photo == PIPE else photo)
    ms = {"read": milliseconds_since(start)}
    asked = Asked(face_number(choices.face), choices.strict)
    editor, notes = editor_for(choices, opened, ms)
    data = edit_and_save(editor, opened, choices.years[0], output, asked)
    data["ms"] = rounded(ms) | data["ms"]
    data["notes"] = notes + data["notes"]
    text = "\n".join([summary(data), *data["notes"]])
    if output == PIPE:  # which has the picture alone
        click.echo(json.dumps(data) if choices.as_json else text, err=True)
    else:
        report(data, choices.as_json, text)


def editor_for(choices: Choices, photo: "Photo", ms: dict[str, float]) -> tuple["AgeEditor", list[str]]:
    """An editor with its photo set, its sub-model named or chosen, and what the tuner has to say.

    Args:
        ms: the times of `AgeEditor.set_photo` are added.
    """
    from agedit.editor import AgeEditor

    check_one_of_both(choices)
    shared = engine()
    editor = AgeEditor(shared, named_submodel(shared, choices))
    ms |= editor.set_photo(photo.rgb)
    notes = [] if choices.budget is None else choose_submodel(editor, choices.budget)
    return editor, notes
