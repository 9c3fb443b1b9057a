"""`conductor run`: one answer, or a chat, from the running gateway."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import orjson

from conductor.answer import ChatAnswer, Screen, ask, figures
from conductor.chat import TerminalChat, converse, terminal_reader
from conductor.client import GatewayClient
from conductor.options import ADDRESS, gateway_of, operator_options

INTERRUPTED = 130


def _options(_: click.Context, __: click.Parameter, pairs: Sequence[str]) -> dict[str, Any]:
    options = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"expected NAME=VALUE, got {pair!r}")
        try:
            options[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            options[name] = text
    return options


@click.command()
@click.argument("words", nargs=-1, metavar="[[CATEGORY] PROMPT]")
@operator_options(*ADDRESS)
@click.option("-c", "--category", help="Row of SETTINGS.md that answers. [default: conversational_chat]")
@click.option("-v", "--verbose", is_flag=True, help="Show token counts, seconds and tokens per second.")
@click.option("--persona", help="Name of a persona of SETTINGS.md.")
@click.option("--max-tokens", type=int)
@click.option("--temperature", type=float)
@click.option("--top-p", type=float)
@click.option("--top-k", type=int)
@click.option("--repetition-penalty", type=float)
@click.option("--stop", multiple=True, help="Text at which the answer ends; can be given several times.")
@click.option("--seed", type=int)
@click.option("--option", "options", multiple=True, callback=_options, metavar="NAME=VALUE",
              help="Option of the category's engine; VALUE may be JSON.")  # fmt: skip
def run(
    words: tuple[str, ...], category: str | None, verbose: bool, host: str | None, port: str | None,
    state_dir: str | None, **sampling: Any,
) -> None:  # fmt: skip
    """Print an answer, or start a chat without PROMPT. If PROMPT is -, or on a pipe, read standard input."""
    if len(words) > (1 if category else 2):
        raise click.UsageError('put the prompt in quotes: conductor run "..."')
    if len(words) == 2:
        category, words = words[0], words[1:]
    prompt = words[0] if words else None
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise click.UsageError('the prompt is missing: conductor run "..."')
    body = {name: value for name, value in sampling.items() if value not in (None, (), {})}
    if category is not None:
        body["category"] = category
    with gateway_of(host=host, port=port, state_dir=state_dir) as gateway:
        if prompt is None:
            gateway.models()
            click.echo("Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands.", err=True)
            converse(TerminalChat(gateway, body, verbose=verbose), terminal_reader())
        else:
            _answer(gateway, {**body, "prompt": prompt}, verbose)


def _answer(gateway: GatewayClient, body: dict[str, Any], verbose: bool) -> None:
    answer, screen = ChatAnswer(), Screen()
    try:
        ask(gateway, body, screen, answer)
    except KeyboardInterrupt:
        click.echo()
        sys.exit(INTERRUPTED)
    finally:
        if answer.pieces:
            click.echo()
    if verbose and answer.record is not None:
        screen.note(figures(answer.record))
