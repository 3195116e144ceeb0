"""The history in a real PostgreSQL that several machines share."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.support import parts
from tests.unit.history.records import ALL, CALL, CHECK, DEPLOY
from voiceops.errors import ConfigError, StorageError, UnreachableError
from voiceops.history.schema import MIGRATIONS
from voiceops.history.store import HistoryStore
from voiceops.model.history import RECORD_TYPES, CallRecord, DeployRecord

PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL of our own, without its database's name."""
    programs = parts.postgresql()
    # It refuses to run as root, and its user can't enter pytest's folders.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="voiceops-pg-"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, user)
    initdb: list[str | Path] = [
        programs / "initdb",
        "-D",
        folder / "data",
        "-U",
        "voiceops",
        "-A",
        "scram-sha-256",
        "-N",
    ]
    subprocess.run(
        [*initdb, f"--pwfile={folder / 'password'}"], user=user, cwd=folder, check=True, capture_output=True
    )
    port = parts.free_port()
    options: list[str | Path] = [
        "-D",
        folder / "data",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        "-k",
        folder,
        "-F",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", *options], user=user, cwd=folder, stdout=log, stderr=log
        )
    url = f"postgresql://voiceops:{PASSWORD}@127.0.0.1:{port}/"
    try:
        _wait(f"{url}postgres", process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)
        shutil.rmtree(folder)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            HistoryStore(url).read(CallRecord)
            return
        except UnreachableError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """A database of its own."""
    from sqlalchemy import create_engine, text

    name = f"history{abs(hash(request.node.name))}"
    engine = create_engine(f"{server}postgres".replace("://", "+pg8000://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{server}{name}"


def test_it_keeps_the_same_as_a_file(url: str) -> None:
    store = HistoryStore(url)
    assert store.read(CallRecord) == []
    store.write(ALL)
    store.write([msgspec.structs.replace(CALL, answer_s=0.4), msgspec.structs.replace(CALL, ended_at=160.0)])

    (call,) = store.read(CallRecord, hosts=["web1", "web2"])
    assert (call.answer_s, call.ended_at) == (0.4, 160.0)
    assert [one for kind in RECORD_TYPES[1:] for one in store.read(kind)] == list(ALL[1:])
    assert store.read(DeployRecord, hosts=["web1"]) == []
    assert store.most_rooms()["web1"].room_count == CHECK.room_count
    assert store.prune(115.0) == 2
    assert store.read(DeployRecord, limit=1) == [DEPLOY]


def test_many_hosts_that_find_an_empty_database_at_once_make_its_tables_once(url: str) -> None:
    def write(number: int) -> None:
        HistoryStore(url).write([msgspec.structs.replace(CALL, id=str(number), host=f"web{number}")])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    assert len(HistoryStore(url).read(CallRecord)) == 6


def test_a_batch_that_fails_leaves_nothing_and_a_newer_schema_is_left_alone(url: str) -> None:
    with pytest.raises(UnreachableError):
        HistoryStore(url).write([CALL, msgspec.structs.replace(DEPLOY, by=None)])
    assert HistoryStore(url).read(CallRecord) == []
    HistoryStore(url, migrations=(*MIGRATIONS, ("ALTER TABLE calls ADD COLUMN room TEXT",))).write(())
    with pytest.raises(StorageError, match="has schema 2") as caught:
        HistoryStore(url).write([CALL])
    assert PASSWORD not in caught.value.message


def test_a_server_that_is_not_there_or_refuses_is_named_without_the_password(url: str) -> None:
    wrong = [url.replace(PASSWORD, "wrong-password"), f"postgresql://voiceops:{PASSWORD}@127.0.0.1:1/x"]
    for one in wrong:
        with pytest.raises(UnreachableError, match="can't be used") as caught:
            HistoryStore(one).read(CallRecord)
        assert "wrong-password" not in caught.value.message
        assert PASSWORD not in caught.value.message
    with pytest.raises(ConfigError, match=r"at history\.url"):
        HistoryStore("postgresql://host:port/x")
