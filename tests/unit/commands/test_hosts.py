"""One command on hosts that need each other: in which order, and what a failure keeps from happening."""

from __future__ import annotations

from typing import Any

import pytest

from voiceops.commands.hosts import named_on
from voiceops.errors import CallsInProgressError, ServiceError, UnreachableError, UsageError, VoiceopsError
from voiceops.fleet.order import start_order, stop_order
from voiceops.fleet.run import run_on, skip_after_failure
from voiceops.kinds.agent import AgentService
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.settings import Host, ServiceBase, Settings

SERVICES: dict[str, ServiceBase] = {
    "redis": CommandService(command=["redis-server"]),
    "livekit": LivekitService(needs=["redis"]),
    "agent": AgentService(entry="agent.py"),
}


def host(name: str, *run: str) -> Host:
    settings = Settings(project="p", services=dict(SERVICES), run=list(run))
    return Host(name=name, local=False, address=name, settings=settings)


HOSTS = (host("store", "redis"), host("media", "livekit"), host("desk", "agent"))


def order(*, first_needed: bool, failing: VoiceopsError | None = None) -> tuple[list[str], dict[str, Any]]:
    seen: list[str] = []

    def work(one: Host) -> str:
        seen.append(one.name)
        if failing is not None and one.name == "desk":
            raise failing
        return one.name

    if first_needed:
        done = run_on(start_order(HOSTS), work)
    else:
        skip = skip_after_failure("not stopped, because {host} did not stop and comes before it")
        done = run_on(stop_order(HOSTS), work, skip_rest=skip)
    return seen, {name: result.problem for name, result in done.items() if not result.ok}


def test_what_others_need_comes_first_and_stops_last() -> None:
    assert order(first_needed=True)[0] == ["store", "media", "desk"]
    assert order(first_needed=False)[0] == ["desk", "media", "store"]


def test_nothing_stops_below_what_did_not_stop() -> None:
    seen, errors = order(first_needed=False, failing=CallsInProgressError("1 call in progress"))
    assert seen == ["desk"]
    assert "desk did not stop" in errors["media"].message
    assert "desk did not stop" in errors["store"].message


@pytest.mark.parametrize("first_needed", [True, False])
def test_a_host_that_is_down_keeps_no_other_from_its_turn(first_needed: bool) -> None:
    seen, errors = order(first_needed=first_needed, failing=UnreachableError("down"))
    assert sorted(seen) == ["desk", "media", "store"]
    assert list(errors) == ["desk"]


def test_what_is_done_in_turn_ends_with_the_first_failure() -> None:
    seen: list[str] = []

    def work(one: Host) -> None:
        seen.append(one.name)
        if one.name == "media":
            raise ServiceError("it does not come up")

    skip = skip_after_failure("left as it is, because {host} failed")
    done = run_on(start_order(HOSTS, one_by_one=True), work, skip_rest=skip)
    assert seen == ["store", "media"]
    assert "media failed" in str(done["desk"].problem)


def test_hosts_that_run_none_of_the_named_services_have_no_part() -> None:
    hosts = [*HOSTS, host("both", "livekit", "agent")]
    assert named_on(hosts, ["agent"]) == {"desk": ["agent"], "both": ["agent"]}
    named = named_on(hosts, ["agent", "livekit"])
    assert named == {"media": ["livekit"], "desk": ["agent"], "both": ["agent", "livekit"]}


def test_without_a_name_every_host_has_a_part() -> None:
    assert named_on(HOSTS, []) == {"store": [], "media": [], "desk": []}


def test_a_service_that_no_host_runs_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        named_on(HOSTS, ["web"])
    assert "livekit" in str(refused.value.hint)
