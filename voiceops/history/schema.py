"""The tables of the history, and the steps that bring an older database to them.

Each step is plain SQL that SQLite and PostgreSQL both understand. A step that was released is never changed: the next
one is added behind it. Statements are made of the record types, and a test compares those with what the steps build.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Union, get_args

import msgspec

from voiceops.errors import StorageError
from voiceops.model.history import StoredRecord

Migration = tuple[str, ...]
Value = Union[str, float, int, bool, None]

MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE calls (id TEXT PRIMARY KEY, host TEXT NOT NULL, kind TEXT NOT NULL,"
        " started_at DOUBLE PRECISION NOT NULL, ended_at DOUBLE PRECISION, answer_s DOUBLE PRECISION,"
        " outcome TEXT, detail TEXT NOT NULL, caller TEXT)",
        "CREATE INDEX calls_by_time ON calls (started_at)",
        "CREATE TABLE incidents (id TEXT PRIMARY KEY, host TEXT NOT NULL, cause TEXT NOT NULL, subject TEXT NOT NULL,"
        " sentence TEXT NOT NULL, fix TEXT NOT NULL, began_at DOUBLE PRECISION NOT NULL, ended_at DOUBLE PRECISION)",
        "CREATE INDEX incidents_by_time ON incidents (began_at)",
        "CREATE TABLE repairs (id TEXT PRIMARY KEY, host TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " action TEXT NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL, incident TEXT NOT NULL,"
        " ok BOOLEAN NOT NULL, error TEXT NOT NULL, took_s DOUBLE PRECISION NOT NULL, attempt INTEGER NOT NULL)",
        "CREATE INDEX repairs_by_time ON repairs (at)",
        "CREATE TABLE deploys (id TEXT PRIMARY KEY, host TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " action TEXT NOT NULL, ok BOOLEAN NOT NULL, release TEXT NOT NULL, changed_count INTEGER NOT NULL,"
        ' "by" TEXT NOT NULL, detail TEXT NOT NULL, took_s DOUBLE PRECISION NOT NULL)',
        "CREATE INDEX deploys_by_time ON deploys (at)",
        "CREATE TABLE checks (id TEXT PRIMARY KEY, host TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " ok BOOLEAN NOT NULL, took_s DOUBLE PRECISION NOT NULL, worker_count INTEGER, call_count INTEGER,"
        " room_count INTEGER, waiting_count INTEGER, stuck_count INTEGER)",
        "CREATE INDEX checks_by_time ON checks (at)",
    ),
)
"""The first brings an empty database to version 1, and so on."""

VERSION_TABLE = "voiceops_history_version"


class HistoryConnection(Protocol):
    """A transaction of one of the databases; parameters are written ``:name``."""

    def execute(self, statement: str, values: Mapping[str, Value] | None = None) -> list[tuple[Value, ...]]:
        """Run one statement and return its rows."""
        ...

    def execute_many(self, statement: str, values: Sequence[Mapping[str, Value]]) -> int:
        """Run one statement for each; return how many rows it touched."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether there is a table of this name."""
        ...


def columns_of(kind: type[StoredRecord]) -> dict[str, bool]:
    """Return the columns of a record type, each with whether it may be unknown."""
    return {field.name: type(None) in get_args(field.type) for field in msgspec.structs.fields(kind)}


def upsert(kind: type[StoredRecord]) -> str:
    """Return the statement that writes a record; one with its id keeps what the new one does not know."""
    columns = columns_of(kind)
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(f":{name}" for name in columns)
    changes = ", ".join(
        f'"{name}" = coalesce(excluded."{name}", {kind.table}."{name}")'
        if optional
        else f'"{name}" = excluded."{name}"'
        for name, optional in columns.items()
        if name != "id"
    )
    return f"INSERT INTO {kind.table} ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {changes}"


def version_of(connection: HistoryConnection) -> int:
    """Return the version of the database; 0: it is empty."""
    if not connection.has_table(VERSION_TABLE):
        return 0
    ((version,),) = connection.execute(f"SELECT version FROM {VERSION_TABLE}")
    assert isinstance(version, int)
    return version


def refuse_newer(version: int, migrations: Sequence[Migration], place: str) -> None:
    """Raise ``StorageError`` for a database that a newer voiceops has written."""
    if version > len(migrations):
        raise StorageError(
            f"the history in {place} has schema {version}, and this voiceops knows schemas up to {len(migrations)}",
            hint="update voiceops; what happens until then is not recorded",
        )


def migrate(connection: HistoryConnection, migrations: Sequence[Migration], place: str) -> None:
    """Bring the database to the newest version, within the transaction of ``connection``."""
    version = version_of(connection)
    refuse_newer(version, migrations, place)
    if version == len(migrations):
        return
    if version == 0:
        connection.execute(f"CREATE TABLE {VERSION_TABLE} (version INTEGER NOT NULL)")
        connection.execute(f"INSERT INTO {VERSION_TABLE} VALUES (0)")
    for step in migrations[version:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"UPDATE {VERSION_TABLE} SET version = :version", {"version": len(migrations)})
