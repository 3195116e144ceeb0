"""The kind ``postgres`` on a real one: made, written to, killed, given another password, refused what it must refuse."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import parts, stacks
from tests.support.stacks import Project
from voiceops.adapters.binaries import postgresql

PASSWORD = "p\"w $HOME 'quoted' \\ `id` %s äöü"


@pytest.fixture(scope="module")
def port() -> int:
    return parts.free_port()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Project]:
    """A stack in a folder with blanks, whose path is longer than a unix socket's may be."""
    parts.embedded_postgresql()
    folder = tmp_path_factory.mktemp("postgres") / ("a folder " * 12).strip()
    services = {
        "db": {"kind": "postgres", "port": port, "database": "letta", "password": {"file": "password"}}
    }
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    livekit = {"url": f"ws://127.0.0.1:{parts.free_port()}", "api_key": "key", "api_secret": "s" * 32}
    with stacks.project(folder, services, livekit=livekit) as made:
        made.json("start")
        yield made


def ask(port: int, statement: str, password: str = PASSWORD) -> str:
    done = subprocess.run(
        [
            parts.embedded_postgresql() / "psql",
            "-Xwqtc",
            statement,
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "postgres",
            "letta",
        ],
        env={"PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def pid_of(project: Project) -> int:
    (pid,) = project.json("check-running")["hosts"]["localhost"]["services"]["db"]["pids"]
    return int(pid)


def test_what_was_written_outlives_a_kill_and_a_stop(project: Project, port: int) -> None:
    assert "password authentication failed" in ask(port, "select 1", "wrong")
    ask(port, "create extension vector; create table t as select '[1,2]'::vector as v")
    first = pid_of(project)
    assert project.json("start")["changed_count"] == 0
    os.kill(first, signal.SIGKILL)
    assert down(project) == ("db does not run, and nobody has stopped it.", "inv start --only db")
    assert project.json("start")["changed_count"] == 1
    assert ask(port, "select v from t") == "[1,2]"
    project.json("stop")
    project.json("start")
    assert ask(port, "select v from t") == "[1,2]"
    log = (project.folder / ".voiceops/logs/db.log").read_text()
    assert "received fast shutdown request" in log
    assert "$HOME" not in log
    data = project.folder / ".voiceops/data/db/cluster"
    assert data.stat().st_mode & 0o777 == 0o700
    assert data.stat().st_uid == os.geteuid()


def test_another_password_is_the_only_one_that_counts(project: Project, port: int) -> None:
    (project.folder / "password").write_text("another one")
    try:
        project.json("start")
        assert ask(port, "select 7", "another one") == "7"
        assert "password authentication failed" in ask(port, "select 1")
    finally:
        (project.folder / "password").write_text(PASSWORD)
        project.json("start")
    assert ask(port, "select 7") == "7"


def test_a_password_that_somebody_changed_by_hand_is_named(project: Project, port: int) -> None:
    ask(port, "alter role postgres password 'by hand'")
    try:
        seen = project.json("check-running", code=2)["hosts"]["localhost"]["services"]["db"]
        assert "password authentication failed" in seen["detail"]
        refused = "db refuses the password of the inventory, though it was started with it: "
        refused += "somebody has changed it in the service itself."
        assert down(project, "refused-password") == (refused, "inv restart --only db")
    finally:
        project.json("restart", "--only", "db")
    assert ask(port, "select 7") == "7"


def test_what_it_can_not_start_on_is_named(project: Project, port: int) -> None:
    project.json("stop")
    version = project.folder / ".voiceops/data/db/cluster/PG_VERSION"
    try:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            assert f"port {port} is taken by pid {os.getpid()}" in why_not(project, 1)
        version.write_text("17\n")
        assert "of PostgreSQL 17" in why_not(project, 3)
    finally:
        version.write_text(f"{postgresql.MAJOR}\n")
        project.json("start")


def down(project: Project, rule: str = "service-down") -> tuple[str, str]:
    findings = project.json("why", code=1)["findings"]
    (found,) = [one for one in findings if one["rule"] == rule]
    return found["cause"], found["fix"].replace("./inv", "inv")


def why_not(project: Project, code: int) -> str:
    return str(project.json("start", code=code)["hosts"]["localhost"]["error"]["message"])
