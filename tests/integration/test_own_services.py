"""The examples of docs/services.md: what process-compose's documentation shows, run from our page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import parts, stacks
from tests.support.stacks import REPOSITORY, Project

PORT = "4040"
APART = (
    "Only some of them",
    "A check that comes first",
    "A key with a typo",
    "Tests with what they need",
    "Restarted, or not",
    "Disabled",
)
"""Examples that a start of all the others would spoil."""


def examples() -> dict[str, dict[str, Any]]:
    text = (REPOSITORY / "docs" / "services.md").read_text()
    found = re.findall(r"^\*\*([^*\n]+)\*\*\n\n```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {title: yaml.safe_load(block) for title, block in found}


@dataclass
class Finished:
    """All examples that fit together, after one start and one stop."""

    folder: Path
    started: dict[str, Any]
    stopped: dict[str, Any]
    daemon_ran: bool

    def log(self, name: str) -> list[str]:
        return (self.folder / f".voiceops/logs/{name}.log").read_text().splitlines()

    def times(self, name: str) -> list[float]:
        return [float(line) for line in self.log(name) if re.fullmatch(r"[0-9.]+", line)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    services: dict[str, Any] = {}
    for title, block in examples().items():
        if title not in APART:
            services |= block
    with stacks.project(tmp_path_factory.mktemp("own") / "services", services) as project:
        inventory = project.folder / "inventory.yaml"
        inventory.write_text(inventory.read_text().replace(PORT, str(parts.free_port())))
        (project.folder / "downloader.env").write_text("VERSION='1.2.3'\n")
        started = project.json("start")
        assert project.json("start")["changed_count"] == 0
        daemon = int((project.folder / "daemon.pid").read_text())
        ran = Path(f"/proc/{daemon}").exists()
        stopped = project.json("stop")
        assert stacks.marked(project.folder) == []
        return Finished(project.folder, started["hosts"]["localhost"]["services"], stopped, ran)


@pytest.fixture
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    with stacks.project(tmp_path / "alone", examples()[request.param]) as project:
        yield project


def test_those_without_needs_run_in_parallel(finished: Finished) -> None:
    # Each of them ends only when it has met the other one.
    assert [finished.started[name]["state"] for name in ("left", "right")] == ["completed", "completed"]


def test_one_that_needs_a_completed_one_runs_after_it(finished: Finished) -> None:
    times = [finished.times(name)[0] for name in ("first", "second", "third")]
    assert times == sorted(times)
    assert finished.started["third"]["state"] == "completed"


def test_a_command_can_end_well_whatever_its_exit_code(finished: Finished) -> None:
    assert (finished.log("attempt"), finished.log("next")) == (["tried"], ["went on"])


def test_a_line_of_the_log_makes_it_ready(finished: Finished) -> None:
    assert finished.times("hello") < finished.times("world")


def test_it_runs_in_its_folder_with_its_variables(finished: Finished) -> None:
    assert finished.log("listing") == ["/usr", "222"]


def test_its_variables_come_from_a_file_and_from_a_command(finished: Finished) -> None:
    assert finished.log("downloader") == ["data_downloader_1.2.3"]
    assert finished.log("dated") == ["runs on Linux"]


def test_a_command_of_several_lines_runs_all_of_them(finished: Finished) -> None:
    assert finished.log("lines") == ["4", "5"]


def test_an_answer_by_http_makes_it_healthy(finished: Finished) -> None:
    assert finished.log("client") == ["200"]


def test_a_command_that_succeeds_makes_it_healthy(finished: Finished) -> None:
    assert finished.log("guest") == ["warm"]


def test_it_ends_by_its_own_signal(finished: Finished) -> None:
    assert finished.log("polite")[-1] == "bye"


def test_a_daemon_runs_until_its_one_shot_is_stopped(finished: Finished) -> None:
    assert finished.daemon_ran
    assert finished.started["daemon"]["state"] == "completed"


def test_what_needs_another_ends_before_it(finished: Finished) -> None:
    assert (finished.folder / "ended").read_text().split() == ["C", "B", "A"]


@pytest.mark.parametrize("alone", ["Only some of them"], indirect=True)
def test_one_that_is_named_brings_what_it_needs_and_nothing_else(alone: Project) -> None:
    services = alone.json("start", "--only", "process1")["hosts"]["localhost"]["services"]
    assert {name: one["state"] for name, one in services.items()} == {
        "process1": "completed",
        "process2": "completed",
    }


@pytest.mark.parametrize("alone", ["A key with a typo"], indirect=True)
def test_an_unknown_key_starts_nothing(alone: Project) -> None:
    refused: subprocess.CompletedProcess[str] = alone.run("start")
    assert refused.returncode == 3
    assert re.search(r"inventory\.yaml:\d+: .*commnad", refused.stderr)
    assert "did you mean 'command'?" in refused.stderr


@pytest.mark.parametrize("alone", ["A check that comes first"], indirect=True)
def test_a_check_that_fails_keeps_the_others_from_starting(alone: Project) -> None:
    ended: subprocess.CompletedProcess[str] = alone.run("start")
    assert ended.returncode == 1
    assert "sanitycheck failed: exit 7" in ended.stderr
    assert "no go here" in ended.stderr
    assert stacks.marked(alone.folder) == []


@pytest.mark.parametrize("alone", ["Tests with what they need"], indirect=True)
def test_tests_that_fail_fail_the_start_and_a_stop_ends_what_they_needed(alone: Project) -> None:
    error = alone.json("start", code=1)["hosts"]["localhost"]["error"]
    assert error["message"].startswith("tests failed: exit 1")
    assert len(stacks.marked(alone.folder)) == 1
    alone.json("stop")
    assert stacks.marked(alone.folder) == []


def services_of(project: Project) -> dict[str, Any]:
    """What `status` shows, whatever its exit code says of it."""
    services: dict[str, Any] = json.loads(project.run("status", "--json").stdout)["hosts"]["localhost"][
        "services"
    ]
    return services


def end_services(project: Project, names: Iterable[str], signal_number: int) -> dict[str, int]:
    """Send the main process of each a signal; returns their pids."""
    services = services_of(project)
    pids = {name: services[name]["pids"][0] for name in names}
    for pid in pids.values():
        os.kill(pid, signal_number)
    return pids


def wait_for_new(project: Project, names: Collection[str], before: dict[str, int]) -> dict[str, str]:
    """Wait until each of these is ready as another process; returns the states of those that ran before."""
    ends_at = time.monotonic() + 60
    while True:
        services = services_of(project)
        again = {
            name
            for name in before
            if services[name]["state"] == "ready" and services[name]["pids"] != [before[name]]
        }
        if again >= set(names):
            return {name: services[name]["state"] for name in before}
        assert time.monotonic() < ends_at, services
        time.sleep(0.2)


@pytest.mark.parametrize("alone", ["Restarted, or not"], indirect=True)
def test_the_monitor_starts_again_what_its_policy_says(alone: Project) -> None:
    services = ("always", "on-failure", "never")
    alone.json("start")
    before = end_services(alone, services, signal.SIGTERM)
    states = wait_for_new(alone, ["always"], before)
    time.sleep(2)  # the monitor looks meanwhile, and leaves those alone that have ended well
    assert wait_for_new(alone, ["always"], before) == states
    assert (states["on-failure"], states["never"]) == ("stale", "stale")
    alone.json("start")
    before = end_services(alone, services, signal.SIGKILL)
    assert wait_for_new(alone, ["always", "on-failure"], before)["never"] == "stale"


@pytest.mark.parametrize("alone", ["Disabled"], indirect=True)
def test_what_is_not_in_run_does_not_start(alone: Project) -> None:
    inventory = alone.folder / "inventory.yaml"
    document = json.loads(inventory.read_text())
    document["all"]["vars"]["run"] = ["wanted"]
    inventory.write_text(json.dumps(document))
    assert list(alone.json("start")["hosts"]["localhost"]["services"]) == ["wanted"]
    assert not (alone.folder / ".voiceops/logs/disabled.log").exists()
    refused: subprocess.CompletedProcess[str] = alone.run("start", "--only", "disabled")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (3, "error: no service 'disabled' here")
