"""Failures of a command: a line on standard error, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from conductor_core.files import fault, is_fault_of_files
from conductor_core.paths import StateDirError


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


@contextmanager
def plain_faults() -> Iterator[None]:
    """Turn what files and disks do to a command into a line that names the path and what mends it."""
    try:
        yield
    except StateDirError as error:
        raise CommandError(str(error)) from error
    except BrokenPipeError:
        raise  # nobody reads the output any more: click ends without a word
    except OSError as error:
        if not is_fault_of_files(error):
            raise
        raise CommandError(fault(error)) from error
