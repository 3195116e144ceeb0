"""Unit files as text: escaping, refusals, and the settings that carry promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.units import command_unit
from voiceops.errors import ConfigError
from voiceops.kinds.agent import AgentService, agent_unit
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService, livekit_unit
from voiceops.model.settings import Probe
from voiceops.systemd import escape
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import TimerJob, UnitWriter

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"
NAMES = HostNames("frontdesk")


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


def test_a_memory_limit_stands_only_where_it_is_set() -> None:
    service = CommandService(command=["/bin/true"], memory_max_bytes=1000)
    assert "MemoryMax=1000\n" in command_unit(writer(), "x", service, cwd="/").text
    assert "MemoryMax" not in command_unit(writer(), "x", CommandService(command=["/bin/true"]), cwd="/").text


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


def test_a_variable_that_a_template_misspells_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "command.service").write_text("[Service]\nUser={{ usr }}\n")
    with pytest.raises(ConfigError, match="usr"):
        command_unit(writer(tmp_path), "x", CommandService(command=["/bin/true"]), cwd="/")


@pytest.mark.parametrize("name", ["Front", "front desk", "f/d", "", "a" * 29, "1st"])
def test_a_project_that_can_not_name_a_user_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        HostNames(name)


def test_a_unit_name_gives_back_service_and_instance() -> None:
    assert NAMES.split(NAMES.unit("agent", "3f2a.2")) == ("agent", "3f2a.2")
    assert NAMES.split(NAMES.unit("livekit")) == ("livekit", "")
