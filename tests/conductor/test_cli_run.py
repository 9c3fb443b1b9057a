"""`conductor run` against a gateway on a real port."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway, answer, data, last_record


def port_of(gateway: FakeGateway) -> list[str]:
    return ["--port", str(gateway.port)]


def test_the_answer_is_standard_output_and_nothing_else(conductor: Invoke, gateway: FakeGateway) -> None:
    result = conductor("run", "hi", *port_of(gateway))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello\n", "")
    assert gateway.bodies == [{"prompt": "hi"}]


def test_options_become_fields_of_the_body(conductor: Invoke, gateway: FakeGateway) -> None:
    conductor(
        "run", "hi", "-c", "translation", "--temperature", "0", "--max-tokens", "9", "--stop", "a",
        "--stop", "b", "--seed", "0", "--option", "to=German", "--option", "strict=true", *port_of(gateway),
    )  # fmt: skip
    assert gateway.bodies == [
        {
            "prompt": "hi",
            "category": "translation",
            "temperature": 0.0,
            "max_tokens": 9,
            "stop": ["a", "b"],
            "seed": 0,
            "options": {"to": "German", "strict": True},
        }
    ]


def test_the_first_of_two_words_is_the_category(conductor: Invoke, gateway: FakeGateway) -> None:
    conductor("run", "translation", "hi", *port_of(gateway))
    assert gateway.bodies == [{"category": "translation", "prompt": "hi"}]


@pytest.mark.parametrize("words", [("a", "b", "c"), ("a", "b", "-c", "chat")])
def test_unquoted_words_are_refused_with_the_form_that_works(
    conductor: Invoke, words: tuple[str, ...]
) -> None:
    result = conductor("run", *words)
    assert result.exit_code == 2
    assert 'put the prompt in quotes: conductor run "..."' in result.stderr


@pytest.mark.parametrize("words", [(), ("-",)])
def test_a_pipe_is_the_prompt(conductor: Invoke, gateway: FakeGateway, words: tuple[str, ...]) -> None:
    assert conductor("run", *words, *port_of(gateway), input="line one\nline two\n").stdout == "Hello\n"
    assert gateway.bodies == [{"prompt": "line one\nline two"}]


def test_an_empty_pipe_is_no_prompt(conductor: Invoke, gateway: FakeGateway) -> None:
    result = conductor("run", *port_of(gateway), input=" \n")
    assert (result.exit_code, gateway.bodies) == (2, [])


def test_verbose_shows_counts_and_tokens_per_second(conductor: Invoke, gateway: FakeGateway) -> None:
    result = conductor("run", "hi", "--verbose", *port_of(gateway))
    assert result.stdout == "Hello\n"
    assert "7 prompt tokens, 2 tokens in 1.50 s, 1.3 tokens/s, first token after 0.25 s" in result.stderr


def test_loading_shows_on_standard_error_once_where_it_is_no_terminal(
    conductor: Invoke, gateway: FakeGateway
) -> None:
    loading = [": loading conversational_chat 41%\n\n", ": loading conversational_chat 42%\n\n"]
    gateway.reply = lambda body: [*loading, *answer("Hi")]
    result = conductor("run", "hi", *port_of(gateway))
    assert (result.stdout, result.stderr) == ("Hi\n", "loading conversational_chat 41%\n")


def test_a_second_attempt_is_told(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.reply = lambda body: [data({"delta": "bad"}), data({"attempt": 2}), *answer("good")]
    result = conductor("run", "hi", *port_of(gateway))
    assert result.stdout == "bad\ngood\n"
    assert "attempt 2" in result.stderr


def test_an_error_record_ends_the_answer_with_its_message(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.reply = lambda body: [data({"delta": "Hel"}), data({"error": {"message": "the worker died"}})]
    result = conductor("run", "hi", *port_of(gateway))
    assert (result.exit_code, result.stdout) == (1, "Hel\n")
    assert result.stderr == "Error: the worker died\n"


@pytest.mark.parametrize("lines", [[], [data({"delta": "Hel"})], [data({"delta": "x"}), 'data: {"del']])
def test_a_stream_that_ends_early_is_an_error(
    conductor: Invoke, gateway: FakeGateway, lines: list[str]
) -> None:
    gateway.reply = lambda body: lines
    result = conductor("run", "hi", *port_of(gateway))
    assert result.exit_code == 1
    assert "the answer was cut off" in result.stderr


def test_a_refusal_is_one_line(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.refusal = (404, "unknown category 'chatt' (did you mean 'chat'?)")
    result = conductor("run", "hi", *port_of(gateway))
    assert (result.exit_code, result.stderr) == (1, f"Error: {gateway.refusal[1]}\n")


def test_no_gateway_says_how_to_start_one(conductor: Invoke) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        result = conductor("run", "hi", "--port", str(port))
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: the gateway is not running on 127.0.0.1:{port}; "
        f"start it with: conductor serve --port {port}\n"
    )


def test_the_run_file_of_the_state_folder_gives_the_address(
    conductor: Invoke, gateway: FakeGateway, project: Path
) -> None:
    (project / ".conductor").mkdir()
    (project / ".conductor" / "run.json").write_text(json.dumps({"host": "127.0.0.1", "port": gateway.port}))
    assert conductor("run", "hi").stdout == "Hello\n"


def test_a_bad_variable_is_named(conductor: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_PORT", "eight")
    result = conductor("run", "hi")
    assert result.exit_code == 2
    assert result.stderr == "CONDUCTOR_PORT: expected a whole number from 0 to 65535, got 'eight'\n"


def test_a_record_without_rates_is_still_told(conductor: Invoke, gateway: FakeGateway) -> None:
    record = {**last_record(), "timings": {"first_token_s": None, "total_s": 0.0}}
    gateway.reply = lambda body: [data(record), data("[DONE]")]
    assert "rate unknown" in conductor("run", "hi", "-v", *port_of(gateway)).stderr
