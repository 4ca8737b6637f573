"""What all commands share: how they answer, and how they end on bad input, with one sentence on stderr and
exit status 2.
"""

import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from agedit.errors import AgeEditError

if TYPE_CHECKING:
    from agedit.engine import Engine

BAD_INPUT_STATUS = 2
"""Exit status of a command that was asked for something that it cannot do."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk that takes nothing."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def engine() -> "Engine":
    """With the released weights; loaded when a command needs it, for it takes seconds."""
    from agedit.engine import Engine

    return Engine()


def report(data: Any, as_json: bool, text: str) -> None:
    """Answer with JSON or with words."""
    click.echo(json.dumps(data) if as_json else text)


class PlainErrors(click.Group):
    """A click group whose commands may raise AgeEditError."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        speak_anywhere()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is wrong with its input becomes a sentence on stderr."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()  # here, where its failure can be said
            return answer
        except click.UsageError as error:
            click.echo(f"agedit: {error.format_message()} Try --help.", err=True)
            ctx.exit(BAD_INPUT_STATUS)
        except AgeEditError as error:
            click.echo(f"agedit: {error}", err=True)
            ctx.exit(BAD_INPUT_STATUS)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            silence_output()
            click.echo(f"agedit: A file could not be written ({error.strerror}); make room for it.", err=True)
            ctx.exit(BAD_INPUT_STATUS)


def silence_output() -> None:
    """What waits to be printed goes nowhere: the interpreter would try once more at its end."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def speak_anywhere() -> None:
    """A console that cannot show a character gets its number, as in \\u4e2d, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure and stream.errors in ("strict", "surrogateescape"):
            reconfigure(errors="backslashreplace")
