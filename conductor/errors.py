"""Failures of a command: a line on standard error, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from conductor_core.files import fault, is_fault_of_files
from conductor_core.paths import StateDirError


class CommandError(click.ClickException):
    """A command that cannot continue; the message is one line with the next step.

    `code` is the error code of the gateway, if the failure came from it.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class WrongInput(CommandError):
    """The user's files or options are at fault; the message has a line for each mistake."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the mistakes without click's prefix."""
        click.echo(self.message, file=file, err=file is None)


@contextmanager
def plain_faults() -> Iterator[None]:
    """Turn errors of files and disks into a CommandError of one line with the path and the cure."""
    try:
        yield
    except StateDirError as error:
        raise CommandError(str(error)) from error
    except BrokenPipeError:
        raise  # the output has no reader any more: click ends silently
    except OSError as error:
        if not is_fault_of_files(error):
            raise
        raise CommandError(fault(error)) from error
