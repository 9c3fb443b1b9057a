"""`make archives` and the gateway's build, over a fake converter."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from archives.__main__ import main
from archives.build import BEGIN, END, build_rows, build_set, pull_rows, write_config
from archives.build_context import BuildContext
from archives.errors import BuildError
from archives.progress import Lines
from conductor_core.catalogue import Catalogue, ModelRef, Row, StayLoaded
from conductor_core.placement import unplaced_sets
from tests.archives.samples import FakeJob, make_row


def _catalogue(*rows: Row, persona: str | None = "Be kind.") -> Catalogue:
    return Catalogue(rows, persona, {}, unplaced_sets(rows))


@pytest.fixture
def catalogue(gguf_row: Row) -> Catalogue:
    law = replace(
        gguf_row, slug="legal_analysis", engine="legal_analysis", stay_loaded=StayLoaded.FALSE, line=13
    )
    return _catalogue(gguf_row, law)


def _config(path: Path) -> dict[str, object]:
    with zipfile.ZipFile(path) as archive:
        return dict(yaml.safe_load(archive.read("model-config.yaml"))["conductor"])


def test_each_row_has_its_archive_and_rows_share_the_weights(
    catalogue: Catalogue, build_context: BuildContext, job: FakeJob, tmp_path: Path
) -> None:
    built = build_rows(catalogue, tmp_path / "store", build_context)

    assert [item.path.name for item in built.archives] == ["conversational_chat.mar", "legal_analysis.mar"]
    assert len({item.model_path for item in built.archives}) == 1
    assert len(job.requests) == 1
    assert not built.is_unchanged


def test_only_the_conversation_speaks_with_the_persona(
    catalogue: Catalogue, build_context: BuildContext, tmp_path: Path
) -> None:
    chat, law = (
        _config(item.path) for item in build_rows(catalogue, tmp_path / "store", build_context).archives
    )

    assert (chat["system"], law["system"]) == ("Be kind.", None)


def test_a_second_build_does_nothing(
    catalogue: Catalogue, build_context: BuildContext, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    build_rows(catalogue, store, build_context)
    before = {path: path.stat().st_mtime_ns for path in store.iterdir()}

    again = build_rows(catalogue, store, build_context)

    assert again.is_unchanged
    assert {path: path.stat().st_mtime_ns for path in store.iterdir()} == before


def test_archives_of_removed_rows_are_deleted(
    catalogue: Catalogue, build_context: BuildContext, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    build_rows(catalogue, store, build_context)

    built = build_rows(_catalogue(catalogue.rows[0]), store, build_context)

    assert [path.name for path in built.removed] == ["legal_analysis.mar"]
    assert [path.name for path in store.iterdir()] == ["conversational_chat.mar"]


def test_a_set_is_named_by_its_version_and_nothing_else_is_touched(
    catalogue: Catalogue, build_context: BuildContext, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "other-1.mar").write_text("x")

    built = build_set(catalogue.sets[0], store, build_context, system="Be brief.")

    assert built.path.name == f"conversational_chat-{built.version}.mar"
    assert (store / "other-1.mar").exists()
    assert _config(built.path)["system"] == "Be brief."
    assert (built.name, built.context, built.changed) == ("conversational_chat", 128, True)
    assert not build_set(catalogue.sets[0], store, build_context, system="Be brief.").changed


def test_an_error_names_row_line_and_cure(build_context: BuildContext, tmp_path: Path) -> None:
    catalogue = _catalogue(make_row(ModelRef("path", "./gone.gguf")))

    with pytest.raises(BuildError) as caught:
        build_rows(catalogue, tmp_path / "store", build_context)

    assert str(caught.value) == (
        f"SETTINGS.md line 12 (Conversational Chat): {tmp_path}/gone.gguf does not exist; "
        "correct the path, which is relative to SETTINGS.md"
    )


def test_pull_downloads_and_converts_nothing(
    catalogue: Catalogue, build_context: BuildContext, job: FakeJob, tmp_path: Path
) -> None:
    assert pull_rows(catalogue.rows, build_context) == [tmp_path / "tiny.gguf"] * 2
    assert job.requests == []


def test_resident_rows_are_loaded_by_torchserve_alone(catalogue: Catalogue, tmp_path: Path) -> None:
    config = tmp_path / "config.properties"
    config.write_text(f"a=1\n{BEGIN}\nload_models=old.mar\n{END}\nb=2\n")

    assert write_config(catalogue, config)
    assert config.read_text() == f"a=1\n{BEGIN}\nload_models=conversational_chat.mar\n{END}\nb=2\n"
    assert not write_config(catalogue, config)


def test_no_resident_row_is_no_load_models_line(catalogue: Catalogue, tmp_path: Path) -> None:
    config = tmp_path / "config.properties"
    config.write_text(f"{BEGIN}\n{END}\n")

    write_config(_catalogue(catalogue.rows[1]), config)

    assert "load_models" not in config.read_text()


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_lost_marks_are_an_error_and_change_nothing(catalogue: Catalogue, tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.properties"
    config.write_text(text)

    with pytest.raises(BuildError, match="lost its marks"):
        write_config(catalogue, config)

    assert config.read_text() == text


def test_the_config_in_the_repository_has_the_marks() -> None:
    text = (Path(__file__).parents[2] / "config.properties").read_text()

    assert text.count(BEGIN) == text.count(END) == 1


def test_progress_in_a_log_is_one_line_for_each_tenth() -> None:
    stream = io.StringIO()
    lines = Lines(stream)

    for done in range(101):
        lines.update("download", done, 100, "m")

    assert len(stream.getvalue().splitlines()) == 11
    assert stream.getvalue().splitlines()[-1] == "download: m 100%"


def test_the_command_places_rows_inside_the_operator_s_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "SETTINGS.md"
    header = "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name |"
    row = "| Chat | Small | 1GB | `./gone.gguf` |"
    settings.write_text(f"{header} Stay Loaded | Precision |\n|---|---|---|---|---|---|\n{row} true | |\n")
    monkeypatch.setenv("CONDUCTOR_MEMORY_BUDGET", "500MB")
    monkeypatch.setenv("CONDUCTOR_SETTINGS", str(settings))
    refused = CliRunner().invoke(main, [])
    assert (refused.exit_code, refused.output.strip().endswith("500 MB is available")) == (1, True)
    monkeypatch.setenv("CONDUCTOR_MEMORY_BUDGET", "much")
    refused = CliRunner().invoke(main, [])
    assert "CONDUCTOR_MEMORY_BUDGET: expected a size" in refused.output


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "SETTINGS.md"
    header = "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name |"
    row = "| Chat | Small | 1GB | `./gone.gguf` |"
    settings.write_text(f"{header} Stay Loaded | Precision |\n|---|---|---|---|---|---|\n{row} true | |\n")

    result = CliRunner().invoke(main, ["--settings", str(settings)])

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(
        f"SETTINGS.md line 3 (Chat): {tmp_path}/gone.gguf does not"
    )
