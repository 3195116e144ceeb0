"""One-shots of ``kind: command`` as real processes: waited for, run once, and what becomes of them when things break."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import stacks
from tests.support.stacks import Project

TASK = "echo begun >> runs; while test -e hold; do sleep 0.02; done; cat outcome; exit $(cat outcome)"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    services = stacks.cheap_services(["db", "api"])
    services["migrate"] = {
        "kind": "command",
        "command": ["sh", "-c", TASK],
        "oneshot": True,
        "needs": {"db": "healthy"},
    }
    services["api"]["needs"] = {"migrate": "completed", "db": "started"}
    with stacks.project(tmp_path_factory.mktemp("one shots"), services) as made:
        yield made


@pytest.fixture
def folder(project: Project) -> Iterator[Path]:
    """The project's folder, with everything stopped and no run counted."""
    (project.folder / "outcome").write_text("0")
    try:
        yield project.folder
    finally:
        (project.folder / "hold").unlink(missing_ok=True)
        project.run("stop", "--now")
        (project.folder / "runs").unlink(missing_ok=True)


def states(document: dict[str, Any]) -> dict[str, str]:
    services = document["hosts"]["localhost"]["services"]
    return {name: one["state"] for name, one in services.items()}


def until(folder: Path, name: str) -> None:
    ends_at = time.monotonic() + 30
    while not (folder / name).exists():
        assert time.monotonic() < ends_at, (folder / ".voiceops/logs/migrate.log").read_text()
        time.sleep(0.02)


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_it_is_waited_for_and_runs_once(project: Project, folder: Path) -> None:
    first = project.json("start")
    assert states(first) == {"db": "ready", "migrate": "completed", "api": "ready"}
    assert project.json("start")["changed_count"] == 0
    assert states(project.json("check-running"))["migrate"] == "completed"
    seen = project.json("status")["hosts"]["localhost"]["services"]["migrate"]
    assert (seen["state"], seen["pids"], seen["uptime_s"]) == ("completed", [], None)
    assert runs(folder) == 1
    assert project.json("restart", "--only", "migrate")["changed_count"] == 1
    assert runs(folder) == 2
    assert project.json("stop")["changed_count"] == 3
    assert project.json("stop")["changed_count"] == 0
    assert states(project.json("check-running", code=2))["migrate"] == "missing"


def test_one_that_fails_holds_back_what_needs_it_and_is_run_again_by_the_next_start(
    project: Project, folder: Path
) -> None:
    (folder / "outcome").write_text("3")
    error = project.json("start", code=1)["hosts"]["localhost"]["error"]
    assert error["message"].startswith("migrate failed: exit 3 after ")
    assert error["log"] == ["3"]
    assert states(project.json("check-running", code=2)) == {
        "db": "ready",
        "migrate": "failed",
        "api": "missing",
    }
    (folder / "outcome").write_text("0")
    assert states(project.json("start"))["api"] == "ready"
    assert runs(folder) == 2


def test_it_completes_although_the_command_that_started_it_was_killed(project: Project, folder: Path) -> None:
    (folder / "hold").touch()
    command = project.spawn("start")
    until(folder, "runs")
    command.kill()
    command.communicate()
    assert states(project.json("check-running", code=2))["migrate"] == "starting"
    (folder / "hold").unlink()
    assert states(project.json("start")) == {"db": "ready", "migrate": "completed", "api": "ready"}
    assert runs(folder) == 1


def test_two_starts_at_once_run_it_once(project: Project, folder: Path) -> None:
    both = [project.spawn("start", "--json") for _ in range(2)]
    said = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert runs(folder) == 1


def test_one_that_is_killed_ends_with_all_that_it_started(project: Project, folder: Path) -> None:
    (folder / "hold").touch()
    command = project.spawn("start", "--json")
    until(folder, "runs")
    os.kill(project.json("status")["hosts"]["localhost"]["services"]["migrate"]["pids"][0], signal.SIGKILL)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 1, said
    assert "migrate ended before it was completed (signal 9)" in said
    left = [
        one for one in stacks.marked(folder) if b"echo begun" in Path(f"/proc/{one.pid}/cmdline").read_bytes()
    ]
    assert left == []
