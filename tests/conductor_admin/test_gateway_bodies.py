"""Hostile and mistaken requests: always the one error shape, never 422 or 500, never the prompt again."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from tests.conductor_admin.gateway_rig import Rig

SECRET = "canary-5a1e"
JSON = {"content-type": "application/json"}

BODIES = {
    "NaN": b'{"prompt": "canary-5a1e", "temperature": NaN}',
    "Infinity": b'{"prompt": "canary-5a1e", "temperature": Infinity}',
    "-Infinity": b'{"prompt": "canary-5a1e", "temperature": -Infinity}',
    "1e400": b'{"prompt": "canary-5a1e", "temperature": 1e400}',
    "string for number": b'{"prompt": "canary-5a1e", "temperature": "0.5"}',
    "bool for number": b'{"prompt": "canary-5a1e", "max_tokens": true}',
    "bool for float": b'{"prompt": "canary-5a1e", "temperature": true}',
    "fraction for integer": b'{"prompt": "canary-5a1e", "max_tokens": 1.5}',
    "huge integer": b'{"prompt": "canary-5a1e", "max_tokens": 100000000000000000000}',
    "5000 digits": b'{"prompt": "canary-5a1e", "max_tokens": ' + b"9" * 5000 + b"}",
    "negative": b'{"prompt": "canary-5a1e", "max_tokens": -1}',
    "too hot": b'{"prompt": "canary-5a1e", "temperature": 2.1}',
    "lone surrogate": b'{"prompt": "canary-5a1e\\ud800"}',
    "lone surrogate in an option": b'{"prompt": "canary-5a1e", "options": {"a": "\\udfff"}}',
    "bad UTF-8": b'{"prompt": "canary-5a1e\xff"}',
    "byte order mark": b'\xef\xbb\xbf{"prompt": "canary-5a1e"}',
    "UTF-16": '{"prompt": "canary-5a1e"}'.encode("utf-16"),
    "100000 deep": b"[" * 100_000,
    "100000 deep in an option": b'{"prompt": "canary-5a1e", "options": {"a":' + b"[" * 100_000,
    "300 deep": b'{"prompt": "canary-5a1e", "options": {"a":' + b"[" * 300 + b"]" * 300 + b"}}",
    "1000 deep": b'{"prompt": "canary-5a1e", "options": {"a":' + b"[" * 1000 + b"]" * 1000 + b"}}",
    "repeated key": b'{"prompt": "canary-5a1e", "prompt": "other"}',
    "repeated key inside": b'{"prompt": "canary-5a1e", "options": {"a": 1, "a": 2}}',
    "empty": b"",
    "spaces": b"  \n",
    "null": b"null",
    "a list": b'["canary-5a1e"]',
    "a string": b'"canary-5a1e"',
    "no input": b'{"max_tokens": 5}',
    "two inputs": b'{"prompt": "canary-5a1e", "messages": [{"role": "user", "content": "x"}]}',
    "empty prompt": b'{"prompt": ""}',
    "prompt of numbers": b'{"prompt": 5}',
    "prompt null": b'{"prompt": null}',
    "unknown role": b'{"messages": [{"role": "canary-5a1e", "content": "x"}]}',
    "no content": b'{"messages": [{"role": "user"}]}',
    "no messages": b'{"messages": []}',
    "unknown field": b'{"prompt": "canary-5a1e", "chat_template": "canary-5a1e"}',
    "trailing data": b'{"prompt": "canary-5a1e"} {"prompt": "x"}',
    "a comment": b'{"prompt": "canary-5a1e"} // x',
    "many stop strings": orjson.dumps({"prompt": SECRET, "stop": ["x"] * 17}),
    "empty stop string": b'{"prompt": "canary-5a1e", "stop": [""]}',
    "seed beyond 32 bits": b'{"prompt": "canary-5a1e", "seed": 4294967296}',
    "stream as a word": b'{"prompt": "canary-5a1e", "stream": "yes"}',
    "options as a list": b'{"prompt": "canary-5a1e", "options": []}',
}


def check_refusal(response: Any, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.json().keys() >= {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert SECRET not in response.text
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize("path", ["/generate", "/generate/stream", "/predictions/translation"])
@pytest.mark.parametrize("name", BODIES)
async def test_an_invalid_body_is_a_400_in_the_one_shape(rig: Rig, name: str, path: str) -> None:
    check_refusal(await rig.client.post(path, content=BODIES[name], headers=JSON))
    assert not rig.torchserve.registered


async def test_a_refusal_names_the_field(rig: Rig) -> None:
    for body, param in (({"prompt": "x", "top_p": 7}, "top_p"), ({"prompt": "x", "colour": 1}, "colour")):
        error = check_refusal(await rig.client.post("/generate", json=body))
        assert error["param"] == param
        assert param in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_another_content_type_or_encoding_is_refused(rig: Rig, headers: dict[str, str]) -> None:
    check_refusal(await rig.client.post("/generate", content=b'{"prompt": "x"}', headers=headers))


async def test_a_body_over_the_limit_is_413_whether_its_length_is_told_or_not(rig: Rig) -> None:
    async def pieces() -> Any:
        for _ in range(26):
            yield b" " * 2**20

    told = await rig.client.post("/generate", content=b" " * (26 * 2**20), headers=JSON)
    check_refusal(told, 413)
    check_refusal(await rig.client.post("/generate", content=pieces(), headers=JSON), 413)


async def test_unknown_routes_and_methods_answer_in_the_one_shape(rig: Rig) -> None:
    assert check_refusal(await rig.client.get("/nothing"), 404)["code"] == "not_found"
    wrong = await rig.client.get("/generate")
    assert check_refusal(wrong, 405)["code"] == "method_not_allowed"
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "127.0.0.1.evil.com",
        "localhost.evil",
        "x/?",
        "127.0.0.1#",
        "",
        "[::1",
        "localhost:x",
        "a@localhost",
    ],
)
async def test_a_foreign_host_is_refused(rig: Rig, host: str) -> None:
    status, body = await raw_get(rig.url, [f"Host: {host}"])
    assert status in (400, 421)
    assert status == 400 or orjson.loads(body)["error"]["code"] == "host_not_allowed"


async def test_two_hosts_are_refused(rig: Rig) -> None:
    status, _ = await raw_get(rig.url, ["Host: localhost", "Host: evil.com"])
    assert status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
async def test_loopback_names_are_allowed_with_any_port(rig: Rig, host: str) -> None:
    status, _ = await raw_get(rig.url, [f"Host: {host}"])
    assert status == 200


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.com", "http://localhost.evil", "http://[", "file://"]
)
async def test_pages_of_other_origins_are_refused(rig: Rig, origin: str) -> None:
    check_refusal(await rig.client.get("/models", headers={"origin": origin}), 403)


async def test_a_page_of_the_gateway_itself_is_served(rig: Rig) -> None:
    assert (await rig.client.get("/models", headers={"origin": rig.url})).status_code == 200


@pytest.mark.parametrize("given", ["x" * 65, "a b", "a\tb", "ü"])
async def test_an_odd_request_id_is_replaced(rig: Rig, given: str) -> None:
    response = await rig.client.get("/models", headers=[(b"x-request-id", given.encode())])
    assert response.headers["x-request-id"] != given
    assert len(response.headers["x-request-id"]) == 32


async def test_a_defect_is_a_500_in_the_one_shape(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(rig.gateway.stats, "categories", broken)
    check_refusal(await rig.client.get("/stats"), 500)


async def raw_get(url: str, headers: list[str]) -> tuple[int, bytes]:
    """Status and body of `GET /models` with exactly these headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    lines = ["GET /models HTTP/1.1", *headers, "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
