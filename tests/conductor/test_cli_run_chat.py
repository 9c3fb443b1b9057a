"""`conductor run` without a prompt: on a real terminal, and its parts."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from conductor.chat import TerminalChat, converse, read_text
from conductor.client import GatewayClient
from tests.conductor.fake_gateway import HOLD, WAIT_S, FakeGateway, answer, data


class Terminal:
    """A `conductor run` on a pseudo-terminal."""

    def __init__(self, port: int) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conductor.cli", "run", "--port", str(port)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, pressing: str = "") -> None:
        """Read until `text` is on the screen, and forget what was before it.

        `pressing` is typed again each second: a signal just before Python's blocking call takes effect only
        at the next key, and a user would press twice as well.
        """
        deadline = time.monotonic() + WAIT_S
        while text not in self.screen:
            self.type(pressing)
            while select.select([self._master], [], [], 1.0)[0] and text not in self.screen:
                self.screen += os.read(self._master, 65536).decode()
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.screen!r}"
        self.screen = self.screen.split(text, 1)[1]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C is a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(port: int) -> Iterator[Terminal]:
    one = Terminal(port)
    try:
        yield one
    finally:
        one.close()


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said_and_ctrl_d_leaves(gateway: FakeGateway) -> None:
    gateway.reply = lambda body: [data({"delta": "Once upon"}), HOLD]
    with terminal(gateway.port) as screen:
        screen.wait_for(">>> ")
        screen.type("a story\n")
        screen.wait_for("Once upon")
        gateway.reply = lambda body: answer("the end")
        screen.wait_for("(stopped)", pressing="\x03")
        assert gateway.left.wait(WAIT_S)
        screen.wait_for(">>> ")
        screen.type("go on\n")
        screen.wait_for("the end")
        screen.wait_for(">>> ")
        screen.type("\x04")
        assert screen.process.wait(WAIT_S) == 0
    assert [[m["content"] for m in body["messages"]] for body in gateway.bodies] == [
        ["a story"],
        ["a story", "Once upon", "go on"],
    ]


def test_ctrl_c_at_the_prompt_says_how_to_leave(gateway: FakeGateway) -> None:
    with terminal(gateway.port) as screen:
        screen.wait_for(">>> ")
        screen.wait_for("Ctrl-D or /bye leaves.", pressing="\x03")
        screen.wait_for(">>> ")
        screen.type("/bye\n")
        assert screen.process.wait(WAIT_S) == 0


def test_control_characters_of_a_model_do_not_reach_the_terminal(gateway: FakeGateway) -> None:
    gateway.reply = lambda body: answer("\x1b]0;title\x07safe")
    with terminal(gateway.port) as screen:
        screen.wait_for(">>> ")
        screen.type("hi\n")
        screen.wait_for("]0;titlesafe")


def typed(*lines: str) -> Callable[[str], str]:
    """A reader that returns the lines a user types, then raises EOFError for Ctrl-D."""
    rest = list(lines)

    def read(prompt: str) -> str:
        if not rest:
            raise EOFError
        return rest.pop(0)

    return read


@pytest.fixture
def chat(gateway: FakeGateway) -> Iterator[TerminalChat]:
    with GatewayClient("127.0.0.1", gateway.port) as client:
        yield TerminalChat(client, {"category": "conversational_chat"}, verbose=False)


def test_the_history_is_sent_with_each_turn(chat: TerminalChat, gateway: FakeGateway) -> None:
    converse(chat, typed("one", "two"))
    assert gateway.bodies[1] == {
        "category": "conversational_chat",
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "two"},
        ],
    }


def test_clear_forgets_the_history(chat: TerminalChat, gateway: FakeGateway) -> None:
    converse(chat, typed("one", "/clear", "two"))
    assert gateway.bodies[1]["messages"] == [{"role": "user", "content": "two"}]


def test_bye_ends_the_chat(chat: TerminalChat, gateway: FakeGateway) -> None:
    converse(chat, typed("/bye", "one"))
    assert gateway.bodies == []


def test_help_and_unknown_commands_are_answered_here(
    chat: TerminalChat, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    converse(chat, typed("/help", "/nope"))
    said = capsys.readouterr().err
    assert "/clear   start a new conversation" in said
    assert "unknown command /nope" in said
    assert gateway.bodies == []


def test_a_failed_turn_is_told_and_forgotten(
    chat: TerminalChat, gateway: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.refusal = (503, "the model is not there")
    converse(chat, typed("one"))
    assert "the model is not there" in capsys.readouterr().err
    assert chat.messages == []


def test_what_was_said_before_a_failure_stays_in_the_history(
    chat: TerminalChat, gateway: FakeGateway
) -> None:
    gateway.reply = lambda body: [data({"delta": "Half"}), data({"error": {"message": "died"}})]
    converse(chat, typed("one"))
    assert [message["content"] for message in chat.messages] == ["one", "Half"]


def test_three_quotes_begin_and_end_several_lines() -> None:
    assert read_text(typed('"""first', "second", 'third"""')) == "first\nsecond\nthird"
    assert read_text(typed('"""one line"""')) == "one line"
    assert read_text(typed("plain")) == "plain"
