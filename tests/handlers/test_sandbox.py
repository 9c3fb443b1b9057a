"""A hostile check reaches no network, no file and no process, and harms no later check."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from handlers.sandbox import confinement, file_rules, syscall_filter
from handlers.sandbox.fair_queue import QueueBounds
from handlers.sandbox.pool import Pool
from handlers.sandbox.template import PACKAGE, ChildLimits
from handlers.wire import GenerateRequest
from tests.handlers.hostile_engine import ATTACKS

needs_landlock = pytest.mark.skipif(
    file_rules.lacking() is not None, reason="the kernel does not support Landlock"
)
needs_seccomp = pytest.mark.skipif(
    syscall_filter.lacking() is not None, reason="the kernel does not support seccomp filters"
)
pytestmark = [needs_landlock, needs_seccomp]

SECRET = "a secret of the user"
AIMED_AT_FILE = {
    "read",
    "read_through_link",
    "write",
    "append",
    "make_folder",
    "link",
    "change_mode",
    "remove",
}
AIMED_AT_ASKER = {"kill_asker", "signal_by_file", "limit_asker", "slow_asker", "trace"}
NOT_REFUSED = {"environment", "print_much"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `handlers` with one more engine."""
    made = tmp_path_factory.mktemp("attacked") / "handlers"
    shutil.copytree(PACKAGE, made, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("hostile_engine.py"), made / "engines" / "hostile.py")
    return made


@pytest.fixture(scope="module")
def pool(package: Path) -> Iterator[Pool]:
    # A variable of the user is set before the template starts.
    os.environ["HF_TOKEN"] = SECRET
    made = Pool(ChildLimits(cpu_s=5.0, memory=256 * 2**20), QueueBounds(running=2), package)
    yield made
    made.close()
    del os.environ["HF_TOKEN"]


async def attack(pool: Pool, name: str, target: str = "") -> dict[str, Any]:
    request = GenerateRequest(id="r", engine="hostile", prompt=target or "none").model_dump(mode="json")
    line = orjson.dumps({"do": "check", "request": request, "text": name}) + b"\n"
    return dict(orjson.loads(await pool.ask("attacker", "hostile", line)))


@pytest.fixture
def victim() -> Iterator[str]:
    """The pid of another process of this user."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield str(process.pid)
        assert process.poll() is None, "an attack has reached it"
        process.kill()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "id_rsa"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - NOT_REFUSED))
async def test_an_attack_is_refused_and_the_next_check_works(
    pool: Pool, name: str, secret: Path, victim: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(secret.parent / "s"))
        unix.listen()
        aims = {
            "connect": str(tcp.getsockname()[1]),
            "connect_unix": str(secret.parent / "s"),
            "list_folder": str(secret.parent),
            **dict.fromkeys(AIMED_AT_FILE, str(secret)),
            **dict.fromkeys(AIMED_AT_ASKER, victim),
        }
        came = await attack(pool, name, aims.get(name, ""))
        for listener in (tcp, unix):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert came["findings"]["came"] == "refused", came
    assert secret.read_text() == SECRET
    assert secret.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(secret.parent)) == ["id_rsa", "s"]
    assert (await attack(pool, "print_much"))["findings"]["came"] == "printed"


async def test_an_attack_sees_no_variable_of_the_user(pool: Pool) -> None:
    assert os.environ["HF_TOKEN"] == SECRET
    came = await attack(pool, "environment")
    assert SECRET not in str(came)
    assert "HOME" not in came["findings"]["came"]


async def test_an_attack_writes_into_no_log(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    await attack(pool, "print_much")
    assert "xxx" not in "".join(capfd.readouterr())


async def test_a_second_client_is_served_while_one_attacks(pool: Pool) -> None:
    attacks = [asyncio.create_task(attack(pool, "open_many")) for _ in range(5)]
    line = orjson.dumps(
        {"do": "check", "text": "{}", "request": {"id": "r", "engine": "summarization", "prompt": "What?"}}
    )
    found = orjson.loads(await pool.ask("other", "summarization", line + b"\n"))
    assert "findings" in found
    assert [one["findings"]["came"] for one in await asyncio.gather(*attacks)] == ["refused"] * 5


def test_only_listed_variables_are_passed_on() -> None:
    around = {
        "HF_TOKEN": SECRET,
        "CONDUCTOR_API_KEY": SECRET,
        "TZ": "UTC",
        "PYTHONPATH": "/x",
        "HOME": "/root",
    }
    given = confinement.environment(around, Path("/project/handlers"))
    assert SECRET not in given.values()
    assert given["TZ"] == "UTC"
    assert given["PYTHONPATH"] == "/project:/x"
    assert "HOME" not in given


def test_what_lies_beside_the_package_may_not_be_read() -> None:
    assert PACKAGE in file_rules.readable(PACKAGE)
    assert PACKAGE.parent not in file_rules.readable(PACKAGE)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_each_machine_is_one_the_kernel_could_read(machine: str) -> None:
    code = syscall_filter.program(machine)
    instructions = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert 50 < len(instructions) < 4096
    for place, one in enumerate(instructions):
        operation, if_so, if_not = one[0], one[2], one[3]
        if operation in (syscall_filter.EQUAL, syscall_filter.ANY_BIT):
            assert place + 1 + max(if_so, if_not) < len(instructions)
    assert instructions[-1][0] == syscall_filter.RETURN


@pytest.mark.parametrize(
    "name", ["socket", "execve", "fork", "kill", "ptrace", "ioctl", "prctl", "mount", "clone", "sendmsg"]
)
def test_the_filter_lists_no_call_that_reaches_out(name: str) -> None:
    assert name not in syscall_filter.PLAIN
