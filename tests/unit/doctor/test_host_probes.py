"""What is asked of the services of a server, and what is made of the answers."""

from __future__ import annotations

from typing import Any

from voiceops.deploy.desired import host_outline
from voiceops.doctor.host_probes import data_folders, full_disks, service_probes, undeployed_services
from voiceops.errors import ConfigError
from voiceops.kinds.agent import AgentService
from voiceops.kinds.command import CommandService
from voiceops.kinds.postgres import PostgresService
from voiceops.kinds.redis import RedisService
from voiceops.kinds.web import WebService
from voiceops.model.secret import Secret
from voiceops.model.settings import Probe, ServiceBase, Settings
from voiceops.remote.diagnosis_messages import ServiceProbe

READY = "/opt/front/bin/voiceops-ready"


def settings_of(**services: ServiceBase) -> Settings:
    return Settings(project="front", services=services)


def probe_of(service: ServiceBase) -> ServiceProbe:
    settings = settings_of(it=service)
    (found,) = service_probes(settings, host_outline(settings))
    assert found["unit"] == "front-it.service"
    return found


def test_a_database_is_asked_with_the_password_of_the_inventory_which_is_in_no_argument() -> None:
    for service, name in (
        (RedisService(password=Secret("se$cret")), "REDISCLI_AUTH"),
        (PostgresService(password=Secret("se$cret")), "PGPASSWORD"),
    ):
        probe = probe_of(service)
        assert probe["argv"][:4] == [READY, "--timeout-s", "0", "--"]
        assert not any("cret" in word for word in probe["argv"])
        assert probe["env"] == {name: "se$cret"}, "the path of this machine's programs is not the host's"
        assert probe["lines"] == {name: f'{name}="se\\$cret"\n'}
        assert probe["refusals"]


def test_a_password_that_cannot_be_had_is_not_asked_with() -> None:
    def missing() -> str:
        raise ConfigError("REDIS_PASSWORD is not set")

    probe = probe_of(RedisService(password=Secret.of("env", "REDIS_PASSWORD", missing)))
    assert (probe["argv"], probe["env"], probe["lines"]) == ([], {}, {})


def test_what_the_inventory_sets_for_the_service_itself_is_not_compared() -> None:
    probe = probe_of(RedisService(password=Secret("a"), env={"REDISCLI_AUTH": "b"}))
    assert probe["lines"] == {}


def test_other_services_are_asked_by_their_probe_agents_and_one_shots_are_not() -> None:
    settings = settings_of(
        agent=AgentService(entry="agent.py"),
        page=WebService(),
        api=CommandService(command=["x"], probe=Probe(http="http://127.0.0.1:80/")),
        migrate=CommandService(command=["x"], oneshot=True),
    )
    asked = {one["unit"]: one["argv"][3:] for one in service_probes(settings, host_outline(settings))}
    assert asked == {"front-page.service": [], "front-api.service": ["--http", "http://127.0.0.1:80/"]}


def test_a_full_disk_is_that_of_the_data_on_it_and_of_all_logs_if_the_journal_is() -> None:
    settings = settings_of(db=PostgresService(), page=WebService())
    assert data_folders(settings) == {"/var/lib/front/db": "db", "/var/lib/front/page": "page"}
    found = full_disks(
        settings,
        [
            {"folder": "/var/lib/front", "free_bytes": 1 << 30, "data": [], "logs": False},
            {"folder": "/var/lib/front/db", "free_bytes": 4096, "data": ["db"], "logs": False},
            {"folder": "/var/log/journal", "free_bytes": 0, "data": [], "logs": True},
        ],
    )
    assert [(one.folder, one.data, one.logs) for one in found] == [
        ("/var/lib/front/db", ("db",), ()),
        ("/var/log/journal", (), ("db", "page")),
    ]


def test_a_service_runs_on_with_what_the_host_has() -> None:
    settings = settings_of(db=PostgresService(), page=WebService())
    unit: Any = {"pid": 4, "undeployed": ["PGPASSWORD"]}
    same: Any = {"pid": 5, "undeployed": []}
    ended: Any = {"pid": 0, "undeployed": ["PGPASSWORD"]}
    (found,) = undeployed_services(settings, {"front-db.service": unit, "front-page.service": same})
    assert (found.name, found.variables, found.undeployed) == ("db", ("PGPASSWORD",), True)
    assert not list(undeployed_services(settings, {"front-db.service": ended}))
