"""The history in PostgreSQL, where several machines share one; by SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from voiceops.errors import ConfigError, UnreachableError
from voiceops.history.schema import HistoryConnection, Value

_TIMEOUT_S = 5
_LOCK_KEY = 0x766F6963656F7073
"""Of the advisory lock that orders the monitors that find an older schema at the same time."""


class PostgresqlHistory:
    """A database at ``postgresql://USER:PASSWORD@HOST/DATABASE``, connected to for each use.

    So a monitor that runs for months does not mind a restart of the server; it connects once a second at most.
    """

    exists = True

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            raise ConfigError("history.url is no URL of a database", path="history.url") from None
        self.place = parsed.set(password=None).render_as_string()
        """What messages call it; without the password."""
        self._engine = create_engine(
            parsed.set(drivername="postgresql+pg8000"),
            poolclass=NullPool,
            connect_args={"timeout": _TIMEOUT_S},
        )

    @contextmanager
    def writing(self) -> Iterator[HistoryConnection]:
        """One transaction, all or nothing; two that write at once come one after the other."""
        with self._translated(), self._engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield _PostgresqlConnection(connection)

    @contextmanager
    def reading(self) -> Iterator[HistoryConnection]:
        """One state of the database."""
        with self._translated(), self._engine.begin() as connection:
            yield _PostgresqlConnection(connection)

    def shrink(self) -> None:
        """PostgreSQL does it by itself."""

    def close(self) -> None:
        """End what is open; safe to call again."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause: object = error.orig if isinstance(error, DBAPIError) and error.orig else error
            arguments = getattr(cause, "args", ())
            fields = arguments[0] if arguments else None
            said = fields.get("M") if isinstance(fields, dict) else cause
            raise UnreachableError(
                f"the history in {self.place} can't be used: {said}",
                hint="look at history.url",
                retryable=True,
            ) from error


class _PostgresqlConnection:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Value] | None = None) -> list[tuple[Value, ...]]:
        result = self._connection.execute(text(statement), dict(values or {}))
        return [tuple(row) for row in result] if result.returns_rows else []

    def execute_many(self, statement: str, values: Sequence[Mapping[str, Value]]) -> int:
        return self._connection.execute(text(statement), [dict(one) for one in values]).rowcount

    def has_table(self, name: str) -> bool:
        return inspect(self._connection).has_table(name)
