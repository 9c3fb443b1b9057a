"""The page in the browser: its files, its headers, and no requests to other hosts."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from pathlib import PurePosixPath

import pytest

from conductor_admin.api.native.page import FOLDER, MEDIA_TYPES, read_assets
from handlers.engines.registry import engine_names
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys
from tests.source_tree import ROOT

ASSETS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
PAGES = {"/": "index.html", "/docs": "docs.html"}
SCRIPTS = sorted(name for name in ASSETS if name.endswith(".js"))
IMPORT = re.compile(r'^import [^;]*? from "\./([\w-]+\.js)";', re.MULTILINE)
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


class References(HTMLParser):
    """References of an HTML page, and its inline scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.found |= {str(given[name]) for name in ("src", "href") if given.get(name)}
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def pages() -> References:
    """The references of both pages."""
    references = References()
    for name in PAGES.values():
        references.feed(ASSETS[name])
    return references


async def test_the_pages_and_every_file_of_them_are_served_with_their_type(rig: Rig) -> None:
    for path, name in PAGES.items():
        page = await rig.client.get(path)
        assert (page.status_code, page.text) == (200, ASSETS[name])
        assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name, text in ASSETS.items():
        answer = await rig.client.get(f"/assets/{name}")
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["content-type"] == MEDIA_TYPES[PurePosixPath(name).suffix]


async def test_every_file_forbids_what_the_page_does_not_need(rig: Rig) -> None:
    for path in ("/", "/docs", "/assets/app.js"):
        headers = (await rig.client.get(path)).headers
        rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["frame-ancestors"] == rules["trusted-types"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert rules["img-src"] == "'self' data:"
        assert rules["require-trusted-types-for"] == "'script'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


async def test_a_file_that_has_not_changed_is_not_sent_again(rig: Rig) -> None:
    first = await rig.client.get("/assets/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await rig.client.get("/assets/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in again.headers
    assert (await rig.client.get("/", headers={"if-none-match": tag})).status_code == 200


async def test_head_answers_as_get_without_the_content(rig: Rig) -> None:
    for path in ("/", "/assets/style.css"):
        got, head = await rig.client.get(path), await rig.client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize(
    "path",
    ["/assets/", "/assets/none.js", "/assets/..%2fapp.py", "/assets/%2e%2e/app.py", "/assets/app.js/x"],
)
async def test_what_is_no_file_of_the_page_is_404(rig: Rig, path: str) -> None:
    answer = await rig.client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_only_reading_is_allowed(rig: Rig) -> None:
    for path in ("/", "/assets/app.js"):
        assert (await rig.client.post(path)).status_code == 405


async def test_the_page_needs_no_key_and_what_it_calls_does(keys: Keys) -> None:
    for path in (*PAGES, "/assets/app.js"):
        assert (await keys.ask("GET", path, None)).status_code == 200
    for path in ("/models", "/models/translation", "/stats", "/sessions"):
        assert (await keys.ask("GET", path, None)).status_code == 401
        assert (await keys.ask("GET", path, keys.infer)).status_code == 200


async def test_the_page_is_told_personas_and_what_an_engine_takes(rig: Rig) -> None:
    listed = (await rig.client.get("/models")).json()
    assert listed["personas"] == ["Pirate"]
    assert [row["converses"] for row in listed["models"]] == [True, False, False]
    one = (await rig.client.get("/models/translation")).json()
    assert {"source", "target", "register", "inputs"} == one["options"]["properties"].keys()


def test_every_file_that_is_named_exists_and_every_file_is_named() -> None:
    named = {
        reference.removeprefix("/assets/") for reference in pages().found if reference.startswith("/assets/")
    }
    reached, waiting = set(PAGES.values()), sorted(named)
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += [other for other in IMPORT.findall(ASSETS[name]) if other not in reached]
    assert reached == ASSETS.keys()


def test_no_file_names_an_address_elsewhere() -> None:
    for name, text in ASSETS.items():
        assert not re.findall(r"(?:https?|wss?):?//[^\s\"'`)]*", text.replace(SVG_NAMESPACE, "")), name
        assert not re.search(r"[\"'(=]\s*//\w", text), name
    assert all(one.startswith(("/assets/", "#")) or one in PAGES for one in pages().found)


def test_nothing_is_made_into_markup_or_code() -> None:
    assert not pages().inline
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|import\("
    )
    for name in SCRIPTS:
        assert not re.search(forbidden, ASSETS[name]), name


def test_the_key_is_kept_for_the_tab_alone() -> None:
    scripts = "".join(ASSETS[name] for name in SCRIPTS)
    assert "sessionStorage" in scripts
    assert not re.search(r"localStorage|document\.cookie|indexedDB", scripts)


def test_files_are_small_and_say_what_they_know() -> None:
    for name in SCRIPTS:
        assert ASSETS[name].startswith("// "), name
        assert ASSETS[name].count("\n") < 250, name


def test_an_installed_package_has_the_page() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert data["package-data"]["conductor_admin"] == ["console/*"]
    assert read_assets().keys() == ASSETS.keys()


def test_every_named_finding_is_one_of_an_engine() -> None:
    """A renamed finding would be shown as a plain list."""
    known = set(re.findall(r'(?:take|left\.get|left\.has)\("(\w+)"\)', ASSETS["findings.js"])) - {
        "warnings",
        "note",
    }
    files = [*(f"engines/{name}.py" for name in engine_names()), "engines/_conversation.py"]
    said = "".join((ROOT / "handlers" / file).read_text(encoding="utf-8") for file in files)
    assert {name for name in known if f'"{name}"' not in said} == set()
