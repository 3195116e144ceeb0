"""What an observed stack tells of services beside LiveKit and its agents."""

from __future__ import annotations

import pytest

from voiceops.doctor.facts import HostFact, StackFacts
from voiceops.doctor.observed_stack import ObservedStack, WorkerDetails, without_livekit
from voiceops.doctor.service_rules import broken_service
from voiceops.errors import ConfigError
from voiceops.kinds.agent import AgentService
from voiceops.kinds.command import CommandService
from voiceops.kinds.letta import LettaService
from voiceops.kinds.postgres import PostgresService
from voiceops.kinds.web import WebService
from voiceops.model.secret import Secret
from voiceops.model.server import ServerFact
from voiceops.model.settings import LivekitSettings, ServiceBase, Settings
from voiceops.model.states import ServiceState
from voiceops.stack.model import Instance, Observed


def run(name: str, state: ServiceState) -> Instance:
    return Instance(service=name, launch=name, pid=0, digest="", state=state)


def test_what_waits_for_a_one_shot_that_failed_is_no_cause_of_its_own() -> None:
    settings = Settings(
        project="test",
        services={
            "migrate": CommandService(command=["x"], oneshot=True),
            "seed": CommandService(command=["x"], oneshot=True),
            "api": CommandService(command=["x"], needs={"migrate": "completed", "seed": "completed"}),
            "cache": CommandService(command=["x"], needs={"seed": "completed"}),
            "old": CommandService(command=["x"], needs=["migrate"]),
        },
    )
    observed = {
        "migrate": Observed(ended=run("migrate", ServiceState.FAILED)),
        "seed": Observed(ended=run("seed", ServiceState.COMPLETED)),
        "old": Observed(instances=(run("old", ServiceState.UNRESPONSIVE),)),
    }
    stack = ObservedStack(
        settings=settings, observed=observed, digests={}, now=0.0, details=lambda one: WorkerDetails()
    )
    broken = {one.name: one for one in stack.broken_services(settings.services)}
    assert list(broken) == ["migrate", "cache", "old"], "api was not started, old runs and does not answer"
    assert (broken["migrate"].needed_by, broken["migrate"].run_again) == (("api", "old"), False)


def test_a_database_is_needed_by_the_letta_that_keeps_its_agents_there() -> None:
    settings = Settings(
        project="test",
        services={
            "letta": LettaService(store="db"),
            "db": PostgresService(),
            "web": CommandService(command=["x"], needs=["db"]),
        },
    )
    stack = ObservedStack(
        settings=settings, observed={}, digests={}, now=0.0, details=lambda one: WorkerDetails()
    )
    broken = {one.name: one for one in stack.broken_services(["db"])}
    assert broken["db"].needed_by == ("letta", "web")


@pytest.mark.parametrize(
    ("services", "used"),
    [
        ({"db": PostgresService()}, False),
        ({"agent": AgentService(entry="agent.py")}, True),
        ({"page": WebService()}, True),
    ],
)
def test_a_stack_without_services_of_livekit_and_without_a_key_does_not_use_it(
    services: dict[str, ServiceBase], used: bool
) -> None:
    def not_set() -> str:
        raise ConfigError("LIVEKIT_API_KEY is not set")

    livekit = LivekitSettings(api_key=Secret.of("env", "LIVEKIT_API_KEY", not_set))
    found = without_livekit(Settings(project="test", services=services, livekit=livekit))
    assert (found is None) == used
    assert without_livekit(Settings(project="test", services=services)) is None, (
        "an empty key is a key that is had"
    )


def test_a_server_without_services_of_livekit_does_not_use_it_whatever_keys_the_inventory_has() -> None:
    livekit = LivekitSettings(api_key=Secret("key"))
    settings = Settings(project="test", services={"db": PostgresService()}, livekit=livekit)
    assert without_livekit(settings) is None
    assert without_livekit(settings, local=False)
    agent = Settings(project="test", services={"agent": AgentService(entry="agent.py")}, livekit=livekit)
    assert without_livekit(agent, local=False) is None
    assert without_livekit(Settings(project="test", livekit=livekit), local=False) is None


def test_a_unit_that_waits_for_its_next_start_has_ended() -> None:
    settings = Settings(project="test", services={"db": PostgresService()})
    observed = {"db": Observed(instances=(run("db", ServiceState.UNRESPONSIVE),))}
    stack = ObservedStack(
        settings=settings, observed=observed, digests={}, now=0.0, details=lambda one: WorkerDetails()
    )
    (broken,) = stack.broken_services(["db"])
    assert broken.ended
    facts = StackFacts(
        now=0.0, server=ServerFact(url="", reachable=True), host=HostFact(broken_services=(broken,))
    )
    (found,) = broken_service(facts)
    assert found.sentence == "db has ended, and systemd is about to start it again."
