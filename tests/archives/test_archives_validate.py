"""Archives that must never reach TorchServe, each named by its fault."""

from __future__ import annotations

import contextlib
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archives.archive import CONFIG, MANIFEST, InvalidArchiveError, validate_archive, write_archive
from archives.prepare import Prepared
from archives.weights_info import WeightsInfo
from archives.worker_archive import WorkerPlan, archive_spec
from conductor_core.catalogue import ModelRef
from tests.archives.samples import make_row

STUB = "chat_handler.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    plan = WorkerPlan("chat", make_row(ModelRef("path", "./a.gguf")), "openvino", "cpu", 1, None, None)
    prepared = Prepared(folder, "x", WeightsInfo("llama", 1, 1, "Q4_1", 1), made=False)
    write_archive(archive_spec(plan, prepared), folder / "chat.mar")
    return folder / "chat.mar"


def _without(name: str) -> Callable[[dict[str, bytes]], object]:
    return lambda members: members.pop(name)


def _with(name: str, content: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda members: members.update({name: content})


def _manifest(**model: object) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        values = json.loads(members[MANIFEST])
        values["model"].update(model)
        members[MANIFEST] = json.dumps(values).encode()

    return change


TWO_CLASSES = b"class A: pass\nclass B: pass\n"
FAULTS = [
    (_without(MANIFEST), "MANIFEST.json is missing"),
    (_without(CONFIG), "model-config.yaml is missing"),
    (_without(STUB), "chat_handler.py is missing"),
    (_without("handlers/engine_handler.py"), "engine_handler.py is missing"),
    (_with(MANIFEST, b"["), "Expecting value"),
    (_with(MANIFEST, b"[]"), "does not have the keys"),
    (_with(MANIFEST, b"\xff"), "decode"),
    (_manifest(modelName="../x"), "not a valid TorchServe model name"),
    (_manifest(handler="other.py"), "names another handler"),
    (_manifest(extensions="x"), "does not have the keys"),
    (_manifest(modelVersion=1), "a value that is not a string"),
    (_manifest(modelVersion="0"), "different versions"),
    (_with(CONFIG, b"conductor: {}"), "not a worker's configuration"),
    (_with(CONFIG, b"- 1"), "not a worker's configuration"),
    (_with(CONFIG, b"a: !!python/object:os.system x"), "not a worker's configuration"),
    (_with(STUB, TWO_CLASSES), "has 2 classes, TorchServe needs exactly one"),
    (_with(STUB, b"x = 1"), "has 0 classes"),
    (_with(STUB, b"class :"), "invalid syntax"),
    (_with("../evil", b"x"), "'../evil' is not a plain relative path"),
    (_with("handlers/../../evil", b"x"), "is not a plain relative path"),
    (_with("/etc/evil", b"x"), "'/etc/evil' is not a plain relative path"),
    (_with("a\\..\\evil", b"x"), "is not a plain relative path"),
    (_with("a//b", b"x"), "is not a plain relative path"),
    (_with("folder/", b""), "is not a plain relative path"),
    (_with("bomb", bytes(15_000_000)), "unpacks to more than 1000 times its size"),
    (_with("big", bytes(17_000_000)), "more than 16777216"),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_a_faulty_archive_is_refused_with_its_fault(
    whole: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], object], fault: str
) -> None:
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    bad = tmp_path / "bad.mar"
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    with pytest.raises(InvalidArchiveError) as caught:
        validate_archive(bad)

    assert str(caught.value).startswith("bad.mar: ")
    assert fault in str(caught.value)
    assert str(caught.value).endswith("; build it again")


def _rewritten(whole: Path, target: Path, extra: zipfile.ZipInfo, content: bytes) -> Path:
    target.write_bytes(whole.read_bytes())
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(extra, content)
    return target


def test_a_symbolic_link_is_refused(whole: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(InvalidArchiveError, match="member link is not a regular file"):
        validate_archive(_rewritten(whole, tmp_path / "bad.mar", link, b"/etc/passwd"))


def test_two_members_of_one_name_are_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        bad = _rewritten(whole, tmp_path / "bad.mar", zipfile.ZipInfo(STUB), b"class A: pass")

    with pytest.raises(InvalidArchiveError, match="two with the same name"):
        validate_archive(bad)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PK\x05\x06" + bytes(18)])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.mar").write_bytes(content)

    with pytest.raises(InvalidArchiveError):
        validate_archive(tmp_path / "bad.mar")


def test_an_archive_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArchiveError, match="there is no such archive"):
        validate_archive(tmp_path / "none.mar")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_archive_is_always_refused(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    (tmp_path / "bad.mar").write_bytes(content[:length])

    with pytest.raises(InvalidArchiveError):
        validate_archive(tmp_path / "bad.mar")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_refused_or_harmless_but_never_a_traceback(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "bad.mar").write_bytes(content)

    with contextlib.suppress(InvalidArchiveError):
        validate_archive(tmp_path / "bad.mar")
