"""How every command ends on bad input: one sentence on stderr, exit status 2."""

import sys
from typing import Any

import click

from agedit.errors import AgeEditError

BAD_INPUT_STATUS = 2
"""Exit status of a command that was asked for something that it cannot do."""


class PlainErrors(click.Group):
    """A click group whose commands may raise AgeEditError."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        speak_anywhere()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what is wrong with its input becomes a sentence on stderr."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            click.echo(f"agedit: {error.format_message()} Try --help.", err=True)
            ctx.exit(BAD_INPUT_STATUS)
        except AgeEditError as error:
            click.echo(f"agedit: {error}", err=True)
            ctx.exit(BAD_INPUT_STATUS)


def speak_anywhere() -> None:
    """A console that cannot show a character gets its number, as in \\u4e2d, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure and stream.errors in ("strict", "surrogateescape"):
            reconfigure(errors="backslashreplace")
