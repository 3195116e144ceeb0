"""The order of hosts: what is needed first, one ahead, then batches."""

from __future__ import annotations

import pytest

from voiceops.errors import UsageError
from voiceops.fleet.order import batches, serial_of, tiers
from voiceops.kinds.agent import AgentService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.settings import Host, ServiceBase, Settings

SERVICES: dict[str, ServiceBase] = {
    "livekit": LivekitService(),
    "agent": AgentService(entry="agent.py", needs=["livekit"]),
}


def host(name: str, *run: str) -> Host:
    settings = Settings(project="p", services=dict(SERVICES), run=list(run) or None)
    return Host(name=name, local=False, address=name, settings=settings)


def names(groups: list[list[Host]]) -> list[list[str]]:
    return [[one.name for one in group] for group in groups]


def test_hosts_that_others_need_come_first() -> None:
    found = tiers([host("a1", "agent"), host("l1", "livekit"), host("a2", "agent"), host("l2", "livekit")])
    assert names(found) == [["l1", "l2"], ["a1", "a2"]]


def test_agents_need_the_servers_that_they_register_at_said_or_not() -> None:
    services: dict[str, ServiceBase] = {"livekit": LivekitService(), "agent": AgentService(entry="agent.py")}
    hosts = [
        Host(
            name=name, local=False, address=name, settings=Settings(project="p", services=services, run=[run])
        )
        for name, run in (("a1", "agent"), ("l1", "livekit"))
    ]
    assert names(tiers(hosts)) == [["l1"], ["a1"]]


def test_a_host_with_its_own_server_needs_nobody() -> None:
    assert names(tiers([host("one"), host("two")])) == [["one", "two"]]


@pytest.mark.parametrize(
    ("serial", "expected"),
    [
        ("100%", [["h0"], ["h1", "h2", "h3", "h4"]]),
        ("25%", [["h0"], ["h1"], ["h2"], ["h3"], ["h4"]]),
        (2, [["h0"], ["h1", "h2"], ["h3", "h4"]]),
    ],
)
def test_the_first_host_goes_ahead_alone_then_batches_follow(
    serial: int | str, expected: list[list[str]]
) -> None:
    assert names(batches([host(f"h{number}") for number in range(5)], serial)) == expected


def test_batches_never_mix_tiers() -> None:
    found = batches([host("a1", "agent"), host("l1", "livekit"), host("l2", "livekit")], "100%")
    assert names(found) == [["l1"], ["l2"], ["a1"]]


@pytest.mark.parametrize("text", ["0", "-1", "101%", "few", "%"])
def test_a_serial_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        serial_of(text)


def test_nodes_that_share_a_redis_go_one_at_a_time_whatever_serial_says() -> None:
    joined = {**SERVICES, "livekit": LivekitService(redis="store:6379")}
    hosts = [
        Host(name=name, local=False, address=name, settings=Settings(project="p", services=joined, run=[run]))
        for name, run in (
            ("l1", "livekit"),
            ("l2", "livekit"),
            ("l3", "livekit"),
            ("a1", "agent"),
            ("a2", "agent"),
        )
    ]
    assert names(batches(hosts, "100%")) == [["l1"], ["l2"], ["l3"], ["a1", "a2"]]
