"""What the settings say of a host as a whole."""

from __future__ import annotations

import pytest

from voiceops.kinds.agent import AgentService
from voiceops.kinds.livekit import LivekitService
from voiceops.model.roles import Role
from voiceops.model.settings import LivekitSettings, ServiceBase, Settings


def test_a_host_runs_what_run_names_and_everything_without_it() -> None:
    services: dict[str, ServiceBase] = {
        "livekit": LivekitService(redis="r:6379"),
        "agent": AgentService(entry="a.py"),
    }
    everything = Settings(project="p", services=dict(services))
    assert list(everything.running) == ["livekit", "agent"]
    assert (everything.runs(Role.SERVER), everything.runs(Role.AGENT)) == (True, True)
    agents = Settings(project="p", services=dict(services), run=["agent"])
    assert list(agents.running) == ["agent"]
    assert (agents.runs(Role.SERVER), agents.runs(Role.AGENT)) == (False, True)
    assert [one.cluster for one in services.values()] == ["r:6379", ""]


@pytest.mark.parametrize(
    ("url", "port"),
    [("ws://h:7890", 7890), ("ws://h", 7880), ("wss://h", 443), ("https://h", 443), ("wss://h:1", 1)],
)
def test_the_port_of_a_url_without_one_is_the_default_of_its_scheme(url: str, port: int) -> None:
    assert LivekitSettings(url=url).port == port
