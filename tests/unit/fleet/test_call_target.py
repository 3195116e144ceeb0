"""Which agent a call goes to."""

from __future__ import annotations

import pytest

from voiceops.errors import UsageError
from voiceops.fleet.call_target import call_target
from voiceops.kinds.agent import AgentService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.settings import Host, LivekitSettings, ServiceBase, Settings


def host(name: str, run: str, *, node: str, redis: str | None = "store:6379") -> Host:
    services: dict[str, ServiceBase] = {
        "livekit": LivekitService(redis=redis),
        "agent": AgentService(entry="agent.py"),
    }
    livekit = LivekitSettings(url=f"ws://{node}:7880")
    settings = Settings(project="p", livekit=livekit, services=services, run=[run])
    return Host(name=name, local=False, address=name, settings=settings)


def test_callers_dial_what_the_agents_are_registered_at() -> None:
    hosts = [host("lk2", "livekit", node="lk2"), host("ag1", "agent", node="lk1")]
    assert call_target(hosts).url == "ws://lk1:7880"


def test_nodes_that_share_a_redis_are_one_server() -> None:
    agents = [host("ag1", "agent", node="lk1"), host("ag2", "agent", node="lk2")]
    assert call_target(agents).url == "ws://lk1:7880"


def test_servers_that_share_nothing_are_a_choice() -> None:
    agents = [host("ag1", "agent", node="lk1", redis=None), host("ag2", "agent", node="lk2", redis=None)]
    with pytest.raises(UsageError) as refused:
        call_target(agents)
    assert "ws://lk2:7880" in refused.value.message
