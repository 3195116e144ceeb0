"""The kind ``command``: its folder, and its unit by probe, port and peers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.declarations import declare, named, with_service
from tests.support.units import command_unit
from voiceops.errors import ConfigError
from voiceops.kinds.command import CommandService
from voiceops.kinds.model import DeclarationContext
from voiceops.model.settings import Probe
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter
from voiceops.wiring.project import Project

WRITER = UnitWriter(HostNames("frontdesk"), [Path(__file__).resolve().parents[3] / "templates"])


def test_a_folder_that_is_missing_is_a_configuration_error(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        declare(with_service("web", cwd="nowhere"), context)


def test_only_a_service_that_notifies_is_waited_for_by_notification() -> None:
    notifies = CommandService(command=["/bin/true"], probe=Probe(notify=True))
    assert "Type=notify\n" in command_unit(WRITER, "x", notifies, cwd="/").text
    assert "Type=exec\n" in command_unit(WRITER, "x", CommandService(command=["/bin/true"]), cwd="/").text


def test_a_port_and_a_probe_are_asked_for_by_one_program() -> None:
    service = CommandService(
        command=["/bin/true"], port=80, probe=Probe(tcp="127.0.0.1:80"), ready_timeout_s=7
    )
    text = command_unit(WRITER, "x", service, cwd="/").text
    said = 'ExecStartPost="/opt/frontdesk/bin/voiceops-ready" "--timeout-s" "7" "--port" "80" "--tcp" "127.0.0.1:80"\n'
    assert said in text
    assert (
        "ExecStartPost" not in command_unit(WRITER, "x", CommandService(command=["/bin/true"]), cwd="/").text
    )


def test_only_a_service_with_peers_is_kept_from_all_others() -> None:
    def told(peers: list[str] | None) -> list[str]:
        text = command_unit(WRITER, "x", CommandService(command=["/bin/true"], peers=peers), cwd="/").text
        return [line for line in text.splitlines() if line.startswith("IPAddress")]

    assert told(None) == []
    assert told([]) == ["IPAddressDeny=any"]
    assert told(["localhost", "10.0.0.0/8"]) == [
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=10.0.0.0/8",
    ]


@pytest.mark.parametrize(
    ("setting", "said", "line"),
    [
        ("env_file: nowhere.env", "there is no file nowhere.env", 8),
        ("env_file: bad.env", "not a NAME=value line", 2),
        ("env_file: reserved.env", "voiceops itself sets", 8),
        ("before_start: [[]]", "the command is empty", 8),
        ("before_start: [migrate]", "must be a list", 8),
    ],
)
def test_a_mistake_in_what_comes_before_it_is_named(
    tmp_path: Path, setting: str, said: str, line: int
) -> None:
    (tmp_path / "bad.env").write_text("A=1\nnothing\n")
    (tmp_path / "reserved.env").write_text("NOTIFY_SOCKET=/tmp/x\n")
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "all:\n  vars:\n    project: p\n    services:\n      work:\n        kind: command\n"
        f"        command: [sleep, '9']\n        {setting}\n"
    )
    with pytest.raises(ConfigError, match=said) as refused:
        Project.load(inventory=str(inventory))
    assert refused.value.line == line


@pytest.mark.parametrize(
    ("work", "needs", "said", "line"),
    [
        ("", "{work: finished}", "must be one of ready, healthy, started, completed", 11),
        ("", "{work: completed}", "work never completes: it is no one-shot", 11),
        ("", "{work: healthy}", "nothing tells whether work is healthy", 11),
        ("oneshot: true, ", "{work: healthy}", "nothing tells whether work is healthy", 11),
        ("", "{wrok: ready}", "there is no service 'wrok'", 11),
        ("", "work", "must be a list or a mapping", 10),
        (
            "oneshot: true, needs: {api: started}, ",
            "{work: completed}",
            "in a circle: work -> api -> work",
            10,
        ),
        ("oneshot: true, restart: always, ", "[work]", "can't be started again always", 6),
        ("oneshot: true, probe: {tcp: 'h:1'}, ", "[work]", "a one-shot has no probe", 6),
        ("oneshot: true, port: 80, ", "[work]", "a one-shot has no port", 6),
    ],
)
def test_a_mistake_in_a_condition_or_a_one_shot_is_named(
    tmp_path: Path, work: str, needs: str, said: str, line: int
) -> None:
    inventory = tmp_path / "inventory.yaml"
    needs = needs.replace("{", "\n          ").replace("}", "") if needs.startswith("{") else f" {needs}"
    inventory.write_text(
        "all:\n  vars:\n    project: p\n    services:\n      work:\n"
        f"        {{kind: command, {work}command: [sleep, '9']}}\n"
        f"      api:\n        kind: command\n        command: [sleep, '9']\n        needs:{needs}\n"
    )
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        Project.load(inventory=str(inventory))
    assert refused.value.line == line


def test_on_a_server_a_one_shot_counts_as_completed_until_it_is_stopped() -> None:
    task = CommandService(command=["/bin/task"], oneshot=True, ready_timeout_s=7)
    text = command_unit(WRITER, "task", task, cwd="/").text
    assert "Type=oneshot\n" in text
    assert "RemainAfterExit=yes\n" in text
    assert "Restart=no\n" in text
    assert 'ExecStartPost="/usr/bin/touch" "/run/frontdesk/task/completed"\n' in text
    needs = CommandService(command=["/bin/api"], needs={"task": "completed", "db": "started"})
    text = command_unit(WRITER, "api", needs, cwd="/", completed=["task"]).text
    assert "After=network-online.target frontdesk-task.service\n" in text
    assert 'ExecStartPre="/usr/bin/test" "-e" "/run/frontdesk/task/completed"\n' in text


def test_on_a_server_systemd_runs_them_first() -> None:
    service = CommandService(command=["/bin/work"], before_start=[["/bin/migrate", "100% $HOME"]])
    text = command_unit(WRITER, "x", service, cwd="/").text
    assert 'ExecStartPre="/bin/migrate" "100%% $$HOME"\nExecStart="/bin/work"\n' in text
    assert (
        "ExecStartPre" not in command_unit(WRITER, "x", CommandService(command=["/bin/true"]), cwd="/").text
    )


def test_another_value_in_its_file_is_another_configuration(context: DeclarationContext) -> None:
    digests = set()
    for line in ("COLOUR='deep $blue'", "COLOUR=red", "COLOUR=red"):
        (context.root / "colours.env").write_text(line)
        declared = named(declare(with_service("web", env_file="colours.env"), context), "web")
        digests.add(declared.digest)
    assert declared.env["COLOUR"] == "red"
    assert declared.env["TOKEN"] == "hidden"
    assert len(digests) == 2
