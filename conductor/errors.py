"""Failures of a command: a line on standard error, and an exit code."""

from __future__ import annotations

from typing import IO, Any

import click


class CommandError(click.ClickException):
    """A command that cannot go on; the message is one line that names what to do next.

    `code` is the gateway's own word for a failure that it told.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class WrongInput(CommandError):
    """The user's files or options are at fault; the message has a line for each mistake."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the mistakes, nothing before them."""
        click.echo(self.message, file=file, err=file is None)
