"""How every command ends on bad input: one sentence on stderr, exit status 2."""

import click

from agedit.errors import AgeEditError


class PlainErrors(click.Group):
    """A click group whose commands may raise AgeEditError."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            click.echo(f"agedit: {error.format_message()} Try --help.", err=True)
            ctx.exit(2)
        except AgeEditError as error:
            click.echo(f"agedit: {error}", err=True)
            ctx.exit(2)
