"""The history in a file. The standard library's module: SQLAlchemy would cost the monitor 21 MB and each command 0.2 s."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from voiceops.errors import StorageError
from voiceops.history.schema import HistoryConnection, Value
from voiceops.util.atomic_write import write_error

_BUSY_S = 5.0
_LOG_BYTES = 4_194_304


class SqliteHistory:
    """A database file; it is made when something is written."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.place = str(file)

    @property
    def exists(self) -> bool:
        """Whether anything was ever written."""
        return self.file.exists()

    @contextmanager
    def writing(self) -> Iterator[HistoryConnection]:
        """One transaction, all or nothing.

        It takes the write lock at its beginning: a read that turns into a write fails at once where another one writes.
        """
        with self._translated():
            _create(self.file)
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    @contextmanager
    def reading(self) -> Iterator[HistoryConnection]:
        """One state of the database, which waits for no writer."""
        with self._translated(), self._transaction("BEGIN") as connection:
            yield connection

    def shrink(self) -> None:
        """Give back what deleted records have freed."""
        with self._translated(), contextlib.closing(self._connect()) as connection:
            connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page

    def close(self) -> None:
        """Nothing is held open."""

    def _connect(self) -> sqlite3.Connection:
        # Without isolation_level Python begins no transactions on its own, and too late.
        connection = sqlite3.connect(self.file, timeout=_BUSY_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        return connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[HistoryConnection]:
        with contextlib.closing(self._connect()) as connection:
            connection.execute(begin)
            # Closed without a commit, it is rolled back.
            yield _SqliteConnection(connection)
            connection.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error
        except OSError as error:
            raise write_error(self.file.parent, error) from error

    def _error(self, error: sqlite3.Error) -> StorageError:
        code = getattr(error, "sqlite_errorname", "")  # since Python 3.11
        if code == "SQLITE_FULL":
            hint = "free some space"
        elif code in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            hint = f"it is damaged or no database: move it away, as by `mv {self.file} {self.file}.old`"
        else:
            hint = "look whether the disk is full, and whether this user may write the file and its folder"
        return StorageError(f"the history in {self.place} can't be used: {error}", hint=hint)


class _SqliteConnection:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Value] | None = None) -> list[tuple[Value, ...]]:
        return self._connection.execute(statement, dict(values or {})).fetchall()

    def execute_many(self, statement: str, values: Sequence[Mapping[str, Value]]) -> int:
        return self._connection.executemany(statement, [dict(one) for one in values]).rowcount

    def has_table(self, name: str) -> bool:
        return bool(self.execute("SELECT 1 FROM sqlite_master WHERE name = :name", {"name": name}))


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
