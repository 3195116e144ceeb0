"""Redis writes its title over its arguments and its environment: it is found and known again all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts, stacks
from tests.support.stacks import stack_of
from voiceops.kinds.model import Declared
from voiceops.model.settings import Probe
from voiceops.model.states import ServiceState
from voiceops.stack import operations


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


def redis(folder: Path, port: int, *, digest: str = "one") -> Declared:
    program = shutil.which("redis-server")
    if program is None:
        parts.missing("redis-server", "install Debian's redis-server")
    return Declared(
        name="redis",
        kind="command",
        argv=(program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)),
        cwd=folder,
        digest=digest,
        ports=(port,),
        probe=Probe(tcp=f"127.0.0.1:{port}"),
    )


def test_a_second_start_changes_nothing_and_another_configuration_replaces_it(folder: Path) -> None:
    port = parts.free_port()
    stack, other = (stack_of(folder, redis(folder, port, digest=digest)) for digest in ("one", "two"))
    try:
        first = operations.start(stack)["redis"]
        again = operations.start(stack)["redis"]
        assert (again.changed, again.pid) == (False, first.pid)
        assert operations.check(stack)["redis"].state is ServiceState.READY
        replaced = operations.start(other)["redis"]
        assert replaced.changed
        assert replaced.pid != first.pid
    finally:
        operations.stop(other)
    assert operations.check(other)["redis"].state is ServiceState.MISSING


def test_the_kind_keeps_its_data_and_answers_only_with_its_password(tmp_path: Path) -> None:
    """In a folder with blanks: started, written to, ended by force, started anew, stopped in order."""
    port = parts.free_port()
    folder = tmp_path / "my project"
    folder.mkdir()
    with stacks.project(folder, {"store": {"kind": "redis", "port": port, "append_only": True}}) as made:
        assert made.json("start")["hosts"]["localhost"]["services"]["store"]["state"] == "ready"
        password = (folder / ".env").read_text().partition("STORE_PASSWORD=")[2].split()[0]
        assert ask(port, "", "set", "greeting", "hello").startswith("NOAUTH")
        assert ask(port, password, "set", "greeting", "hello") == "OK"
        assert password not in made.run("status").stdout + (folder / ".voiceops/logs/store.log").read_text()
        (pid,) = made.json("check-running")["hosts"]["localhost"]["services"]["store"]["pids"]
        os.kill(pid, signal.SIGKILL)
        assert made.json("start")["hosts"]["localhost"]["services"]["store"]["changed"]
        assert ask(port, password, "get", "greeting") == "hello"
        made.json("stop")
        assert made.json("start")["changed_count"] == 1
        assert ask(port, password, "get", "greeting") == "hello"


def ask(port: int, password: str, *command: str) -> str:
    program = shutil.which("redis-cli")
    assert program is not None
    done = subprocess.run(
        [program, "-p", str(port), *command],
        env={"REDISCLI_AUTH": password} if password else {},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
