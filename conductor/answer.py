"""One answer on the screen: text to standard output, progress and figures to standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from conductor.client import Comment, End, GatewayClient
from conductor.errors import CommandError

# A model may write escape sequences, which a terminal would execute.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_CLEAR_LINE = "\r\x1b[K"


@dataclass
class ChatAnswer:
    """The answer so far; `record` is the last record of a stream that succeeded."""

    pieces: list[str] = field(default_factory=list)
    record: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Screen:
    """Output of an answer; progress overwrites itself on a terminal, else only its first line is printed."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._live = sys.stderr.isatty()
        self._progress: str | None = None

    def progress(self, text: str) -> None:
        if self._live:
            click.echo(f"{_CLEAR_LINE}{text.translate(_CONTROLS)}", nl=False, err=True)
        elif self._progress is None:
            click.echo(text.translate(_CONTROLS), err=True)
        self._progress = text

    def piece(self, text: str) -> None:
        if self._progress is not None and self._live:
            click.echo(_CLEAR_LINE, nl=False, err=True)
        self._progress = None
        click.echo(text.translate(_CONTROLS) if self._terminal else text, nl=False)

    def note(self, text: str) -> None:
        click.echo(text, err=True)


def ask(gateway: GatewayClient, body: Mapping[str, Any], screen: Screen, answer: ChatAnswer) -> None:
    """Stream the answer to `body` onto the screen and into `answer`, which keeps the partial answer if this
    raises: CommandError for a failure, KeyboardInterrupt for Ctrl-C.
    """
    with gateway.generate(body) as stream:
        for event in stream:
            if isinstance(event, Comment):
                screen.progress(event.text)
                continue
            if isinstance(event, End):
                break
            value = event.value
            if "delta" in value:
                answer.pieces.append(value["delta"])
                screen.piece(value["delta"])
            elif "error" in value:
                raise CommandError(str(value["error"]["message"]))
            elif "attempt" in value:
                answer.pieces.clear()
                screen.piece("\n")
                screen.note(f"(the answer failed its check; attempt {value['attempt']})")
            else:
                answer.record = value
    if answer.record is None:
        raise CommandError("the answer was cut off; see the gateway's log")


def figures(record: Mapping[str, Any]) -> str:
    """Line of `--verbose`: tokens, seconds and tokens per second of a finished answer."""
    usage, timings = record.get("usage") or {}, record.get("timings") or {}
    tokens, total = usage.get("completion_tokens", 0), timings.get("total_s") or 0.0
    first = timings.get("first_token_s")
    rate = f"{tokens / total:.1f} tokens/s" if total > 0 else "rate unknown"
    after = "" if first is None else f", first token after {first:.2f} s"
    return (
        f"{record.get('category', '')}: {usage.get('prompt_tokens', 0)} prompt tokens, {tokens} tokens "
        f"in {total:.2f} s, {rate}{after}, finish: {record.get('finish_reason')}"
    )
