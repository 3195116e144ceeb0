"""The kind ``agent``: variables, load limit, release, template unit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named, with_service
from voiceops.kinds.agent import AgentService, agent_environment, agent_unit, agent_variables
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.model import DeclarationContext
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter

WRITER = UnitWriter(HostNames("frontdesk"), [Path(__file__).resolve().parents[3] / "templates"])


def test_an_agent_gets_what_agentkit_reads_and_is_set() -> None:
    variables = {"CRM_TOKEN": "t", "OPENAI_API_KEY": "k", "DEEPGRAM_API_KEY": ""}
    assert agent_variables(variables) == {"OPENAI_API_KEY": "k"}


def test_env_wins_over_env_from_and_livekit_over_both(context: DeclarationContext) -> None:
    changed = with_service("agent", env_from=["CRM_TOKEN"], env={"CRM_TOKEN": "mine"})
    assert named(declare(changed, context), "agent").env["CRM_TOKEN"] == "mine"
    with_url = {"LIVEKIT_URL": "ws://elsewhere", "CRM_TOKEN": "crm"}
    agent = AgentService(entry="agent/agent.py", env_from=["*"])
    assert agent_environment(agent, SETTINGS, with_url)["LIVEKIT_URL"] == "ws://127.0.0.1:7890"


def test_an_agent_gets_livekit_dotenv_and_its_limits(context: DeclarationContext) -> None:
    agent = named(declare(SETTINGS, context), "agent")
    assert agent.argv[1:4] == ("-m", "voiceops.agentkit", "start")
    assert agent.env["LIVEKIT_URL"] == "ws://127.0.0.1:7890"
    assert agent.env["LIVEKIT_API_SECRET"] == "s" * 32
    assert agent.env["LIVEKIT_AGENT_NAME"] == "bob"
    assert agent.env["MAX_CONCURRENT_JOBS"] == "3"
    assert agent.env["OPENAI_API_KEY"] == "from-dotenv"
    assert agent.needs == ("livekit",)


@pytest.mark.parametrize(
    ("limit", "url", "redis", "told"),
    [
        (None, "ws://127.0.0.1:7890", None, "off"),
        (None, "ws://localhost:7890", None, "off"),
        (None, "ws://127.0.0.1:7890", "r:6379", "0.7"),
        (None, "wss://livekit.example.com", None, "0.7"),
        (0.85, "ws://127.0.0.1:7890", None, "0.85"),
        (1, "wss://livekit.example.com", None, "1"),
        (False, "wss://livekit.example.com", None, "off"),
        ("off", "wss://livekit.example.com", None, "off"),
    ],
)
def test_a_worker_refuses_for_its_load_only_where_another_could_take_the_call(
    limit: float | str | None, url: str, redis: str | None, told: str
) -> None:
    livekit = msgspec.structs.replace(SETTINGS.livekit, url=url)
    services = {"livekit": LivekitService(redis=redis)}
    settings = msgspec.structs.replace(SETTINGS, livekit=livekit, services=services)
    agent = AgentService(entry="agent/agent.py", load_limit=limit)
    assert agent_environment(agent, settings, {})["VOICEOPS_LOAD_LIMIT"] == told


def test_the_load_limit_of_dotenv_wins_over_the_usual_one() -> None:
    agent = AgentService(entry="agent/agent.py")
    assert agent_environment(agent, SETTINGS, {"VOICEOPS_LOAD_LIMIT": "0.5"})["VOICEOPS_LOAD_LIMIT"] == "0.5"


def test_changed_agent_code_changes_the_agent(context: DeclarationContext) -> None:
    before = named(declare(SETTINGS, context), "agent")
    (context.root / "agent" / "prompt.txt").write_text("hello")
    after = named(declare(SETTINGS, context), "agent")
    assert before.digest != after.digest
    assert before.release != after.release


def test_the_stop_timeout_exceeds_the_drain() -> None:
    text = agent_unit(WRITER, "agent", AgentService(entry="a.py", drain_timeout_s=120), entry="a.py").text
    assert "TimeoutStopSec=210\n" in text
    endless = agent_unit(WRITER, "agent", AgentService(entry="a.py", drain_timeout_s=0), entry="a.py").text
    assert "TimeoutStopSec=infinity\n" in endless


def test_an_agent_is_ordered_after_what_it_needs_so_that_it_stops_first() -> None:
    unit = agent_unit(WRITER, "agent", AgentService(entry="a.py"), entry="a.py", needs=["livekit"])
    assert unit.name == "frontdesk-agent@.service"
    assert "After=network-online.target frontdesk-livekit.service\n" in unit.text


def test_overlapping_instances_have_folders_of_their_own() -> None:
    text = agent_unit(WRITER, "agent", AgentService(entry="a.py"), entry="a.py").text
    assert "RuntimeDirectory=frontdesk/agent-%i\n" in text
    assert "EnvironmentFile=/etc/frontdesk/agent/%i.env\n" in text
    assert 'ExecStart=/opt/frontdesk/releases/%i/venv/bin/python -m voiceops.agentkit start "a.py"\n' in text
