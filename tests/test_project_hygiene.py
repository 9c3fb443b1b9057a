"""The repository has nothing that depends on one machine."""

from __future__ import annotations

import ast
import re

from tests.source_tree import ROOT, modules, project_files, texts

# Written so that no pattern matches its own source.
REGISTRY = re.compile(
    r"[\w.-]*(?:pypi|pythonhosted|artifactory|nexus|devpi|jfrog|mirror)[\w-]*\.[\w.-]*[a-z]{2,}[:/]"
)
MACHINE = re.compile(r"(?<![\w.~}$-])/(?:(?:work|root|opt|mnt|Users|tmp)/|home/(?!me\b))\w+")
INDEX = re.compile(r"--(?:extra-)?index-url[ =]+(?P<url>https?://\S+)|--find-links[ =]+(?P<place>[\w/.:-]+)")


def test_no_registry_is_named() -> None:
    found = {f"{path}: {hit}" for path, text in texts() for hit in REGISTRY.findall(text)}
    assert not found


def test_no_index_but_that_of_pytorch_is_asked() -> None:
    asked = {hit[0] or hit[1] for _, text in texts() for hit in INDEX.findall(text)}
    assert all(url.startswith("https://download.pytorch.org/") for url in asked), asked


def test_no_path_of_a_machine_is_named() -> None:
    found = {f"{path}: {hit}" for path, text in texts() for hit in MACHINE.findall(text)}
    assert not found


def test_every_file_is_small_and_text() -> None:
    # A lock is written by a program: its hashes are 2 kB for each package.
    large = {
        path
        for path in project_files()
        if (ROOT / path).stat().st_size > (1_000_000 if path.suffix == ".lock" else 300_000)
    }
    assert not large
    assert len(list(texts())) == len(project_files())


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert script.splitlines()[-1] == "make test"
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "\nmake test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_model_shows_a_value_in_an_error() -> None:
    """Errors may be logged, and the values are prompts and answers."""
    roots = {"BaseModel", "BaseSettings", "ArgModelBase", "RootModel"}
    found = {
        f"{path}: {node.name}": "hide_input_in_errors=True" in ast.unparse(node)
        for path in modules()
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and roots & {ast.unparse(base) for base in node.bases}
    }
    assert "handlers/wire.py: Shape" in found
    assert not [name for name, hides in found.items() if not hides]


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
