"""The history on a real SQLite: batches as a whole, older and newer schemas, damage, retention."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.unit.history.records import ALL, CALL, DEPLOY, INCIDENT
from voiceops.errors import StorageError
from voiceops.history.schema import MIGRATIONS, columns_of
from voiceops.history.store import HistoryStore
from voiceops.model.history import RECORD_TYPES, CallRecord, DeployRecord


def store_in(folder: Path) -> HistoryStore:
    return HistoryStore(f"sqlite:///{folder / 'history.db'}")


def test_what_was_written_is_read_again_by_host_and_time(tmp_path: Path) -> None:
    store = store_in(tmp_path / "new")
    store.write(ALL)

    assert [one for kind in RECORD_TYPES for one in store.read(kind)] == list(ALL)
    assert store.read(CallRecord, hosts=["web2"]) == []
    assert store.read(DeployRecord, hosts=["web2"], since=130.0) == [DEPLOY]
    assert store.read(DeployRecord, since=130.1) == []


def test_reading_what_nobody_has_written_makes_no_file(tmp_path: Path) -> None:
    assert store_in(tmp_path).read(CallRecord) == []
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store_in(tmp_path).write([CALL])

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_record_written_again_keeps_what_the_new_one_does_not_know(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write([msgspec.structs.replace(CALL, answer_s=0.4, caller="abc")])
    store.write([msgspec.structs.replace(CALL, ended_at=160.0, outcome="answered")])

    (call,) = store.read(CallRecord)
    assert (call.answer_s, call.caller, call.ended_at, call.outcome) == (0.4, "abc", 160.0, "answered")


def test_the_newest_come_with_a_limit_in_order_of_time(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write([msgspec.structs.replace(CALL, id=str(at), started_at=float(at)) for at in range(9)])

    assert [call.id for call in store.read(CallRecord, limit=3)] == ["6", "7", "8"]


def test_an_incident_that_goes_on_is_found_however_many_came_after_it(tmp_path: Path) -> None:
    with contextlib.closing(store_in(tmp_path)) as history:
        later = [
            msgspec.structs.replace(INCIDENT, id=str(number), began_at=200.0 + number, ended_at=999.0)
            for number in range(30)
        ]
        history.write([INCIDENT, *later])
        assert history.open_incidents(hosts=["web1"], limit=5) == [INCIDENT]
        assert history.open_incidents(hosts=["web2"]) == []


def test_a_batch_with_one_record_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(StorageError):
        store.write([CALL, msgspec.structs.replace(INCIDENT, cause=None)])

    assert store.read(CallRecord) == []


def test_what_is_older_goes_and_the_file_shrinks(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(
        [
            msgspec.structs.replace(CALL, id=str(at), started_at=float(at), detail="x" * 500)
            for at in range(2000)
        ]
    )
    store.write(())
    before = (tmp_path / "history.db").stat().st_size

    assert store.prune(1990.0) == 1990
    assert len(store.read(CallRecord)) == 10
    assert (tmp_path / "history.db").stat().st_size < before / 4


def test_the_migrations_build_the_tables_that_the_records_describe(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(())
    with contextlib.closing(sqlite3.connect(tmp_path / "history.db")) as database:
        built = {
            kind.table: {
                str(name): not required or key == 1
                for _, name, _, required, _, key in database.execute(f"PRAGMA table_info({kind.table})")
            }
            for kind in RECORD_TYPES
        }
    declared = {kind.table: columns_of(kind) | {"id": True} for kind in RECORD_TYPES}
    assert built == declared


def test_an_older_schema_is_brought_up_with_what_it_holds(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    HistoryStore(url).write([CALL])
    newer = (*MIGRATIONS, ("ALTER TABLE calls ADD COLUMN room TEXT", "UPDATE calls SET detail = 'moved'"))

    assert HistoryStore(url, migrations=newer).read(CallRecord) == [
        msgspec.structs.replace(CALL, detail="moved")
    ]


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    HistoryStore(url).write([CALL])
    broken = (*MIGRATIONS, ("UPDATE calls SET detail = 'half'", "ALTER TABLE nosuch ADD COLUMN x TEXT"))

    with pytest.raises(StorageError, match="nosuch"):
        HistoryStore(url, migrations=broken).write([DEPLOY])
    assert HistoryStore(url).read(CallRecord) == [CALL]


def test_two_that_find_an_older_schema_at_once_bring_it_up_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"

    def write(number: int) -> None:
        HistoryStore(url).write([msgspec.structs.replace(CALL, id=str(number))])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))

    assert len(HistoryStore(url).read(CallRecord)) == 8


def test_a_newer_schema_is_named_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    HistoryStore(url, migrations=(*MIGRATIONS, ("ALTER TABLE calls ADD COLUMN room TEXT",))).write([CALL])

    for use in (lambda: HistoryStore(url).read(CallRecord), lambda: HistoryStore(url).write([DEPLOY])):
        with pytest.raises(StorageError, match=r"has schema 2, and this voiceops knows schemas up to 1"):
            use()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"not a database " * 100)

    with pytest.raises(StorageError, match=r"history\.db can't be used") as caught:
        store_in(tmp_path).write([CALL])
    if sys.version_info >= (3, 11):  # before, Python does not say which error it was
        assert "move it away" in str(caught.value.hint)


def test_a_reader_waits_for_no_writer(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write([CALL])
    with contextlib.closing(sqlite3.connect(tmp_path / "history.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert store.read(CallRecord) == [CALL]
        assert time.monotonic() - began < 1.0


WRITER = """
import os, signal, sys, time
from voiceops.history.store import HistoryStore
from voiceops.model.history import CallRecord, IncidentRecord

def write(url, number, pipe):
    store = HistoryStore(url)
    while True:
        calls = [CallRecord(id=f"{number}-{one}", host="h", kind="caller", started_at=float(number)) for one in range(5)]
        store.write([*calls, IncidentRecord(id=str(number), host="h", cause="c", began_at=float(number))])
        os.write(pipe, f"{number}\\n".encode())
        number += 1

url, acknowledged = sys.argv[1], -1
for moment in range(20):
    read, pipe = os.pipe()
    child = os.fork()
    if not child:
        write(url, acknowledged + 1, pipe)
    os.close(pipe)
    first = os.read(read, 4096).split()
    time.sleep(0.0007 * moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    lines = [*first, *open(read, "rb").read().split()]
    acknowledged = max([acknowledged, *map(int, lines)])
    incidents = {int(one.id) for one in HistoryStore(url).read(IncidentRecord)}
    assert len(HistoryStore(url).read(CallRecord)) == 5 * len(incidents), "half a batch"
    assert set(range(acknowledged + 1)) <= incidents, "an acknowledged batch is lost"
print(acknowledged)
"""


def test_a_writer_that_is_killed_at_20_moments_leaves_whole_batches(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 19
    with contextlib.closing(sqlite3.connect(tmp_path / "history.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True, timeout=10)
    try:
        store = store_in(disk)
        store.write([CALL])
        (disk / "filler").write_bytes(b"x" * 60_000)
        written = [CALL]

        def fill() -> None:
            for number in range(1000):
                record = msgspec.structs.replace(CALL, id=str(number), detail="x" * 2000)
                store.write([record])
                written.append(record)

        with pytest.raises(StorageError, match=r"can't (be used|write)"):
            fill()
        (disk / "filler").unlink()
        assert len(store.read(CallRecord)) == len(written)
        store.write([msgspec.structs.replace(CALL, id="afterwards")])
        assert len(store.read(CallRecord)) == len(written) + 1
    finally:
        subprocess.run(["umount", disk], check=True, timeout=10)
