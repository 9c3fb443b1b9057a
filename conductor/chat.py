"""A conversation at the terminal. The history is kept here and sent whole with each turn.

Ctrl-C stops an answer and keeps its text so far; Ctrl-D or `/bye` leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from conductor.answer import ChatAnswer, Screen, ask, figures
from conductor.client import GatewayClient, NotRunning
from conductor.errors import CommandError

HELP = """\
/clear   start a new conversation
/bye     leave (so does Ctrl-D)
/help    this list
\"\"\"      start and end a message of several lines
Ctrl-C   stop the answer, keep what was written so far"""


class TerminalChat:
    """A conversation: its turns so far, and `body`, all fields of its requests but the messages."""

    def __init__(self, gateway: GatewayClient, body: Mapping[str, Any], *, verbose: bool) -> None:
        self._gateway = gateway
        self._body = body
        self._verbose = verbose
        self._screen = Screen()
        self.messages: list[dict[str, str]] = []

    def say(self, text: str) -> None:
        """Ask with the history; a turn without any answer text is removed from it."""
        self.messages.append({"role": "user", "content": text})
        answer = ChatAnswer()
        try:
            ask(self._gateway, {**self._body, "messages": self.messages}, self._screen, answer)
        except KeyboardInterrupt:
            self._screen.note("\n(stopped)")
        except CommandError as error:
            self._screen.note(f"\n{error.format_message()}")
            if isinstance(error, NotRunning):
                self.messages.pop()
                return
        else:
            click.echo()
        if answer.text:
            self.messages.append({"role": "assistant", "content": answer.text})
        else:
            self.messages.pop()
        if self._verbose and answer.record is not None:
            self._screen.note(figures(answer.record))

    def command(self, word: str) -> bool:
        """Carry out a `/word`; return False if it ends the chat."""
        if word in ("/bye", "/exit", "/quit"):
            return False
        if word == "/clear":
            self.messages.clear()
            self._screen.note("(conversation cleared)")
        else:
            self._screen.note(
                HELP if word in ("/help", "/?") else f"unknown command {word}; /help lists them"
            )
        return True


def read_text(read: Callable[[str], str]) -> str:
    """One input of the user: a line, or the lines between two `\"\"\"`."""
    line = read(">>> ")
    if not line.startswith('"""'):
        return line
    lines = [line[3:]]
    while not lines[-1].endswith('"""'):
        lines.append(read("... "))
    lines[-1] = lines[-1][:-3]
    return "\n".join(lines).strip("\n")


def converse(chat: TerminalChat, read: Callable[[str], str]) -> None:
    """Read and answer until the user leaves; `read` raises EOFError and KeyboardInterrupt."""
    while True:
        try:
            text = read_text(read).strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo("\nCtrl-D or /bye leaves.", err=True)
            continue
        if text.startswith("/") and "\n" not in text:
            if not chat.command(text.split()[0]):
                return
        elif text:
            chat.say(text)


def terminal_reader() -> Callable[[str], str]:
    """`input` with line editing and history where the platform has them."""
    if sys.stdin.isatty():
        import readline  # noqa: F401
    return input
