"""The kind ``command``: its folder, and its unit by probe, port and peers."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.declarations import declare, named, with_service
from tests.support.units import command_unit
from voiceops.errors import ConfigError, ServiceError
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
        ("after_ready: [['']]", "the command is empty", 8),
        ("user: 'a b'", "is no name of a user", 8),
        ("open_files_max: 0", "must be 1 or more", 8),
        ("cpus_max: 0", "must be more than 0", 8),
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


def test_on_a_server_its_user_limits_and_later_commands_stand_in_its_unit() -> None:
    service = CommandService(
        command=["/bin/work"],
        user="crm",
        open_files_max=777,
        cpus_max=1.5,
        memory_max_bytes=1000,
        probe=Probe(tcp="127.0.0.1:80"),
        after_ready=[["/bin/warm", "up"]],
    )
    lines = command_unit(WRITER, "x", service, cwd="/").text.splitlines()
    assert [
        line
        for line in lines
        if re.match("User|Group|StateDirectory=|Environment=HOME|Limit|CPU|Memory", line)
    ] == [
        "User=crm",
        "Environment=HOME=/var/lib/frontdesk/x",
        "StateDirectory=frontdesk/x",
        "LimitNOFILE=777",
        "LimitCORE=0",
        "CPUQuota=150%",
        "MemoryMax=1000",
    ]
    ready, after = (line for line in lines if line.startswith("ExecStartPost="))
    assert "voiceops-ready" in ready
    assert after == 'ExecStartPost="/bin/warm" "up"'


def test_here_a_user_and_a_limit_come_before_its_command(
    context: DeclarationContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    web = named(declare(with_service("web", user="nobody", open_files_max=64), context), "web")
    user = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--init-groups", "--")
    assert web.argv[4:] == ("64", *user, "web")
    assert (web.env["USER"], web.env["HOME"]) == ("nobody", nobody.pw_dir)
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid)
    own = named(declare(with_service("web", user="nobody"), context), "web")
    assert own.argv == ("web",), "one's own user needs no root"
    monkeypatch.setattr(os, "geteuid", lambda: nobody.pw_uid + 1)
    with pytest.raises(ConfigError, match="only root can start web as nobody"):
        declare(with_service("web", user="nobody"), context)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": "nobody-of-that-name"}, "no user 'nobody-of-that-name'"),
        ({"open_files_max": 1 << 40}, "allows [0-9]+ open files"),
    ],
)
def test_what_this_machine_does_not_have_is_a_configuration_error(
    context: DeclarationContext, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        declare(with_service("web", **changes), context)


def test_what_follows_its_readiness_runs_with_its_variables_and_may_fail(context: DeclarationContext) -> None:
    log = context.config_folder / "logs" / "web.log"
    log.parent.mkdir(parents=True)
    say = ["sh", "-c", "echo $TOKEN; exit 7"]
    web = named(declare(with_service("web", after_ready=[say]), context), "web")
    plain = named(declare(with_service("web"), context), "web")
    assert plain.after_ready is None
    assert plain.digest != web.digest
    assert web.after_ready is not None
    with pytest.raises(ServiceError, match="web is not ready: sh of after_ready exits 7") as failed:
        web.after_ready()
    assert failed.value.log_tail == ("hidden",)
    assert "exit_status" in failed.value.data, "the monitor does not try again at once"
