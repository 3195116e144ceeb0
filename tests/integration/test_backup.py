"""Backup and restore of a real PostgreSQL and a real Redis, each tried by an instance of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import parts, stacks
from tests.support.stacks import REPOSITORY, Project

PASSWORD = "p\"w $HOME 'quoted'"


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"db": parts.free_port(), "kv": parts.free_port()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Project]:
    password = {"file": "password"}
    services = {
        "db": {"kind": "postgres", "port": ports["db"], "database": "app", "password": password},
        "kv": {"kind": "redis", "port": ports["kv"], "append_only": True, "password": password},
    }
    parts.embedded_postgresql()
    for program in ("redis-server", "redis-cli"):
        if shutil.which(program) is None:
            parts.missing(program, "install Debian's redis-server")
    folder = tmp_path_factory.mktemp("backup") / "my project"
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    with stacks.project(folder, services) as made:
        made.json("start")
        yield made


def sql(ports: dict[str, int], statement: str) -> str:
    where = ["-h", "127.0.0.1", "-p", str(ports["db"]), "-U", "postgres", "app"]
    argv = [str(parts.embedded_postgresql() / "psql"), "-Xwqtc", statement, *where]
    return run(argv, {"PGPASSWORD": PASSWORD})


def redis(ports: dict[str, int], *command: str) -> str:
    return run(["redis-cli", "-p", str(ports["kv"]), *command], {"REDISCLI_AUTH": PASSWORD})


def run(argv: list[str], env: dict[str, str]) -> str:
    path = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(argv, env=env | path, capture_output=True, text=True, check=True).stdout.strip()


def left_over(project: Project) -> list[Path]:
    base = project.folder / ".voiceops"
    return [*base.glob("scratch/*"), *base.glob("backups/*/.part-*")]


def test_a_restore_brings_back_what_the_backup_holds_and_only_with_yes(
    project: Project, ports: dict[str, int]
) -> None:
    sql(ports, "create extension vector; create table t as select '[1,2]'::vector as v")
    redis(ports, "set", "greeting", "hello")
    for _ in range(2):
        made = project.json("backup", "--keep", "1")["hosts"]["localhost"]["backups"]
    assert [(one["service"], one["object_count"], len(one["removed"])) for one in made] == [
        ("db", 1, 1),
        ("kv", 1, 1),
    ]
    assert {Path(one["file"]).stat().st_mode & 0o777 for one in made} == {0o600}
    sql(ports, "drop table t; create table other as select 1")
    redis(ports, "set", "greeting", "overwritten")
    refused = project.json("restore", code=3)["hosts"]["localhost"]["error"]
    assert "db holds 1 table" in refused["message"]
    assert "--yes" in refused["hint"]
    project.json("restore", "--yes")
    assert sql(ports, "select v from t") == "[1,2]"
    assert sql(ports, "select count(*) from pg_tables where tablename = 'other'") == "0"
    assert redis(ports, "get", "greeting") == "hello"
    assert sql(ports, "select count(*) from pg_database where datname like 'voiceops%'") == "0"
    project.json("restart", "--only", "kv")
    assert redis(ports, "get", "greeting") == "hello", "the restored data outlive the next start"
    assert left_over(project) == []


def test_a_damaged_backup_is_refused_and_replaces_nothing(project: Project, ports: dict[str, int]) -> None:
    sql(ports, "create table if not exists kept as select 5 as x")
    redis(ports, "set", "kept", "5")
    for entry in project.json("backup")["hosts"]["localhost"]["backups"]:
        whole = Path(entry["file"])
        damaged = project.folder / f"damaged{whole.suffix}"
        damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        for file, said in ((damaged, "can't be restored"), (whole, "checksum")):
            only = ("--file", str(file), "--only", entry["service"])
            error = project.json("restore", *only, "--yes", code=1)["hosts"]["localhost"]["error"]
            assert error["type"] == "BackupUnusableError"
            assert said in error["message"]
            whole.write_bytes(damaged.read_bytes())
    assert sql(ports, "select x from kept") == "5"
    assert redis(ports, "get", "kept") == "5"
    assert left_over(project) == []


def test_a_backup_that_is_killed_leaves_no_file_and_the_next_one_ends_what_it_left(project: Project) -> None:
    folder = project.folder / ".voiceops"
    before = set(folder.glob("backups/localhost/db-*"))
    argv = [sys.executable, "-m", "voiceops", "--project", str(project.folder), "backup", "--only", "db"]
    environment = project.environment() | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(argv, cwd=project.folder, env=environment) as killed:
        end = time.monotonic() + 30
        while not list(folder.glob("scratch/try-*/.voiceops/data/scratch/cluster/postmaster.pid")):
            assert time.monotonic() < end
            assert killed.poll() is None
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    assert set(folder.glob("backups/localhost/db-*")) == before
    assert left_over(project) != []
    project.json("backup", "--only", "db")
    assert list(folder.glob("scratch/*")) == []


def test_what_keeps_no_data_can_not_be_backed_up(project: Project) -> None:
    assert "no service 'nosuch'" in project.json("backup", "--only", "nosuch", code=3)["error"]["message"]
    assert (
        "--file is a backup of one service"
        in project.json("restore", "--file", "x", code=3)["error"]["message"]
    )
