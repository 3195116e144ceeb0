"""Unit files as text: escaping, refusals, and the settings that carry promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.units import command_unit
from voiceops.errors import ConfigError
from voiceops.kinds.agent import AgentService, agent_unit
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService, livekit_unit
from voiceops.model.settings import Probe
from voiceops.systemd import escape
from voiceops.systemd.names import Names
from voiceops.systemd.units import TimerJob, UnitWriter

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"
NAMES = Names("frontdesk")


def writer(*own: Path) -> UnitWriter:
    return UnitWriter(NAMES, [*own, TEMPLATES])


def test_a_word_loses_every_special_meaning() -> None:
    assert escape.word('a "b" \\ %i $HOME\n') == '"a \\"b\\" \\\\ %%i $$HOME\\x0a"'


@pytest.mark.parametrize("path", ["relative", "/with$dollar", "/new\nline", "/nul\0"])
def test_a_program_that_systemd_could_not_start_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        escape.program(path)


@pytest.mark.parametrize("text", ["a\nb", " a", "a\\", "\x1b[31m", "nul\0", "\ud800"])
def test_a_setting_that_can_not_stand_in_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        escape.value(text)


def test_a_variable_that_systemd_would_drop_is_refused_without_showing_its_value() -> None:
    for value in ("hush\x1b", "hush\0", "hush\r", "hush\ud800"):
        with pytest.raises(ConfigError) as refused:
            escape.environment_file({"TOKEN": value})
        assert "hush" not in str(refused.value)


def test_a_name_that_is_no_variable_is_refused() -> None:
    with pytest.raises(ConfigError):
        escape.environment_file({"A B": "x"})


def test_the_stop_timeout_exceeds_the_drain() -> None:
    text = agent_unit(writer(), "agent", AgentService(entry="a.py", drain_timeout_s=120), entry="a.py").text
    assert "TimeoutStopSec=210\n" in text
    endless = agent_unit(writer(), "agent", AgentService(entry="a.py", drain_timeout_s=0), entry="a.py").text
    assert "TimeoutStopSec=infinity\n" in endless


def test_an_agent_is_ordered_after_what_it_needs_so_that_it_stops_first() -> None:
    unit = agent_unit(writer(), "agent", AgentService(entry="a.py"), entry="a.py", needs=["livekit"])
    assert unit.name == "frontdesk-agent@.service"
    assert "After=network-online.target frontdesk-livekit.service\n" in unit.text


def test_overlapping_instances_have_folders_of_their_own() -> None:
    text = agent_unit(writer(), "agent", AgentService(entry="a.py"), entry="a.py").text
    assert "RuntimeDirectory=frontdesk/agent-%i\n" in text
    assert "EnvironmentFile=/etc/frontdesk/agent/%i.env\n" in text
    assert 'ExecStart=/opt/frontdesk/releases/%i/venv/bin/python -m voiceops.agentkit start "a.py"\n' in text


def test_a_memory_limit_stands_only_where_it_is_set() -> None:
    service = CommandService(command=["/bin/true"], memory_max_bytes=1000)
    assert "MemoryMax=1000\n" in command_unit(writer(), "x", service, cwd="/").text
    assert "MemoryMax" not in command_unit(writer(), "x", CommandService(command=["/bin/true"]), cwd="/").text


def test_only_a_service_that_notifies_is_waited_for_by_notification() -> None:
    notifies = CommandService(command=["/bin/true"], probe=Probe(notify=True))
    assert "Type=notify\n" in command_unit(writer(), "x", notifies, cwd="/").text
    assert "Type=exec\n" in command_unit(writer(), "x", CommandService(command=["/bin/true"]), cwd="/").text


def test_no_unit_runs_anything_as_root() -> None:
    service = CommandService(command=["/bin/true"], port=80, probe=Probe(tcp="127.0.0.1:80"))
    texts = [
        command_unit(writer(), "x", service, cwd="/").text,
        livekit_unit(writer(), "livekit", LivekitService(), binary="/b", port=7880, config_file="/c").text,
        agent_unit(writer(), "agent", AgentService(entry="a.py"), entry="a.py").text,
        *(unit.text for unit in writer().job(TimerJob(name="j", argv=["/bin/true"], calendar="daily"))[:1]),
    ]
    for text in texts:
        assert "User=vo-frontdesk\n" in text
        lines = [line for line in text.splitlines() if line.startswith("Exec")]
        assert lines
        assert not [line for line in lines if line.partition("=")[2][0] in "+!"]


def test_a_port_and_a_probe_are_asked_for_by_one_program() -> None:
    service = CommandService(
        command=["/bin/true"], port=80, probe=Probe(tcp="127.0.0.1:80"), ready_timeout_s=7
    )
    text = command_unit(writer(), "x", service, cwd="/").text
    said = 'ExecStartPost="/opt/frontdesk/bin/voiceops-ready" "--timeout-s" "7" "--port" "80" "--tcp" "127.0.0.1:80"\n'
    assert said in text
    assert (
        "ExecStartPost"
        not in command_unit(writer(), "x", CommandService(command=["/bin/true"]), cwd="/").text
    )


def test_only_a_service_with_peers_is_kept_from_all_others() -> None:
    def told(peers: list[str] | None) -> list[str]:
        text = command_unit(writer(), "x", CommandService(command=["/bin/true"], peers=peers), cwd="/").text
        return [line for line in text.splitlines() if line.startswith("IPAddress")]

    assert told(None) == []
    assert told([]) == ["IPAddressDeny=any"]
    assert told(["localhost", "10.0.0.0/8"]) == [
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=10.0.0.0/8",
    ]


def test_a_livekit_that_is_not_public_exchanges_packets_with_loopback_alone() -> None:
    def told(**settings: Any) -> list[str]:
        service = LivekitService(**settings)
        unit = livekit_unit(writer(), "livekit", service, binary="/l", port=7880, config_file="/etc/l.yaml")
        return [line for line in unit.text.splitlines() if line.startswith("IPAddress")]

    assert told() == ["IPAddressDeny=any", "IPAddressAllow=localhost"]
    assert told(public=True) == []
    assert told(redis="10.0.0.5:6379") == []
    assert told(config={"webhook": {"urls": []}}) == []


def test_a_variable_that_a_template_misspells_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "command.service").write_text("[Service]\nUser={{ usr }}\n")
    with pytest.raises(ConfigError, match="usr"):
        command_unit(writer(tmp_path), "x", CommandService(command=["/bin/true"]), cwd="/")


@pytest.mark.parametrize("name", ["Front", "front desk", "f/d", "", "a" * 29, "1st"])
def test_a_project_that_can_not_name_a_user_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        Names(name)


def test_a_unit_name_gives_back_service_and_instance() -> None:
    assert NAMES.split(NAMES.unit("agent", "3f2a.2")) == ("agent", "3f2a.2")
    assert NAMES.split(NAMES.unit("livekit")) == ("livekit", "")
