"""The monitor on a host: what it repairs through the root helper, and what it leaves alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import hosts
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

pytestmark = pytest.mark.timeout(150)
BACK_WITHIN_S = 40.0
"""Several times what it takes, for a machine under load."""
SOCKET = f"/run/{PROJECT}-monitor-restart"
ASK = f"""import socket, sys
c = socket.socket(socket.AF_UNIX)
c.connect('{SOCKET}')
c.sendall(sys.argv[1].encode())
c.shutdown(socket.SHUT_WR)
print(c.recv(1000).decode().strip())
"""


@pytest.fixture(scope="module")
def watched(prepared_host: hosts.Machine, tmp_path_factory: pytest.TempPathFactory) -> Servers:
    """Two cheap services and the monitor, deployed."""
    made = cheap_servers(
        tmp_path_factory.mktemp("monitor") / "project",
        [prepared_host],
        web=sleeper(),
        other=sleeper(),
        monitor={"kind": "monitor"},
    )
    made.deploy()
    return made


@pytest.fixture
def machine(watched: Servers) -> hosts.Machine:
    (machine,) = watched.machines
    return machine


def shown(machine: hosts.Machine, service: str, name: str) -> str:
    return machine.shell(f"systemctl show -P {name} {PROJECT}-{service}").stdout.strip()


def pid_of(machine: hosts.Machine, service: str) -> int:
    return int(shown(machine, service, "MainPID"))


def log_of(machine: hosts.Machine) -> str:
    return machine.journal("-o", "cat", "-u", f"{PROJECT}-monitor*", "-n", "60")


def log_since(machine: hosts.Machine, epoch_s: float) -> str:
    return machine.journal("-o", "cat", "-u", f"{PROJECT}-monitor*", "--since", f"@{epoch_s:.6f}")


def soon(machine: hosts.Machine, condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + BACK_WITHIN_S
    while not condition():
        assert time.monotonic() < ends_at, log_of(machine)
        time.sleep(0.05)


def back(machine: hosts.Machine, service: str, old: int) -> None:
    soon(machine, lambda: pid_of(machine, service) not in (0, old))


def runs_on(machine: hosts.Machine, pid: int) -> bool:
    """Whether the process lives and is not stopped."""
    return machine.shell(f"cut -d' ' -f3 /proc/{pid}/stat", check=False).stdout.strip() in ("S", "R")


def ask(machine: hosts.Machine, line: str, *, user: str = "root") -> str:
    """What the helper answers to somebody else than the monitor."""
    argv = f"systemd-run --quiet --pipe --wait --collect --uid={user} /usr/bin/python3 -c"
    return machine.shell(f'{argv} "{ASK}" "{line}\n"', check=False).stdout.strip()


def test_a_service_that_freezes_or_dies_is_back_and_the_monitor_says_why(machine: hosts.Machine) -> None:
    soon(machine, lambda: shown(machine, "monitor", "ActiveState") == "active")
    old = pid_of(machine, "web")
    machine.shell(f"kill -STOP {old}")
    soon(machine, lambda: pid_of(machine, "web") not in (0, old) or runs_on(machine, old))
    old = pid_of(machine, "other")
    machine.shell(f"kill -KILL {old}")
    back(machine, "other", old)
    soon(machine, lambda: "incident service-dead is over" in log_of(machine))
    assert "incident service-frozen" in log_of(machine)


def test_one_that_systemd_has_given_up_is_started_again(machine: hosts.Machine) -> None:
    unit = f"{PROJECT}-web.service"
    machine.write(f"/run/systemd/system/{unit}.d/limit.conf", "[Unit]\nStartLimitBurst=1\n")
    machine.shell("systemctl daemon-reload")
    try:
        machine.shell(f"systemctl stop {PROJECT}-monitor && systemctl restart {unit}")
        machine.shell(f"kill -KILL {pid_of(machine, 'web')}")
        soon(machine, lambda: shown(machine, "web", "ActiveState") == "failed")
        machine.shell(f"systemctl start {PROJECT}-monitor")
        soon(machine, lambda: shown(machine, "web", "ActiveState") == "active")
    finally:
        machine.shell(f"rm -r /run/systemd/system/{unit}.d; systemctl daemon-reload")


def test_what_a_person_has_stopped_stays_so_also_when_it_had_failed(
    watched: Servers, machine: hosts.Machine
) -> None:
    machine.shell(f"systemctl stop {PROJECT}-monitor; kill -STOP {pid_of(machine, 'web')}")
    machine.shell(f"systemctl kill --signal=KILL {PROJECT}-other")
    watched.inv("stop", "--group", "servers", "--only", "web,other")
    machine.shell(f"systemctl start {PROJECT}-monitor")
    time.sleep(3.0)
    assert [shown(machine, name, "MainPID") for name in ("web", "other")] == ["0", "0"], log_of(machine)
    assert "was stopped" in ask_as_monitor(machine, f"restart {PROJECT}-web.service")
    watched.inv("start", "--group", "servers")


def ask_as_monitor(machine: hosts.Machine, line: str) -> str:
    """What the helper answers to a process in the monitor's own unit."""
    group = f"/sys/fs/cgroup/system.slice/{PROJECT}-monitor.service/cgroup.procs"
    script = f"echo $$ > {group}; exec setpriv --reuid=vo-{PROJECT} --regid=vo-{PROJECT} --clear-groups"
    return machine.shell(f'{script} /usr/bin/python3 -c "{ASK}" "{line}\n"').stdout.strip()


def test_nothing_is_restarted_while_somebody_holds_the_lock(watched: Servers, machine: hosts.Machine) -> None:
    watched.inv("lock", "--group", "servers", "--reason", "looking at it")
    try:
        pid = pid_of(machine, "web")
        machine.shell(f"kill -STOP {pid}")
        soon(machine, lambda: "not acting" in log_of(machine))
        assert ask_as_monitor(machine, f"restart {PROJECT}-web.service").startswith("locked ")
        assert pid_of(machine, "web") == pid
        assert not runs_on(machine, pid)
        once = watched.inv("monitor", "--group", "servers", "--once", "--json", code=2).json["hosts"]
        assert once[machine.name]["services"]["web"] == "unresponsive"
        assert once[machine.name]["held_by"]
    finally:
        watched.inv("unlock", "--group", "servers")
    soon(machine, lambda: runs_on(machine, pid_of(machine, "web")))
    once = watched.inv("monitor", "--group", "servers", "--once", "--json").json["hosts"][machine.name]
    assert once["services"] == {"web": "ready", "other": "ready", "monitor": "ready"}
    assert (once["ok"], once["held_by"], once["findings"]) == (True, "", [])


def history_of(watched: Servers, machine: hosts.Machine, service: str) -> tuple[list[Any], list[Any]]:
    """The last two incidents of a service, and the repairs of the last one."""
    kept = watched.inv("history", "--host", machine.name, "--since", "1h", "--json").json["hosts"][
        machine.name
    ]
    incidents = [one for one in kept["incidents"] if one["subject"] == service][-2:]
    return incidents, [one for one in kept["repairs"] if one["incident"] == incidents[-1]["id"]]


def test_a_monitor_that_is_killed_comes_back_repeats_nothing_and_forgets_nothing(
    watched: Servers, machine: hosts.Machine
) -> None:
    began = time.time()
    old, monitor = pid_of(machine, "other"), pid_of(machine, "monitor")
    # Without its helper it resumes what is frozen, and can't replace what is frozen again: an incident that goes on.
    try:
        machine.shell(f"systemctl stop {PROJECT}-monitor-restart.socket; kill -STOP {old}")
        soon(machine, lambda: "resume other done" in log_since(machine, began))
        soon(machine, lambda: "incident service-frozen is over" in log_since(machine, began))
        machine.shell(f"kill -STOP {old}")
        soon(machine, lambda: "restart other failed" in log_since(machine, began))
        time.sleep(1.5)  # until the history has it
        machine.shell(f"kill -KILL {monitor}")
        killed = time.monotonic()
        back(machine, "monitor", monitor)
        soon(machine, lambda: shown(machine, "monitor", "ActiveState") == "active")
        print(f"the monitor was back after {time.monotonic() - killed:.1f} s")
        back(machine, "other", old)
        new = pid_of(machine, "other")
        soon(machine, lambda: log_since(machine, began).count("incident service-frozen is over") == 2)
    finally:
        machine.shell(f"systemctl start {PROJECT}-monitor-restart.socket")
    ends_at = time.monotonic() + BACK_WITHIN_S
    while True:  # until the history has it
        incidents, repairs = history_of(watched, machine, "other")
        ended = [one["cause"] for one in incidents if one["ended_at"]]
        if ended == ["service-frozen"] * 2 and repairs and repairs[-1]["ok"]:
            break
        assert time.monotonic() < ends_at, (incidents, repairs)
        time.sleep(0.5)
    assert [one["ok"] for one in repairs] == [False] * (len(repairs) - 1) + [True]
    attempts = [one["attempt_count"] for one in repairs]
    assert attempts == sorted(set(attempts)), "the next monitor goes on with the backoff of the one before"
    assert pid_of(machine, "other") == new


def test_the_helper_takes_one_line_from_the_monitor_s_unit_alone(machine: hosts.Machine) -> None:
    before = {name: pid_of(machine, name) for name in ("web", "monitor")}
    good = f"restart {PROJECT}-web.service"
    assert ask(machine, good, user=f"vo-{PROJECT}") == "refused only the monitor may ask"
    assert ask(machine, good) == "refused this user may not ask"
    for line in (
        "restart ssh.service",
        f"restart {PROJECT}-monitor.service",
        f"restart {PROJECT}-web.service --now",
        f"stop {PROJECT}-web.service",
        f"restart {PROJECT}-nothing.service",
        f"restart {PROJECT}-{'x' * 400}.service",
        "",
    ):
        assert ask_as_monitor(machine, line).startswith("refused "), line
    assert {name: pid_of(machine, name) for name in before} == before


def test_a_second_deploy_changes_nothing_and_its_end_takes_the_helper_with_it(
    watched: Servers, machine: hosts.Machine
) -> None:
    results = watched.deploy()["hosts"][machine.name]["resources"]
    assert {one["result"] for one in results} == {"ok"}
    memory = machine.shell(f"grep ^Pss: /proc/{pid_of(machine, 'monitor')}/smaps_rollup").stdout.split()
    assert int(memory[1]) <= 60_000, "kB"
    status = watched.inv("status", "--group", "servers", "--json").json
    services = status["hosts"][machine.name]["services"]
    assert services["monitor"]["state"] == "ready"
    del watched.variables["services"]["monitor"]
    watched.write()
    watched.deploy()
    left = machine.shell(f"ls /etc/systemd/system | grep monitor; ls {SOCKET}", check=False).stdout
    assert left == ""
