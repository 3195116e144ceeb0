"""The commands on real servers that only run commands of their own: no wheels, no agent, up in a second."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper
from voiceops.commands.deploy_view import WIDE

TOKEN = "hunter2-for-the-crm-of-the-tests"


@pytest.fixture
def servers(tmp_path: Path, fleet: Fleet) -> Servers:
    made = cheap_servers(tmp_path / "project", fleet(2), web=sleeper(env={"TOKEN": {"env": "CRM_TOKEN"}}))
    made.env["CRM_TOKEN"] = TOKEN
    return made


@pytest.fixture
def first(servers: Servers) -> str:
    return servers.machines[0].name


def test_a_plan_of_several_hosts_is_a_table_that_masks_secrets_and_changes_nothing(servers: Servers) -> None:
    one, other = (machine.name for machine in servers.machines)
    servers.deploy("--check", code=2)
    planned = servers.inv("deploy", "--group", "servers", "--check", "--diff", code=2)
    (head,) = [line for line in planned.err.splitlines() if line.split() == [one, other]]
    (env,) = [line for line in planned.err.splitlines() if line.startswith(f"file:/etc/{PROJECT}/web.env ")]
    (service,) = [line for line in planned.err.splitlines() if line.startswith("service:web ")]
    assert (env.split()[1:], service.split()[1:]) == (["+", "+"], ["start", "start"])
    # Each mark stands below the name of its host.
    assert [env.index("+"), env.rindex("+")] == [head.index(one), head.index(other)]
    assert max(map(len, planned.err.splitlines())) <= WIDE
    assert TOKEN not in planned.out + planned.err
    assert not (servers.machines[0].root / f"etc/{PROJECT}").exists()


def test_every_command_prints_one_document_and_nothing_else(servers: Servers) -> None:
    servers.deploy()
    looking = ["status", "check-running", "logs", "releases", "render", "drift", "why", "rollback", "call"]
    changing = ["setup", "start", "lock", "unlock"]

    def ask(command: str) -> object:
        return servers.inv(command, "--group", "servers", "--json", code=None).json

    with ThreadPoolExecutor(3) as pool:
        answers = [*pool.map(ask, looking), *map(ask, changing)]
    assert all(isinstance(answer, dict) for answer in answers)


def test_a_lock_keeps_others_out_until_it_is_taken_off_or_its_time_is_over(
    servers: Servers, first: str
) -> None:
    only = ("--host", first)
    servers.variables["services"]["web"]["env"]["MODE"] = "a deploy that changes nothing needs no lock"
    servers.write()
    servers.inv("lock", *only, "--reason", "load test")
    try:
        for refused in (["lock"], ["deploy", "--wait", "0"]):
            assert "load test" in servers.inv(*refused, *only, code=4).err
    finally:
        freed = servers.inv("unlock", *only).out
    assert "load test" in freed
    assert servers.inv("unlock", *only, "--json").json["hosts"][first]["changed"] is False
    # Its owner is long gone: the lease ends by itself.
    servers.inv("lock", *only, "--minutes", "0.01")
    time.sleep(0.7)
    servers.inv("lock", *only, "--minutes", "0.01")
    servers.inv("lock", *only, "--minutes", "0", code=3)
    servers.inv("unlock", *only)


def test_rendered_files_are_masked_and_what_else_lies_there_is_named(servers: Servers, first: str) -> None:
    out = servers.folder / "rendered"
    (out / first).mkdir(parents=True)
    (out / first / "of-somebody-else").touch()
    said = servers.inv("render", "--host", first, "--out", str(out))
    written = [Path(line).read_text() for line in said.out.splitlines()]
    assert any("ExecStart=" in text for text in written)
    assert not any(TOKEN in text for text in written)
    assert "of-somebody-else" in said.err
    assert (out / first / "of-somebody-else").exists()


def test_ordinary_ssh_arguments_work_and_what_means_nothing_here_is_named(
    servers: Servers, first: str
) -> None:
    machine = servers.machines[0]
    known, config = servers.folder / "known_hosts", servers.folder / "ssh.conf"
    config.write_text(
        f"Host {machine.address}\n  User root\n  IdentityFile {machine.key_path}\n  UserKnownHostsFile {known}\n"
    )
    servers.variables |= {
        "ansible_user": None,
        "ansible_ssh_private_key_file": "",
        "ansible_ssh_common_args": f"-F {config} -o StrictHostKeyChecking=yes",
        "ansible_ssh_extra_args": "-o ControlMaster=auto -o ControlPersist=60s",
    }
    servers.write()
    unknown = servers.inv("lock", "--host", first, code=5)
    assert "not in known_hosts" in unknown.err
    assert f"{first}: ignored" in unknown.err
    assert "ControlMaster, ControlPersist" in unknown.err
    servers.variables["ansible_ssh_common_args"] = f"-F {config} -o StrictHostKeyChecking=accept-new"
    servers.write()
    servers.inv("lock", "--host", first)
    assert known.read_text().count(machine.address) == 1
    servers.inv("unlock", "--host", first)
    servers.variables["ansible_ssh_common_args"] = "-F missing.conf"
    servers.write()
    assert "there is no ssh_config missing.conf" in servers.inv("lock", "--host", first, code=3).err


def test_ctrl_c_in_a_deploy_is_130_and_the_next_one_ends_as_if_it_had_not_been(servers: Servers) -> None:
    web = servers.variables["services"]["web"]
    web |= {"probe": {"tcp": "127.0.0.1:9"}, "ready_timeout_s": 60}
    servers.write()
    with servers.spawn("deploy", "--group", "servers") as process:
        assert process.stderr is not None
        while "starting" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    del web["probe"], web["ready_timeout_s"]
    servers.write()
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0
    servers.inv("check-running", "--group", "servers")


def test_a_masked_unit_is_named_with_what_takes_it_back(servers: Servers, fresh_host: hosts.Machine) -> None:
    servers.machines = [fresh_host]
    servers.write()
    servers.deploy()
    unit = f"{PROJECT}-web.service"
    fresh_host.shell(
        f"systemctl stop {unit}; mv /etc/systemd/system/{unit} /root; systemctl mask {unit} 2>/dev/null"
    )
    assert f"systemctl unmask {unit}" in servers.inv("check-running", "--group", "servers", code=2).out
    assert "masked" in servers.inv("start", "--group", "servers", code=1).err


def test_what_has_no_releases_can_not_be_rolled_back(servers: Servers, first: str) -> None:
    servers.deploy()
    refused = servers.inv("rollback", "--host", first, "--only", "web", code=3)
    assert "web is no agent" in refused.err
    assert "nothing was deployed" in servers.inv("releases", "--host", first).out


COUNT = 3100
"""Together more than an answer of one exec may have held once: 5,000 lines."""
MANY_LINES = f"i=0; while [ $i -lt {COUNT} ]; do i=$((i+1)); echo line $i; done; exec sleep 1000"


def test_logs_of_servers_are_all_there_when_all_are_asked_for(tmp_path: Path, fleet: Fleet) -> None:
    loud = {"kind": "command", "command": ["/bin/sh", "-c", MANY_LINES]}
    servers = cheap_servers(tmp_path / "project", fleet(2), web=loud)
    servers.deploy()
    for machine in servers.machines:
        kept = f'journalctl -q -o cat -u {PROJECT}-web | grep -c "^line "'
        machine.shell(f"timeout 60 sh -c 'until [ $({kept}) -ge {COUNT} ]; do sleep 0.2; done'")
    group = ("--group", "servers")
    for flags in (["--since", "1h"], ["--since", "1h", "--lines", "0"], ["--lines", "0"]):
        shown = servers.inv("logs", *group, *flags).out.splitlines()
        for machine in servers.machines:
            own = [line for line in shown if line.startswith(f"{machine.name} web | ")]
            numbers = [line.rpartition(" line ")[2] for line in own if " line " in line]
            assert numbers == [str(number) for number in range(1, COUNT + 1)]
    for flags in (["--lines", "50"], ["--lines", "50", "--since", "1h"]):
        document = servers.inv("logs", *group, *flags, "--json").json
        assert [len(document["lines"]), "hosts" in document] == [50, False]
    assert len(servers.inv("logs", *group).out.splitlines()) == 200


def test_rotate_logs_of_a_server_leaves_the_files_of_this_machine_alone(servers: Servers, first: str) -> None:
    log = servers.folder / ".voiceops" / "logs" / "web.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 20_000_000)
    said = servers.inv("rotate-logs", "--host", first)
    assert said.out == f"{first}: nothing to do, its journal rotates by itself\n"
    assert log.stat().st_size == 20_000_000
    assert servers.inv("rotate-logs", "--host", first, "--json").json["hosts"][first]["rotated"] == []
