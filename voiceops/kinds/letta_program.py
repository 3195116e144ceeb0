"""Runs in Letta's own environment: makes the tables that its wheel has no migrations for, then becomes its server.

Imports nothing of voiceops. It gets LETTA_PG_URI and LETTA_SERVER_PASSWORD, and keeps that password out of the log, into
which Letta would write it. The current folder is the one of its files.
"""

from __future__ import annotations

import argparse
import configparser
import importlib
import os
import pkgutil
import sys
from typing import TextIO

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError


class MaskedStream:
    """A stream that writes no secret."""

    def __init__(self, stream: TextIO, secret: str) -> None:
        self._stream = stream
        self._secret = secret

    def write(self, text: str) -> int:
        return self._stream.write(text.replace(self._secret, "***") if self._secret else text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


NUMBER_MESSAGES = """
CREATE SEQUENCE IF NOT EXISTS message_seq_id OWNED BY messages.sequence_id;
SELECT setval('message_seq_id', (SELECT coalesce(max(sequence_id), 0) + 1 FROM messages), false);
ALTER TABLE messages ALTER COLUMN sequence_id SET DEFAULT nextval('message_seq_id')
"""
"""Its migrations have this, its tables don't: without it, Letta can't make an agent."""


def make_tables(uri: str) -> None:
    """Make Letta's tables, all or none, where there are none."""
    engine = create_engine(uri.replace("postgresql://", "postgresql+pg8000://", 1))
    with engine.begin() as connection:
        if not connection.execute(text("SELECT to_regclass('organizations')")).scalar():
            print("making the tables of Letta", flush=True)
            for module in pkgutil.iter_modules(importlib.import_module("letta.orm").__path__):
                importlib.import_module(f"letta.orm.{module.name}")
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            importlib.import_module("letta.orm.base").Base.metadata.create_all(connection)
        default = (
            "SELECT column_default FROM information_schema.columns "
            "WHERE table_name = 'messages' AND column_name = 'sequence_id'"
        )
        if connection.execute(text(default)).scalar() is None:
            for statement in NUMBER_MESSAGES.split(";"):
                connection.execute(text(statement))


def in_child(uri: str) -> None:
    """Make the tables in a process of its own: with all of its tables imported, Letta's server does not start."""
    child = os.fork()
    if not child:
        code = 1
        try:
            make_tables(uri)
            code = 0
        except SQLAlchemyError as error:
            print(getattr(error, "orig", error), file=sys.stderr)
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(
            "the tables of Letta can't be made: it needs a PostgreSQL with pgvector that takes its login"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    os.environ["HOME"] = os.environ["LETTA_DIR"] = os.getcwd()
    sys.stdout = MaskedStream(sys.stdout, os.environ.get("LETTA_SERVER_PASSWORD", ""))
    in_child(os.environ["LETTA_PG_URI"])
    # Letta keeps the URI in an .ini file, where a "%", as an escaped password has, would be an interpolation.
    vars(configparser).update(ConfigParser=configparser.RawConfigParser)
    sys.argv = ["letta"]
    server = importlib.import_module("letta.server.rest_api.app")
    server.start_server(host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
