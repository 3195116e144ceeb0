"""The monitor over real processes: what dies or freezes comes back, what a person stopped does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import stacks
from tests.support.stacks import Project
from voiceops.adapters.process import processes
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.records import Records

pytestmark = pytest.mark.timeout(120)
BACK_WITHIN_S = 40.0
"""Five times what it takes, for a machine under load."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    services = {**stacks.cheap_services(["one", "two"]), "monitor": {"kind": "monitor"}}
    with stacks.project(tmp_path / "project", services) as made:
        made.json("start")
        yield made


def pid_of(project: Project, service: str) -> int:
    """The main process that the record names, if it lives."""
    records, _ = Records(ProjectFolder(project.folder).state).read(service)
    return next((one.pid for one in records if one.ready_at is not None and processes.alive(one.key)), 0)


def log_of(project: Project) -> str:
    return ProjectFolder(project.folder).log_file("monitor").read_text()


def soon(condition: Callable[[], bool], project: Project) -> None:
    ends_at = time.monotonic() + BACK_WITHIN_S
    while not condition():
        assert time.monotonic() < ends_at, log_of(project)
        time.sleep(0.05)


def back(project: Project, service: str, old: int) -> None:
    soon(lambda: pid_of(project, service) not in (0, old), project)


def test_what_is_killed_or_frozen_comes_back_and_what_a_person_stopped_does_not(project: Project) -> None:
    project.json("stop", "--only", "two")
    old = pid_of(project, "one")
    os.kill(old, signal.SIGKILL)
    back(project, "one", old)
    frozen = pid_of(project, "one")
    os.kill(frozen, signal.SIGSTOP)
    soon(lambda: "resume one done" in log_of(project), project)
    assert (pid_of(project, "one"), processes.is_frozen(frozen)) == (frozen, False), "its calls go on"
    os.kill(frozen, signal.SIGSTOP)
    back(project, "one", frozen)
    old = pid_of(project, "monitor")
    os.kill(old, signal.SIGKILL)
    back(project, "monitor", old)
    old = pid_of(project, "one")
    os.kill(old, signal.SIGKILL)
    back(project, "one", old)
    assert pid_of(project, "two") == 0
    project.json("stop")
    assert stacks.marked(project.folder) == []
    time.sleep(1.5)
    assert stacks.marked(project.folder) == [], "nothing starts it again"


def guards(project: Project) -> list[int]:
    """Pids of the processes that start the monitor again."""
    return [
        one.pid
        for one in stacks.marked(project.folder)
        if "guard.py" in " ".join(processes.command_line(one.pid))
    ]


def test_a_guard_that_is_killed_is_replaced_and_its_successor_guards(project: Project) -> None:
    soon(lambda: len(guards(project)) == 1, project)
    (first,) = guards(project)
    os.kill(first, signal.SIGKILL)
    soon(lambda: any(pid != first for pid in guards(project)), project)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        old = pid_of(project, "monitor")
        os.kill(old, number)
        back(project, "monitor", old)


def dead_monitors(project: Project) -> list[dict[str, str]]:
    """What `inv why` says of monitors; it has found that there is no LiveKit, too."""
    findings = project.json("why", code=1)["findings"]
    return [one for one in findings if one["rule"] == "monitor-dead"]


def test_a_monitor_that_is_killed_with_its_guard_is_named_by_each_command_and_both_come_back_with_a_start(
    project: Project,
) -> None:
    (project.folder / ".env").write_text("LIVEKIT_API_KEY=k\nLIVEKIT_API_SECRET=s\n")
    project.json("start")
    soon(lambda: len(guards(project)) == 1, project)
    monitor, (guard,) = pid_of(project, "monitor"), guards(project)
    for pid in (monitor, guard):
        os.kill(pid, signal.SIGKILL)
    time.sleep(3.0)
    assert (pid_of(project, "monitor"), guards(project)) == (0, [])
    checked = project.run("check-running")
    assert checked.returncode == 2
    assert "monitor" in checked.stdout
    status = project.json("status")["hosts"]["localhost"]["services"]
    assert (status["monitor"]["state"], status["one"]["state"]) == ("stale", "ready")
    (finding,) = dead_monitors(project)
    assert finding["fix"].endswith("start --only monitor")
    project.json("start")
    soon(lambda: pid_of(project, "monitor") != 0 and len(guards(project)) == 1, project)
    assert project.run("check-running").returncode == 0
    assert dead_monitors(project) == []


def test_what_a_person_has_just_started_is_watched(project: Project) -> None:
    project.json("stop", "--only", "two")
    project.json("start", "--only", "two")
    time.sleep(1.0)
    old = pid_of(project, "two")
    os.kill(old, signal.SIGKILL)
    back(project, "two", old)


def test_nothing_is_done_while_somebody_else_holds_the_lock(project: Project) -> None:
    stack = stacks.stack_of(project.folder)
    old = pid_of(project, "one")
    with stack.lock(stacks.soon()):
        os.kill(old, signal.SIGKILL)
        soon(lambda: "not acting: test holds the lock" in log_of(project), project)
        time.sleep(1.0)
        assert pid_of(project, "one") == 0
    back(project, "one", old)


def test_there_is_one_monitor_and_one_check_changes_nothing(project: Project) -> None:
    second = project.run("monitor")
    assert (second.returncode, "another monitor watches this stack" in second.stderr) == (4, True)
    project.json("monitor", "--once")
    project.json("stop", "--only", "one")
    project.json("monitor", "--once")
    assert pid_of(project, "one") == 0


def test_it_begins_again_with_a_changed_configuration_and_keeps_the_old_one_while_the_new_one_is_wrong(
    project: Project,
) -> None:
    inventory = project.folder / "inventory.yaml"
    good = inventory.read_text()
    old = pid_of(project, "monitor")
    inventory.write_text(
        good.replace('"project": "test"', '"project": "test", "rooms": {"stale_after_s": -x}')
    )
    os.kill(pid_of(project, "one"), signal.SIGKILL)  # so that it looks at once
    soon(lambda: "is wrong, so the old one stays" in log_of(project), project)
    assert pid_of(project, "monitor") == old
    inventory.write_text(
        good.replace('"project": "test"', '"project": "test", "rooms": {"stale_after_s": 7}')
    )
    os.kill(pid_of(project, "two"), signal.SIGKILL)
    back(project, "monitor", old)


def test_a_service_that_dies_at_once_is_started_again_with_growing_pauses(project: Project) -> None:
    services = {**stacks.cheap_services(["one", "two"]), "monitor": {"kind": "monitor"}}
    services["one"] = {"kind": "command", "command": ["sh", "-c", "sleep 0.6; exit 3"]}
    stacks.write_inventory(project.folder, services)
    project.json("start")
    soon(lambda: log_of(project).count("start one") >= 4, project)
    tries = [line for line in log_of(project).splitlines() if "start one" in line]
    assert len(tries) < 12
    project.json("stop", "--only", "one")
    count = log_of(project).count("start one")
    time.sleep(5.0)
    assert log_of(project).count("start one") == count, "what a person stopped stays stopped"
