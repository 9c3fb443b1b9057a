"""The strict parser of bodies refuses invalid bodies, and does so cheaply."""

from __future__ import annotations

import gc
import json
import threading
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import json_bounds
from handlers.json_bounds import CLIENT, WORKER, JsonBounds, TooComplex, keys_of, shape_of
from handlers.strict_json import parse, read_value
from handlers.wire import GenerateBody, RequestError

TEXTS = st.text(alphabet=st.sampled_from('"\\[]{},: aé\n😀'))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


def counted(value: Any) -> tuple[int, int]:
    """Containers and keys of a value, counted in another way."""
    if isinstance(value, dict):
        inner = [counted(one) for one in value.values()]
        return 1 + sum(c for c, _ in inner), len(value) + sum(k for _, k in inner)
    if isinstance(value, list):
        inner = [counted(one) for one in value]
        return 1 + sum(c for c, _ in inner), sum(k for _, k in inner)
    return 0, 0


@given(VALUES, st.booleans(), st.integers(1, 7))
def test_a_text_is_counted_as_it_is_parsed(value: Any, escaped: bool, piece: int) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode()
    kept = json_bounds._PIECE
    json_bounds._PIECE = piece
    try:
        shape = shape_of(raw)
    finally:
        json_bounds._PIECE = kept
    assert (shape.containers, shape.pairs) == counted(value)
    assert keys_of(value) == shape.pairs
    assert read_value(raw) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "\\u0061": 2}',
        '{"x": [{"a": {"b": 1, "b": {}}}]}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": "\\ud800"}',
        '{"a": "\\udc00\\ud800"}',
        '{"\\ud800": 1}',
        '{"a": 1,}',
        '{"a": 01}',
        '{"a": "\x00"}',
        '{"a": 1} {"b": 2}',
        "[" * 300 + "]" * 300,
        '{"a":' * 250 + "1" + "}" * 250,
        "[" * 100_000,
        '"' * 1_000_000,
        '"\\',
    ],
)
def test_what_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_value(text)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("raw", [b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', "\ufeff{}".encode(), b"{\x00}"])
def test_what_is_no_utf8_json_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError):
        read_value(raw)


def test_a_surrogate_of_python_is_refused() -> None:
    with pytest.raises(RequestError):
        read_value('{"a": "\ud800"}')
    with pytest.raises(RequestError):
        parse(GenerateBody, {"prompt": "\ud800"})


BOMBS = {
    "lists": b'{"prompt": "a", "options": {"x": [' + b"[]," * 8_000_000 + b"1]}}",
    "objects": b'{"prompt": "a", "options": {"x": [' + b"{}," * 8_000_000 + b"1]}}",
    "numbers": b'{"prompt": "a", "options": {"x": [' + b"1," * 12_000_000 + b"1]}}",
    "texts": b'{"prompt": "a", "options": {"x": [' + b'"",' * 8_000_000 + b"1]}}",
    "escapes": b'{"prompt": "' + b"\\n" * 12_000_000 + b'"}',
    "quotes": b'{"prompt": "' + b'\\"' * 12_000_000 + b'"}',
    "backslashes": b'{"prompt": "' + b"\\\\" * 12_000_000 + b'"}',
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_costs_less_than_the_parse_it_is_spared(kind: str) -> None:
    """By processor time, the least of three runs in turns: the first run also pays for fresh memory."""
    raw = BOMBS[kind]
    refusals, parses = [], []
    for _ in range(3):
        begun = time.thread_time()
        with pytest.raises(RequestError) as caught:
            parse(GenerateBody, raw)
        refusals.append(time.thread_time() - begun)
        assert caught.value.code == "invalid_json"
        begun = time.thread_time()
        orjson.loads(raw)
        parses.append(time.thread_time() - begun)
    assert min(refusals) < 3 * min(parses)


def test_documented_sizes_are_within_the_bounds() -> None:
    conversation = {"messages": [{"role": "user", "content": "x"}] * 10_000}
    assert len(parse(GenerateBody, orjson.dumps(conversation)).messages or ()) == 10_000
    prompts = {"prompt": [[12345] * 4096] * 128}
    assert read_value(orjson.dumps(prompts)) == prompts
    for text in ("\n", "é", "漢", '"'):
        raw = json.dumps({"prompt": text * 4_000_000}).encode()
        assert len(read_value(raw)["prompt"]) == 4_000_000


def test_a_worker_takes_what_the_gateway_makes_of_any_body() -> None:
    assert WORKER.containers > CLIENT.containers
    raw = orjson.dumps([[]] * (CLIENT.containers + 10))
    with pytest.raises(RequestError):
        read_value(raw)
    assert len(read_value(raw, WORKER)) == CLIENT.containers + 10


def test_depth_is_counted_in_levels() -> None:
    deep: Any = 1
    for _ in range(5):
        deep = [deep]
    assert keys_of(deep, JsonBounds(depth=5)) == 0
    with pytest.raises(TooComplex):
        keys_of(deep, JsonBounds(depth=4))


def test_others_run_while_a_large_body_is_checked() -> None:
    call = {"id": "1", "name": "look", "arguments": "{}"}
    turns = [{"role": "assistant", "content": "", "tool_calls": [call] * 128} for _ in range(240)]
    others, is_over = 0, threading.Event()

    def run() -> None:
        nonlocal others
        while not is_over.wait(0.001):
            others += 1

    other = threading.Thread(target=run)
    other.start()
    gc.disable()  # the tests look at collections, by a call of Python
    try:
        before = others
        GenerateBody.model_validate({"messages": turns})
        after = others
    finally:
        gc.enable()
        is_over.set()
        other.join()
    assert after - before >= 3
