"""A gateway on a full disk: unrecorded actions do not run, keys can be revoked, no error is a plain 500.

On a really full file system, if this user can mount one, and on a simulated one.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from conductor_admin.auth.keys_file import KeysFile, KeysFileError, create_first_key
from conductor_admin.auth.reserve import LEAST_BYTES, Reserve
from conductor_admin.memory.history import MemoryHistory
from conductor_core.catalogue import Catalogue
from conductor_core.owner import write_owner_token
from conductor_core.paths import StateDir
from conductor_core.run_file import RunFile
from tests.conductor_admin.gateway_rig import Rig
from tests.conductor_admin.key_rig import Keys
from tests.odd_files import Disk, pretended_disk, real_disk


@pytest.fixture(params=["real", "pretended"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with real_disk() if request.param == "real" else pretended_disk(monkeypatch) as disk:
        yield disk


@pytest.fixture
def state(disk: Disk) -> StateDir:
    state = StateDir.at(disk.root)
    state.create()
    return state


def results(state: StateDir) -> list[tuple[str, object]]:
    found = [orjson.loads(line) for line in state.audit_file.read_bytes().splitlines()]
    return [(line["action"], line["result"]) for line in found]


async def test_what_cannot_be_recorded_is_not_done_and_the_cure_is_named(disk: Disk, keys: Keys) -> None:
    state, ring = keys.rig.state, keys.rig.gateway.keys
    await keys.ask("POST", "/admin/models/translation/load", keys.admin)
    (state.root / "SETTINGS.md").write_text("broken")
    disk.fill()
    for _ in range(50):  # a real file system gives a file some more bytes than it reported
        if (await keys.ask("POST", "/admin/keys", keys.admin, json={})).status_code == 507:
            break
    before, kept = results(state), state.keys_file.read_bytes()
    for method, path, body in (
        ("POST", "/admin/models/legal_analysis/load", None),
        ("POST", "/admin/models/translation/unload", None),
        ("POST", "/admin/reload", None),
        ("POST", "/admin/keys", {"name": "new"}),
        ("PATCH", "/admin/keys/infer", {"streams": 1}),
    ):
        refused = await keys.ask(method, path, keys.admin, json=body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (507, "insufficient_storage"), path
        assert f"free space in {state.logs}" in error["message"]
    assert results(state) == before
    assert state.keys_file.read_bytes() == kept
    assert len(keys.rig.torchserve.registered) == 1
    assert not keys.rig.torchserve.unregistered
    assert not keys.rig.gateway.settings.issues, "the edit was not even looked at"
    listed = await keys.ask("GET", "/admin/keys", keys.admin)
    assert len(listed.json()["keys"]) == 3, "a look changes nothing"
    assert (await keys.ask("GET", "/admin/keys", None)).status_code == 401
    assert (await keys.ask("POST", "/admin/keys", keys.infer)).status_code == 403
    assert (await keys.ask("POST", "/generate", keys.infer, json={"prompt": "x"})).status_code == 200
    disk.free()
    assert (await keys.ask("POST", "/admin/keys", keys.admin, json={"name": "new"})).status_code == 201
    assert ring.file.read() == ring.all


async def test_a_key_is_revoked_on_a_full_disk_by_the_space_that_is_kept_for_it(
    disk: Disk, keys: Keys
) -> None:
    state = keys.rig.state
    assert state.reserve_file.stat().st_blocks * 512 >= LEAST_BYTES
    disk.fill()
    assert (await keys.ask("DELETE", "/admin/keys/infer", keys.admin)).status_code == 200
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 401
    assert "infer" not in [key.name for key in KeysFile(state).read() or ()]
    assert results(state)[-2:] == [("DELETE /admin/keys/infer", "begun"), ("DELETE /admin/keys/infer", 200)]
    disk.free()
    assert Reserve(state.reserve_file).fill()


async def test_a_key_that_no_disk_takes_is_revoked_in_memory_and_written_later(
    disk: Disk, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, ring, writer = keys.rig.state, keys.rig.gateway.keys, keys.rig.gateway.audit
    monkeypatch.setattr(Reserve, "give_up", lambda self: False)
    disk.fill()
    told = await keys.ask("DELETE", "/admin/keys/infer", keys.admin)
    assert (told.status_code, told.json()["error"]["code"]) == (507, "insufficient_storage")
    for word in ("infer is revoked", "could not be saved", "a restart", f"free space in {state.root}"):
        assert word in told.json()["error"]["message"]
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 401
    listed = (await keys.ask("GET", "/admin/keys", keys.admin)).json()["keys"]
    assert "infer" not in [key["name"] for key in listed]
    ring.tend()
    await keys.rig.until(lambda: ring._writing is not None and ring._writing.done())
    assert "infer" in [key.name for key in KeysFile(state).read() or ()]
    disk.free()
    ring.tend()
    await keys.rig.until(lambda: "infer" not in [key.name for key in KeysFile(state).read() or ()])
    writer.tend()
    await keys.rig.until(lambda: len(results(state)) == 2)
    assert results(state) == [("DELETE /admin/keys/infer", "begun"), ("DELETE /admin/keys/infer", 507)]
    assert (await keys.ask("GET", "/models", keys.both)).status_code == 200


async def test_another_change_of_the_file_brings_no_revoked_key_back(
    disk: Disk, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reserve, "give_up", lambda self: False)
    disk.fill()
    assert (await keys.ask("DELETE", "/admin/keys/infer", keys.admin)).status_code == 507
    disk.free()
    assert (await keys.ask("POST", "/admin/keys", keys.admin, json={"name": "new"})).status_code == 201
    assert (await keys.ask("GET", "/models", keys.infer)).status_code == 401


def test_measurements_that_no_disk_takes_stay_in_memory(
    disk: Disk, state: StateDir, catalogue: Catalogue
) -> None:
    Reserve(state.reserve_file).fill()
    history, one = MemoryHistory(state.peaks_file), catalogue.sets[0]
    disk.fill()
    for seconds in (1.0, 2.0):
        history.loaded(one, "identity", seconds)
    assert history.load_s(one, "identity") == 2.0
    assert not list(state.root.glob("peaks.json*"))
    disk.free()
    history.loaded(one, "identity", 3.0)
    assert MemoryHistory(state.peaks_file).load_s(one, "identity") == 3.0


def test_what_a_start_writes_is_an_error_with_its_path(disk: Disk, state: StateDir) -> None:
    Reserve(state.reserve_file).fill()
    disk.fill()
    for write in (
        lambda: write_owner_token(state),
        lambda: RunFile(state).write(host="127.0.0.1" * 1000),
        lambda: create_first_key(state),
    ):
        with pytest.raises((OSError, KeysFileError), match=str(state.root)):
            write()
    assert not state.first_key.exists()
    assert KeysFile(state).read() is None, "a key whose text was lost would close the gateway"
    RunFile(state).torchserve_spawned(1)  # told in the log: TorchServe runs all the same


async def test_an_answer_comes_though_its_turn_cannot_be_kept(rig: Rig, disk: Disk) -> None:
    if not disk.root.is_mount():
        pytest.skip("only a real disk is full for SQLite")
    kept = await rig.client.post("/generate", json={"prompt": "x", "session": "new"})
    session = kept.json()["session_id"]
    disk.fill()
    answer = await rig.client.post("/generate", json={"prompt": "y" * 300_000, "session_id": session})
    assert answer.status_code == 200
    assert answer.json()["text"]
    (warning,) = answer.json()["findings"]["warnings"]
    assert "cannot be saved" in warning
    assert "free space" in warning
    assert (await rig.client.get(f"/sessions/{session}")).json()["turn_count"] == 1
    title = await rig.client.patch(f"/sessions/{session}", json={"title": "t" * 100})
    assert title.status_code in (200, 507)
    disk.free()
    again = await rig.client.post("/generate", json={"prompt": "y", "session_id": session})
    assert "warnings" not in again.json()["findings"]
