"""The kind ``letta``: its database, its password, and what it is started after."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named
from voiceops.adapters.binaries import letta, letta_install
from voiceops.errors import ConfigError
from voiceops.kinds.letta import LettaService
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.postgres import PostgresService
from voiceops.kinds.redis import RedisService
from voiceops.model.secret import Secret
from voiceops.model.settings import ServiceBase, Settings
from voiceops.wiring.project import Project


def with_letta(**others: ServiceBase) -> Settings:
    services = {**SETTINGS.services, **others, "letta": LettaService(password=Secret("token"))}
    return msgspec.structs.replace(SETTINGS, services=services)


def test_it_uses_the_postgres_of_the_inventory_and_comes_after_it(context: DeclarationContext) -> None:
    postgres = PostgresService(password=Secret("p@ss/w%rd"), database="memory", port=5433)
    declared = named(declare(with_letta(postgres=postgres), context), "letta")
    assert declared.env["LETTA_PG_URI"] == "postgresql://postgres:p%40ss%2Fw%25rd@127.0.0.1:5433/memory"
    assert declared.env["LETTA_SERVER_PASSWORD"] == "token"
    assert declared.env["LETTA_SERVER_SECURE"] == "true"
    assert declared.needs == ("postgres",)
    assert "token" not in " ".join(declared.argv)


def test_another_database_of_the_same_postgres_is_another_configuration(context: DeclarationContext) -> None:
    first, second = (
        named(declare(with_letta(postgres=PostgresService(database=name)), context), "letta").digest
        for name in ("one", "two")
    )
    assert first != second


@pytest.mark.parametrize("others", [{}, {"postgres": RedisService(password=Secret("x"))}])
def test_without_a_postgres_it_says_what_to_add(
    context: DeclarationContext, others: dict[str, ServiceBase]
) -> None:
    with pytest.raises(ConfigError, match="Letta needs a PostgreSQL") as refused:
        declare(with_letta(**others), context)
    assert refused.value.path == "services.letta"


def test_its_environment_is_named_by_the_locked_version() -> None:
    assert f"\nletta=={letta.VERSION} " in letta_install.LOCK.read_text()


def test_nothing_of_its_environment_needs_a_compiler() -> None:
    names = {line.partition("==")[0] for line in letta_install.LOCK.read_text().splitlines() if "==" in line}
    assert "psycopg2-binary" in names
    assert "psycopg2" not in names


@pytest.mark.parametrize(
    ("letta", "conditions"),
    [
        (LettaService(), {"postgres": "ready"}),
        (LettaService(needs={"web": "started"}), {"web": "started", "postgres": "ready"}),
        (LettaService(needs={"postgres": "started"}), {"postgres": "started"}),
        (LettaService(store="other"), {}),
        (LettaService(database_url=Secret("postgresql://u:p@h/d")), {}),
    ],
)
def test_its_store_is_a_need_said_or_not(letta: LettaService, conditions: dict[str, str]) -> None:
    settings = Settings(project="test", services={"letta": letta, "postgres": PostgresService()})
    assert settings.services["letta"].need_conditions == conditions


def test_a_store_that_needs_letta_is_a_circle(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "all:\n  vars:\n    project: p\n    services:\n      letta:\n        kind: letta\n"
        "      postgres:\n        kind: postgres\n        needs: [letta]\n"
    )
    with pytest.raises(ConfigError, match="in a circle: letta -> postgres -> letta") as refused:
        Project.load(inventory=str(inventory))
    assert refused.value.line is not None
