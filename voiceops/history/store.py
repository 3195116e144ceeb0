"""Read and write the history: one transaction for each batch, so that a reader and a kill see all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import unquote

import msgspec

from voiceops.history.schema import (
    MIGRATIONS,
    HistoryConnection,
    Migration,
    Value,
    columns_of,
    migrate,
    refuse_newer,
    upsert,
    version_of,
)
from voiceops.history.sqlite import SqliteHistory
from voiceops.model.history import (
    RECORD_TYPES,
    CheckRecord,
    HistoryRecord,
    IncidentRecord,
    StoredRecord,
)

T = TypeVar("T", bound=StoredRecord)
_SQLITE = "sqlite:///"


class HistoryDatabase(Protocol):
    """Where the history is kept. Errors are ``StorageError`` for a file, ``UnreachableError`` for a server."""

    @property
    def exists(self) -> bool:
        """Whether anything may have been written."""
        ...

    def writing(self) -> AbstractContextManager[HistoryConnection]:
        """One transaction that is committed when the block ends."""
        ...

    def reading(self) -> AbstractContextManager[HistoryConnection]:
        """One state of the database."""
        ...

    def shrink(self) -> None:
        """Give back what deleted records have freed."""
        ...

    def close(self) -> None:
        """End what is open; safe to call again."""
        ...


class MostRooms(NamedTuple):
    """The most that any check counted; None: no check has counted."""

    room_count: int | None
    waiting_count: int | None
    stuck_count: int | None


NO_ROOMS = MostRooms(None, None, None)


class HistoryStore:
    """The history at one URL: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``."""

    def __init__(self, url: str, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._migrations = migrations
        self._database, self._place = _database(url)

    def write(self, records: Sequence[HistoryRecord]) -> None:
        """Write all records or none; one with a known id replaces it, keeping what the new one does not know.

        ``StorageError``: full disk, unwritable or damaged file, a newer schema; ``UnreachableError``: no PostgreSQL.
        """
        with self._writing() as connection:
            for kind in RECORD_TYPES:
                rows: list[Mapping[str, Value]] = [
                    msgspec.structs.asdict(one) for one in records if one.table == kind.table
                ]
                if rows:
                    connection.execute_many(upsert(kind), rows)

    def prune(self, before: float) -> int:
        """Delete what is older; an incident and a call go by when they began. Return how many records went."""
        with self._writing() as connection:
            gone = sum(
                connection.execute_many(
                    f"DELETE FROM {kind.table} WHERE {kind.time_column} < :before", [{"before": before}]
                )
                for kind in RECORD_TYPES
            )
        if gone:
            self._database.shrink()
        return gone

    def read(
        self, kind: type[T], *, since: float = 0.0, hosts: Sequence[str] = (), limit: int | None = None
    ) -> list[T]:
        """Records since then, the oldest first; of ``hosts`` only, if any are named; with ``limit`` the newest ones."""
        return self._read(kind, *_where(kind, since, hosts), limit)

    def open_incidents(self, *, hosts: Sequence[str] = (), limit: int | None = None) -> list[IncidentRecord]:
        """Incidents that go on, the oldest first; with ``limit`` the newest ones."""
        where, values = _where(IncidentRecord, 0.0, hosts)
        return self._read(IncidentRecord, f"{where} AND ended_at IS NULL", values, limit)

    def _read(self, kind: type[T], where: str, values: Mapping[str, Value], limit: int | None) -> list[T]:
        names = list(columns_of(kind))
        columns = ", ".join(f'"{name}"' for name in names)
        statement = f"SELECT {columns} FROM {kind.table} {where} ORDER BY {kind.time_column} DESC, id"
        if limit is not None:
            statement += f" LIMIT {limit:d}"
        with self._reading() as connection:
            rows = [] if connection is None else connection.execute(statement, values)
        # SQLite has no booleans: 0 and 1 are what it returns.
        found = [msgspec.convert(dict(zip(names, row, strict=True)), kind, strict=False) for row in rows]
        return found[::-1]

    def most_rooms(self, *, since: float = 0.0, hosts: Sequence[str] = ()) -> dict[str, MostRooms]:
        """For each host with checks since then, the most rooms that one of them counted."""
        where, values = _where(CheckRecord, since, hosts)
        statement = (
            "SELECT host, max(room_count), max(waiting_count), max(stuck_count)"
            f" FROM {CheckRecord.table} {where} GROUP BY host"
        )
        with self._reading() as connection:
            rows = [] if connection is None else connection.execute(statement, values)
        return {str(row[0]): msgspec.convert(row[1:], MostRooms) for row in rows}

    def close(self) -> None:
        """End what is open; safe to call again."""
        self._database.close()

    @contextmanager
    def _writing(self) -> Iterator[HistoryConnection]:
        with self._database.writing() as connection:
            migrate(connection, self._migrations, self._place)
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[HistoryConnection | None]:
        """A connection to a database of this schema; None where nothing was ever written."""
        if not self._database.exists:
            yield None
            return
        with self._database.reading() as connection:
            version = version_of(connection)
        refuse_newer(version, self._migrations, self._place)
        if 0 < version < len(self._migrations):
            self.write(())  # an older schema lacks columns
        if version == 0:
            yield None
            return
        with self._database.reading() as connection:
            yield connection


def _database(url: str) -> tuple[HistoryDatabase, str]:
    if url.startswith(_SQLITE):
        file = SqliteHistory(Path(unquote(url.removeprefix(_SQLITE))))
        return file, file.place
    # SQLAlchemy and a driver: most histories are files.
    from voiceops.history.postgresql import PostgresqlHistory

    server = PostgresqlHistory(url)
    return server, server.place


def _where(kind: type[StoredRecord], since: float, hosts: Sequence[str]) -> tuple[str, Mapping[str, Value]]:
    values: dict[str, Value] = {
        "since": since,
        **{f"host{number}": host for number, host in enumerate(hosts)},
    }
    names = ", ".join(f":host{number}" for number in range(len(hosts)))
    return f"WHERE {kind.time_column} >= :since" + (f" AND host IN ({names})" if names else ""), values
