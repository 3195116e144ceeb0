"""Read and write the history: one transaction for each batch, so that a reader and a kill see all of it or nothing.

Connections are opened for each use. A monitor that runs for months then notices by itself that somebody has moved the
file away or restarted PostgreSQL, and the cost (0.3 ms, 5 ms) is paid once a second at most.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    Table,
    create_engine,
    delete,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from voiceops.errors import StorageError, UnreachableError
from voiceops.history.schema import MIGRATIONS, TABLES, Migration, migrate, refuse_newer, version_of
from voiceops.model.history import RECORD_TYPES, HistoryRecord
from voiceops.util.atomic_write import write_error

T = TypeVar("T", bound=HistoryRecord)

_BUSY_S = 5.0
_LOG_BYTES = 4_194_304
_LOCK_KEY = 0x766F6963656F7073
"""Of PostgreSQL's advisory lock, which orders the monitors that find an older schema at the same time."""


class MostRooms(NamedTuple):
    """The most that any check counted; None: no check has counted."""

    room_count: int | None
    waiting_count: int | None
    stuck_count: int | None


NO_ROOMS = MostRooms(None, None, None)


class HistoryStore:
    """The history at one URL: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``."""

    def __init__(self, url: str, *, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._url = make_url(url)
        self._migrations = migrations
        self.file = Path(self._url.database or "") if self._url.get_backend_name() == "sqlite" else None
        self.place = str(self.file) if self.file else self._url.render_as_string(hide_password=True)
        """What messages call it; without the password."""
        self._engine = self._make_engine()

    def _make_engine(self) -> Engine:
        if self.file is None:
            return create_engine(
                self._url.set(drivername="postgresql+pg8000"), poolclass=NullPool, connect_args={"timeout": 5}
            )
        engine = create_engine(self._url, poolclass=NullPool, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def write(self, records: Sequence[HistoryRecord]) -> None:
        """Write all records or none; one with a known id replaces it, keeping what the new one does not know.

        ``StorageError``: full disk, unwritable or damaged file, a newer schema; ``UnreachableError``: no PostgreSQL.
        """
        with self._writing() as connection:
            for name, table in TABLES.items():
                if rows := [msgspec.structs.asdict(one) for one in records if one.table == name]:
                    connection.execute(self._upsert(table), rows)

    def prune(self, before: float) -> int:
        """Delete what is older; an incident and a call go by when they began. Return how many records went."""
        with self._writing() as connection:
            gone = 0
            for kind in RECORD_TYPES:
                table = TABLES[kind.table]
                gone += connection.execute(delete(table).where(table.c[kind.time_column] < before)).rowcount
        if gone and self.file is not None:
            with self._translated(), contextlib.closing(self._engine.raw_connection()) as connection:
                connection.cursor().executescript(
                    "PRAGMA incremental_vacuum"
                )  # execute() would free one page
        return gone

    def read(
        self, kind: type[T], *, since: float = 0.0, hosts: Sequence[str] = (), limit: int | None = None
    ) -> list[T]:
        """Records since then, the oldest first; of ``hosts`` only, if any are named; with ``limit`` the newest ones."""
        if self.file is not None and not self.file.exists():
            return []
        table = TABLES[kind.table]
        at = table.c[kind.time_column]
        wanted = select(table).where(at >= since).order_by(at.desc(), table.c.id).limit(limit)
        if hosts:
            wanted = wanted.where(table.c.host.in_(hosts))
        with self._reading() as connection:
            rows = connection.execute(wanted).mappings().all() if connection is not None else []
        return [
            msgspec.convert({str(name): one for name, one in row.items()}, kind) for row in reversed(rows)
        ]

    def most_rooms(self, *, since: float = 0.0, hosts: Sequence[str] = ()) -> dict[str, MostRooms]:
        """For each host with checks since then, the most rooms that one of them counted."""
        if self.file is not None and not self.file.exists():
            return {}
        checks = TABLES["checks"]
        columns = [func.max(checks.c[name]) for name in ("room_count", "waiting_count", "stuck_count")]
        wanted = select(checks.c.host, *columns).where(checks.c.at >= since).group_by(checks.c.host)
        if hosts:
            wanted = wanted.where(checks.c.host.in_(hosts))
        with self._reading() as connection:
            rows = connection.execute(wanted).all() if connection is not None else []
        return {host: MostRooms(*counts) for host, *counts in rows}

    def close(self) -> None:
        """End what is open; safe to call again."""
        self._engine.dispose()

    def _upsert(self, table: Table) -> Executable:
        insert = (sqlite.insert if self.file is not None else postgresql.insert)(table)
        new = insert.excluded
        changes = {
            column.name: func.coalesce(new[column.name], column) if column.nullable else new[column.name]
            for column in table.c
            if column.name != "id"
        }
        return insert.on_conflict_do_update(index_elements=["id"], set_=changes)

    @contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """A connection to a database of this schema; None where nothing was ever written."""
        with self._translated(), self._engine.connect() as connection:
            version = version_of(connection)
            refuse_newer(version, self._migrations, self.place)
            connection.rollback()
            if 0 < version < len(self._migrations):
                self.write(())  # an older schema lacks columns
            yield connection if version else None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated():
            if self.file is not None:
                _create(self.file)
            opened = self._engine.connect().execution_options(voiceops_write=True)
            with opened as connection, connection.begin():
                if self.file is None and version_of(connection) < len(self._migrations):
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
                migrate(connection, self._migrations, self.place)
                yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Foreign errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error
        except OSError as error:
            assert self.file is not None
            raise write_error(self.file.parent, error) from error
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
            raise self._error(cause) from error

    def _error(self, cause: BaseException) -> StorageError | UnreachableError:
        if self.file is None:
            words = cause.args[0] if cause.args else cause
            said = words.get("M") if isinstance(words, dict) else words
            return UnreachableError(
                f"the history in {self.place} can't be used: {said}",
                hint="look at history.url",
                retryable=True,
            )
        code = getattr(cause, "sqlite_errorname", "")
        if code == "SQLITE_FULL":
            hint = "free some space"
        elif code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            hint = f"it is damaged or no database: move it away, as by `mv {self.file} {self.file}.old`"
        else:
            hint = "look whether the disk is full, and whether this user may write the file and its folder"
        return StorageError(f"the history in {self.place} can't be used: {cause}", hint=hint)


def _create(file: Path) -> None:
    """Make the database unless it is there, for its owner alone: SQLite would let everybody read it, its log too.

    It is linked into place when it is complete, so that many may do this at once. The file itself is never opened
    here: closing it would drop the locks that other connections of this process hold on it.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        made = Path(folder) / file.name
        os.close(os.open(made, os.O_RDWR | os.O_CREAT, 0o600))
        with contextlib.closing(sqlite3.connect(made)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        with contextlib.suppress(FileExistsError):
            os.link(made, file)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Python would begin transactions on its own, and too late
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at the beginning: a read that turns into a write fails at once where another one writes."""
    write = connection.get_execution_options().get("voiceops_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
