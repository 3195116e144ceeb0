"""The kind ``postgres``: its configuration, its password, and data of another version."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named
from voiceops.adapters.binaries import postgresql, postgresql_install
from voiceops.errors import ConfigError
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.postgres import PostgresService
from voiceops.model.secret import Secret
from voiceops.model.settings import Settings
from voiceops.wiring.project import Project


def with_postgres(**changes: object) -> Settings:
    settings = {"password": Secret("p\"w $HOME 'x'"), **changes}
    services = {**SETTINGS.services, "db": PostgresService(**settings)}  # type: ignore[arg-type]
    return msgspec.structs.replace(SETTINGS, services=services)


def test_it_listens_on_loopback_and_its_password_is_on_no_command_line(context: DeclarationContext) -> None:
    declared = named(
        declare(with_postgres(config={"archive_command": "cp '%p' /x", "jit": False}), context), "db"
    )
    assert declared.prepare is not None
    assert not any("$HOME" in word for word in declared.prepare())
    assert declared.env["PGPASSWORD"] == "p\"w $HOME 'x'"
    lines = (context.config_folder / "db.conf").read_text().splitlines()
    assert "listen_addresses = '127.0.0.1'" in lines
    assert "archive_command = 'cp ''%p'' /x'" in lines
    assert "jit = 'false'" in lines
    assert "$HOME" not in (context.config_folder / "db.conf").read_text()
    assert declared.stop_signal == "INT"
    assert declared.cwd == context.root / ".voiceops" / "data" / "db"


def test_data_of_another_major_version_are_refused_with_the_way_out(context: DeclarationContext) -> None:
    cluster = context.root / ".voiceops/data/db/cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text(f"{postgresql.MAJOR}\n")
    declare(with_postgres(), context)
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"of PostgreSQL 9, and .* has 18") as refused:
        declare(with_postgres(), context)
    assert "inv backup" in str(refused.value.hint)
    assert refused.value.path == "services.db"


def test_a_password_with_a_line_break_is_refused(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="line break"):
        declare(with_postgres(password=Secret("two\nlines")), context)


@pytest.mark.parametrize(
    "settings",
    [
        "address: db.example.com",
        'user: "my user"',
        'database: "a;b"',
        "config: {port: 1}",
        'config: {"a b": 1}',
        "bin: pg/bin",
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, settings: str) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        f"all:\n  vars:\n    project: p\n    services:\n      db:\n        kind: postgres\n        {settings}\n"
    )
    with pytest.raises(ConfigError) as refused:
        Project.load(inventory=str(inventory))
    assert refused.value.line == 7


def test_the_folder_of_the_embedded_one_has_the_version_that_is_locked() -> None:
    assert f"=={postgresql.programs().parents[2].name} " in postgresql_install.LOCK.read_text()
