"""Redis writes its title over its arguments and its environment: it is found and known again all the same."""

from __future__ import annotations

import shutil
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
