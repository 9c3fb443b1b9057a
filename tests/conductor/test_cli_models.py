"""`conductor list`, `show`, `serve`'s checks before the start, and the group itself."""

from __future__ import annotations

import json
import os
import re
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import click
import pytest
import yaml

from conductor import commands
from conductor_core.runtimes import RUNTIMES
from handlers.wire import WIRE_VERSION, Sampling
from handlers.worker_config import WorkerConfig
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway

BROKEN = """\
| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded \
| Precision |
|---|---|---|---|---|---|
| Chat | Demo | ~1GB | `demo/model.gguf` | maybe | Q4_1 |
| Code | Demo | ~1GB | `demo/model.gguf` | true | FP17 |
"""


def write_archive(store: Path, runtime: str = "openvino", version: str = "0123456789ab") -> Path:
    """Write an archive of the demo table's one set, with only the parts that commands read."""
    config = WorkerConfig(
        wire=WIRE_VERSION, set="conversational_chat", version=version, category="conversational_chat",
        engine="conversational_chat", runtime=runtime, module=RUNTIMES[runtime].module, refused=(),
        kv_token_bytes=0, device="cpu", precision="Q4_1", weights="demo/model.gguf@file", model_path=store,
    )  # fmt: skip
    store.mkdir(parents=True, exist_ok=True)
    path = store / f"conversational_chat-{version}.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model-config.yaml", yaml.safe_dump({"conductor": config.to_yaml()}))
    return path


def archives_of(conductor: Invoke) -> list[str]:
    return [row["archive"] for row in json.loads(conductor("list", "--json").stdout)["models"]]


def test_list_shows_every_row(conductor: Invoke) -> None:
    head, first, second = conductor("list").stdout.splitlines()
    assert re.split(" {2,}", head) == [
        "CATEGORY", "MODEL", "PRECISION", "MEMORY", "STAY LOADED", "RUNTIME", "SET", "ARCHIVE",
    ]  # fmt: skip
    assert re.split(" {2,}", first) == [
        "conversational_chat", "Demo", "Q4_1", "1 GB", "true", "openvino", "conversational_chat", "missing",
    ]  # fmt: skip
    assert second.split()[-2:] == ["conversational_chat", "missing"]


def test_list_knows_whether_the_newest_archive_is_of_this_row(conductor: Invoke, project: Path) -> None:
    store = project / ".conductor" / "store"
    assert archives_of(conductor) == ["missing", "missing"]
    os.utime(write_archive(store), (1, 1))
    assert archives_of(conductor) == ["built", "built"]
    other = write_archive(store, runtime="transformers", version="ba9876543210")
    assert archives_of(conductor) == ["stale", "stale"]
    other.write_bytes(b"damaged")
    assert archives_of(conductor) == ["stale", "stale"]


@pytest.mark.parametrize("command", ["list", "serve", "build", "pull", "show chat"])
def test_every_mistake_of_the_table_is_told_with_line_and_column(
    conductor: Invoke, project: Path, command: str
) -> None:
    (project / "SETTINGS.md").write_text(BROKEN)
    result = conductor(*command.split())
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["SETTINGS.md:3:44", "Stay Loaded"],
        ["SETTINGS.md:4:51", "Precision"],
    ]


def test_pull_verify_compares_the_files_of_a_row_and_tells(conductor: Invoke, project: Path) -> None:
    (project / "models").mkdir()
    table = (project / "SETTINGS.md").read_text().replace("`demo/model.gguf`", "`models/mine.gguf`")
    (project / "SETTINGS.md").write_text(table)
    missing = conductor("pull", "--verify", "general_reasoning")
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert "mine.gguf does not exist" in missing.stderr
    file = project / "models" / "mine.gguf"
    file.write_bytes(b"GGUF")
    assert conductor("pull", "--verify").stdout.splitlines() == [
        f"{slug} {file} is complete" for slug in ("conversational_chat", "general_reasoning")
    ]


def test_a_missing_table_is_told(conductor: Invoke, project: Path) -> None:
    result = conductor("list", "--settings", "nowhere.md")
    assert result.exit_code == 2
    assert "nowhere.md" in result.stderr


def test_show_names_a_close_category(conductor: Invoke) -> None:
    result = conductor("show", "conversationalchat")
    assert result.exit_code == 2
    assert "did you mean 'conversational_chat'?" in result.stderr


def test_show_tells_the_state_and_every_parameter(conductor: Invoke, gateway: FakeGateway) -> None:
    said = conductor("show", "conversational_chat", "--port", str(gateway.port)).stdout
    assert "state: READY" in said
    assert "shared with: general_reasoning" in said
    table = {line.split()[0]: line.split()[1] for line in said.split("\n\n", 1)[1].splitlines()[1:]}
    assert set(table) == set(Sampling.model_fields)
    assert {name for name, taken in table.items() if taken == "refused"} == RUNTIMES["openvino"].refused


def test_show_works_without_a_gateway(conductor: Invoke) -> None:
    result = conductor("show", "general_reasoning", "--json", "--port", "1")
    facts = json.loads(result.stdout)
    assert facts["state"] == "the gateway is not running"
    assert facts["set"] == "conversational_chat"


def command_names() -> list[str]:
    """The commands that the modules of `conductor.commands` define; those of a group go by its name."""
    modules = [import_module(f"{commands.__name__}.{one.name}") for one in iter_modules(commands.__path__)]
    own = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, click.Command)
        and value.callback
        and value.callback.__module__ == module.__name__
    ]
    below = [sub for group in own if isinstance(group, click.Group) for sub in group.commands.values()]
    return [str(one.name) for one in own if one not in below]


def test_help_lists_the_commands_and_each_has_a_sentence(conductor: Invoke) -> None:
    listed = conductor("--help").stdout.split("Commands:")[1].split("\n")
    names = [line.split()[0] for line in listed if line.strip()]
    assert names == sorted(command_names()), "conductor/cli.py has to add every command of conductor/commands"
    for name in names:
        assert conductor(name, "--help").exit_code == 0
