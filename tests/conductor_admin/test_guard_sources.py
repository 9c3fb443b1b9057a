"""Requests that name two hosts, repeat a header, or come from a page in a browser."""

from __future__ import annotations

import orjson
import pytest
from starlette.datastructures import Headers

from conductor_admin.http.middleware import HostPolicy, check_source
from handlers.wire import RequestError
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys
from tests.conductor_admin.raw_http import statuses, talk

LAST = "connection: close\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.com/models",
        "http://evil.com:80/models",
        "http://127.0.0.1@evil.com/models",
        "http://evil.com@127.0.0.1/models",
        "http://127.0.0.1:9/models",
        "http://127.0.0.1.evil.com/models",
        "http://localhost/models",
        "ftp://127.0.0.1/models",
        "https://evil.com/models?x=//127.0.0.1",
    ],
)
async def test_a_target_that_names_another_host_is_refused(rig: Rig, target: str) -> None:
    answer = await talk(rig.url, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{LAST}")
    assert statuses(answer)[0] in (400, 421)


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/models", "HTTP://127.0.0.1/models", "/models", "//models"]
)
async def test_a_target_of_the_same_host_is_routed(rig: Rig, target: str) -> None:
    answer = await talk(rig.url, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{LAST}")
    assert statuses(answer) == [404 if target == "//models" else 200]


@pytest.mark.parametrize(
    "lines",
    [
        "Host: 127.0.0.1\r\nHost: 127.0.0.1",
        "Host: 127.0.0.1\r\nhost: evil.com",
        "Host: 127.0.0.1, evil.com",
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: http://evil.com",
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\norigin: http://127.0.0.1",
        "Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Type: text/plain",
        "Host: 127.0.0.1\r\nContent-Length: 0\r\nContent-Length: 0",
        "Host: 127.0.0.1\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site",
    ],
)
async def test_a_header_that_comes_twice_is_refused(rig: Rig, lines: str) -> None:
    answer = await talk(rig.url, f"GET /models HTTP/1.1\r\n{lines}\r\n{LAST}")
    assert statuses(answer)[0] in (400, 421)
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.parametrize(
    ("coding", "status"),
    [("chunked", 200), ("Chunked", 200), ("gzip, chunked", 400), ("identity, chunked", 400)],
)
async def test_a_body_is_coded_in_chunks_and_in_nothing_else(rig: Rig, coding: str, status: int) -> None:
    body = '{"category": "conversational_chat", "text": "x"}'
    head = f"POST /check HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: {coding}\r\n{LAST}"
    answer = await talk(rig.url, f"{head}{len(body):x}\r\n{body}\r\n0\r\n\r\n")
    assert statuses(answer) == [status]


async def test_two_credentials_are_refused(keys: Keys) -> None:
    lines = f"Authorization: Bearer {keys.infer}\r\nAuthorization: Bearer {keys.admin}"
    answer = await talk(keys.rig.url, f"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n{LAST}")
    assert statuses(answer) == [401]


OWN = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.com",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "http://localhost:8000",
        f"{OWN}, http://evil.com",
        f"{OWN} http://evil.com",
        f"http://evil.com, {OWN}",
        f"{OWN}/",
        f"{OWN}/page",
        f"{OWN}?x",
        "http://127.0.0.1:8000@evil.com",
        "http://x@127.0.0.1:8000",
        "chrome-extension://127.0.0.1:8000",
        "ws://127.0.0.1:8000",
        "",
    ],
)
def test_an_origin_that_is_not_exactly_ours_is_refused(origin: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_source(Headers({"host": "127.0.0.1:8000", "origin": origin}), HostPolicy())
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("site", "mode", "dest", "method", "allowed"),
    [
        ("cross-site", "no-cors", "script", "GET", False),
        ("cross-site", "no-cors", "image", "GET", False),
        ("same-site", "no-cors", "script", "GET", False),
        ("cross-site", "navigate", "iframe", "GET", False),
        ("cross-site", "navigate", "document", "POST", False),
        ("cross-site", "cors", "empty", "POST", False),
        ("cross-site", "navigate", "document", "GET", True),
        ("same-origin", "cors", "empty", "POST", True),
        ("none", "navigate", "document", "GET", True),
    ],
)
def test_a_page_of_another_site_may_link_here_and_no_more(
    site: str, mode: str, dest: str, method: str, allowed: bool
) -> None:
    headers = Headers(
        {"host": "localhost:8000", "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    )
    if allowed:
        check_source(headers, HostPolicy(), method)
        return
    with pytest.raises(RequestError) as caught:
        check_source(headers, HostPolicy(), method)
    assert caught.value.code == "origin_not_allowed"


@pytest.mark.parametrize(
    "host", ["evil.com:8000", "0.0.0.0:8000", "localhost.:8000", "127.1:8000", "2130706433"]
)
def test_a_name_that_dns_may_bind_to_this_machine_is_refused(host: str) -> None:
    own = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    with pytest.raises(RequestError) as caught:
        check_source(Headers(own), HostPolicy())
    assert caught.value.status == 421
