"""The documents agree with the code: files, modules, targets, commands, settings and their defaults."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from conductor_core.operator import PREFIX, OperatorSettings
from conductor_core.settings.page import ROW_COLUMNS
from conductor_core.settings.parser import load_settings
from conductor_core.settings.tables import Columns
from handlers.wire import GenerateBody
from tests.source_tree import ROOT, modules, project_files

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "docs/internals.md", "docs/lifecycle.md")
LARGEST_ARCHITECTURE = 16_000
"""Bytes: what an engineer reads at one sitting."""
LATER_FIELDS = {"engine", "keep_alive"}


def test_the_file_tree_of_the_readme_is_the_disk() -> None:
    tree = re.search(r"^```\n(README.md .*?)^```", README, re.MULTILINE | re.DOTALL)
    assert tree
    named = {line.split()[0].rstrip("/") for line in tree[1].splitlines()}
    assert named == {path.parts[0] for path in project_files()}


def test_the_folders_of_the_architecture_page_are_those_on_disk() -> None:
    command = [sys.executable, str(ROOT / ".ci/documents.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_make_target_that_is_named_exists_and_is_explained() -> None:
    assert make_targets(README) | make_targets(CONTRIBUTING) <= TARGETS
    assert {"install", "archives", "serve", "test", "check", "bench", "clean", "proof", "lock"} <= TARGETS
    assert set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)) == TARGETS


def make_targets(text: str) -> set[str]:
    """The targets that a page names."""
    return set(re.findall(r"(?:`|\n|&& )make ([a-z-]+)", text))


def test_make_help_lists_every_target() -> None:
    command = ["make", "--silent", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE) == list(
        re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)
    )
    phony = re.search(r"^\.PHONY:(.*)", MAKEFILE, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) >= TARGETS


def test_the_fast_tests_are_there() -> None:
    named = re.search(r"^FAST := ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)
    assert named
    assert all((ROOT / "tests" / part).exists() for part in named[1].replace("\\\n", " ").split())


def test_the_architecture_page_stays_short() -> None:
    assert (ROOT / "ARCHITECTURE.md").stat().st_size <= LARGEST_ARCHITECTURE


@pytest.mark.parametrize("page", CODE_PAGES)
def test_every_file_that_a_page_about_the_code_names_exists(page: str) -> None:
    text = re.sub(
        r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    named = [token for token in re.findall(r"`([^`\s]+)`", text) if is_path(token)]
    linked = re.findall(r"\]\(([^)#]+)", text)
    assert named
    assert not [token for token in named if not is_there(token)]
    assert not [link for link in linked if not (ROOT / page).parent.joinpath(link).exists()]


def is_path(token: str) -> bool:
    """A file or folder of this project, and no route of HTTP."""
    return bool(re.fullmatch(r"(?!/)[\w.<>*/-]*/[\w.<>*/-]*|[\w<>*-]+\.(?:py|md|js|toml)", token))


def is_there(token: str) -> bool:
    """True of a path below the root or `conductor_admin/`, and of a bare file name; `<x>` is any part."""
    pattern = re.sub(r"<\w+>", "*", token).rstrip("/")
    below = [folder for folder in (ROOT, ROOT / "conductor_admin") if any(folder.glob(pattern))]
    return bool(below) or ("/" not in token and any(path.match(pattern) for path in project_files()))


@pytest.mark.parametrize("page", CODE_PAGES)
def test_every_name_that_a_page_about_the_code_uses_is_in_the_code(page: str) -> None:
    """Names as code has them: with a capital inside or an underscore, alone or as `Class.method`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    names = re.findall(r"`((?:[A-Z]\w*[a-z]\w*|[a-z]\w*_\w+)(?:\.\w+)?)`", text)
    sources = [path for path in project_files() if path.suffix == ".py"]
    words = {path.stem for path in project_files()}
    words |= set(re.findall(r"\w+", "\n".join((ROOT / path).read_text(encoding="utf-8") for path in sources)))
    assert names
    assert not [name for name in names if not set(name.split(".")) <= words]


def test_every_test_that_contributing_runs_exists() -> None:
    tests = re.findall(r"^python -m pytest (\S+)(?: -k (\w+))?$", CONTRIBUTING, re.MULTILINE)
    assert tests
    for path, word in tests:
        assert word in (ROOT / path).read_text(encoding="utf-8")


def test_the_hooks_before_a_commit_are_the_checks_of_make() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = config["repos"]
    assert local["repo"] == "local"
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    checks = [line.replace("\t$(RUN) ", ".venv/bin/") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in local["hooks"]] == checks


def test_recipes_are_short() -> None:
    recipes = re.findall(r"(?:^\t.*\n)+", MAKEFILE, re.MULTILINE)
    assert all(recipe.count("\n") <= 3 for recipe in recipes)


def test_every_command_that_is_named_exists_and_every_command_is_named() -> None:
    from conductor.cli import main

    rows = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `conductor ")]
    named = set(re.findall(r"`conductor ([a-z]+)", " ".join(rows)))
    assert named == set(main.commands), "the table of commands in the README has a line for each"
    used = set(re.findall(r"\bconductor ([a-z]+) ", " ".join(SHELL_BLOCKS)))
    assert used <= named


@pytest.mark.parametrize("block", SHELL_BLOCKS)
def test_shell_blocks_are_shell(block: str) -> None:
    text = block.replace("<this repository>", "there")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_every_operator_setting_is_in_the_readme() -> None:
    named = set(re.findall(rf"^\| `({PREFIX}[A-Z_]+)`", README, re.MULTILINE))
    of_code = {PREFIX + field.upper() for field in OperatorSettings.model_fields}
    assert named == of_code, "the table of variables in the README has a line for each"


def test_plain_defaults_of_the_readme_are_those_of_the_code() -> None:
    for name in ("host", "port", "state_dir", "settings", "queue_size"):
        default = OperatorSettings.model_fields[name].default
        assert f"`{PREFIX}{name.upper()}` | `{default}` |" in README


def test_every_column_of_the_table_is_in_the_readme() -> None:
    columns: Columns = ROW_COLUMNS
    left_out = [name for name in columns.known if f"| `{name}` |" not in README]
    assert not left_out, "a table of columns in the README has a line for each"


def test_every_field_of_generate_is_in_the_readme() -> None:
    assert not [
        name for name in GenerateBody.model_fields if f"`{name}`" not in README and name not in LATER_FIELDS
    ]


def test_the_settings_of_the_repository_and_of_the_examples_parse() -> None:
    assert load_settings(ROOT / "SETTINGS.md").rows
    tables = sorted((ROOT / "examples").glob("*.md"))
    assert tables
    assert all(load_settings(table).rows for table in tables)


def test_every_address_of_the_readme_is_a_route_of_the_gateway() -> None:
    sources = [ROOT / path for path in modules("conductor_admin") if path.parts[1] == "api"]
    declared = re.findall(
        r'routes\.\w+\(\s*"([^"]+)"', "".join(source.read_text(encoding="utf-8") for source in sources)
    )
    patterns = [re.sub(r"\{\w+\}", "[^/]+", route) for route in declared]
    asked = set(re.findall(r"http://127\.0\.0\.1:8000(/[\w/]+)", " ".join(SHELL_BLOCKS)))
    assert asked
    assert not [path for path in asked if not any(re.fullmatch(pattern, path) for pattern in patterns)]
