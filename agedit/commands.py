"""How every command ends on bad input: one sentence on stderr, exit status 2."""

import errno
import os
import sys
from typing import Any

import click

from agedit.errors import AgeEditError

BAD_INPUT_STATUS = 2
"""Exit status of a command that was asked for something that it cannot do."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk that takes nothing."""


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
