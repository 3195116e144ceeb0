"""The tables of the history, and the steps that bring an older database to them.

Each step is plain SQL that SQLite and PostgreSQL both understand. A step that was released is never changed: the next
one is added behind it. ``TABLES`` is made of the record types, and a test compares it with what the steps build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import msgspec
from sqlalchemy import Boolean, Column, Connection, Double, Integer, MetaData, Table, Text, inspect, text

from voiceops.errors import StorageError
from voiceops.model.history import RECORD_TYPES, HistoryRecord

Migration = tuple[str, ...]

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

_VERSION_TABLE = "voiceops_history_version"
_PLAIN = {str: Text, float: Double, int: Integer, bool: Boolean}
_METADATA = MetaData()


def _table(kind: type[HistoryRecord]) -> Table:
    columns = []
    for field in msgspec.structs.fields(kind):
        inner = [one for one in getattr(field.type, "__args__", (field.type,)) if one is not type(None)]
        nullable = getattr(field.type, "__origin__", None) is Union or len(inner) < len(
            getattr(field.type, "__args__", (field.type,))
        )
        columns.append(
            Column(field.name, _PLAIN[inner[0]](), nullable=nullable, primary_key=field.name == "id")
        )
    return Table(kind.table, _METADATA, *columns)


TABLES = {kind.table: _table(kind) for kind in RECORD_TYPES}


def version_of(connection: Connection) -> int:
    """Return the version of the database; 0: it is empty."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return 0
    return int(connection.execute(text(f"SELECT version FROM {_VERSION_TABLE}")).scalar_one())


def refuse_newer(version: int, migrations: Sequence[Migration], place: str) -> None:
    """Raise ``StorageError`` for a database that a newer voiceops has written."""
    if version > len(migrations):
        raise StorageError(
            f"the history in {place} has schema {version}, and this voiceops knows schemas up to {len(migrations)}",
            hint="update voiceops; what happens until then is not recorded",
        )


def migrate(connection: Connection, migrations: Sequence[Migration], place: str) -> None:
    """Bring the database to the newest version, within the transaction of ``connection``."""
    version = version_of(connection)
    refuse_newer(version, migrations, place)
    if version == len(migrations):
        return
    if version == 0:
        connection.execute(text(f"CREATE TABLE {_VERSION_TABLE} (version INTEGER NOT NULL)"))
        connection.execute(text(f"INSERT INTO {_VERSION_TABLE} VALUES (0)"))
    for step in migrations[version:]:
        for statement in step:
            connection.execute(text(statement))
    connection.execute(text(f"UPDATE {_VERSION_TABLE} SET version = :version"), {"version": len(migrations)})
