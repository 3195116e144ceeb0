"""start, stop, check-running, status and logs as a user runs them: many at once, and killed half way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import stacks
from tests.support.documents import error_of, problem
from voiceops.adapters.process import processes
from voiceops.stack.local.folder import ProjectFolder

ROUNDS = int(os.environ.get("VOICEOPS_STACK_ROUNDS", "6"))
NAMES = ("one", "two", "three")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[stacks.Project]:
    services = stacks.cheap_services(NAMES)
    services["two"]["needs"] = ["one"]
    with stacks.project(tmp_path / "project", services) as made:
        yield made


def assert_one_of_each(project: stacks.Project) -> dict[str, int]:
    """Exactly one of each service and its child, nothing else; their pids."""
    document = project.json("check-running")
    pids = {name: service["pids"] for name, service in document["hosts"]["localhost"]["services"].items()}
    assert all(len(found) == 1 for found in pids.values()), document
    leaders = sorted(process.pid for process in stacks.marked(project.folder) if process.leads)
    assert leaders == sorted(found[0] for found in pids.values())
    return {name: found[0] for name, found in pids.items()}


def test_start_says_what_changed_and_a_second_one_that_nothing_did(project: stacks.Project) -> None:
    first = project.json("start")
    assert first["changed_count"] == 3
    assert {service["state"] for service in first["hosts"]["localhost"]["services"].values()} == {"ready"}
    assert all(service["ready_s"] >= 0 for service in first["hosts"]["localhost"]["services"].values())
    second = project.json("start")
    assert second["changed_count"] == 0
    assert [service["pids"] for service in second["hosts"]["localhost"]["services"].values()] == [
        service["pids"] for service in first["hosts"]["localhost"]["services"].values()
    ]
    assert project.json("stop")["changed_count"] == 3
    assert project.json("check-running", code=2)["ok"] is False
    assert stacks.marked(project.folder) == []


def test_status_counts_restarts_and_tells_what_a_service_takes(project: stacks.Project) -> None:
    def status() -> dict[str, Any]:
        service: dict[str, Any] = project.json("status")["hosts"]["localhost"]["services"]["one"]
        return service

    project.json("start")
    first = status()
    assert first["restart_count"] == 0
    assert first["cpu_share"] >= 0
    assert 100_000 < first["memory_bytes"] < 1_000_000_000
    os.kill(first["pids"][0], signal.SIGKILL)
    project.json("start")
    assert status()["restart_count"] == 1
    project.json("restart", "--only", "one")
    assert status()["restart_count"] == 2
    project.json("stop")
    project.json("start")
    assert status()["restart_count"] == 0


@pytest.mark.timeout(480)
def test_fifty_starts_at_once_make_one_of_each_and_all_succeed(project: stacks.Project) -> None:
    running = [project.spawn("start", "--timeout", "150") for _ in range(50)]
    ended = [(process.communicate(timeout=170)[1], process.returncode) for process in running]
    assert [code for _, code in ended] == [0] * 50, next(err for err, code in ended if code)
    assert_one_of_each(project)


@pytest.mark.timeout(480)
def test_start_ends_ready_after_random_kills_of_services_children_and_of_start_itself(
    project: stacks.Project,
) -> None:
    dice = random.Random(ROUNDS)
    for round_number in range(ROUNDS):
        starting = project.spawn("start")
        if round_number % 3 != 2:
            _kill_at_random_moment(starting, dice)
        starting.communicate(timeout=60)
        alive = stacks.marked(project.folder)
        for process in dice.sample(alive, dice.randint(0, len(alive))):
            processes.send_signal(process.key, signal.SIGKILL)
        project.json("start")
        assert_one_of_each(project)
        if round_number % 2:
            project.json("stop")
            assert stacks.marked(project.folder) == []


def _kill_at_random_moment(starting: subprocess.Popen[str], dice: random.Random) -> None:
    """Between nothing and a little after the time that a start takes: every step gets its turn."""
    ends_at = time.monotonic() + dice.uniform(0.05, 0.7)
    while time.monotonic() < ends_at and starting.poll() is None:
        time.sleep(0.005)
    starting.kill()


def test_a_command_that_waits_for_the_lock_too_long_exits_4_and_names_the_owner(
    project: stacks.Project,
) -> None:
    slow = stacks.cheap_services(["one"], command=["sh", "-c", "sleep 1000"], ready_timeout_s=50)
    stacks.write_inventory(project.folder, slow)
    first = project.spawn("start")
    lock = ProjectFolder(project.folder).base / "lock"
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None
        time.sleep(0.01)
    document = project.json("stop", "--timeout", "0.5", code=4)
    assert error_of(document)["pid"] == first.pid
    first.kill()
    first.communicate()


def test_errors_have_their_exit_codes_and_start_nothing(project: stacks.Project) -> None:
    wrong = project.run("start", "--only", "nobody")
    assert wrong.returncode == 3
    assert "one, three, two" in wrong.stderr
    assert project.run("stop", "--now", "--drain", "3").returncode == 3
    assert project.run("logs", "--since", "yesterday").returncode == 3
    assert stacks.marked(project.folder) == []


def test_a_service_that_dies_at_its_start_exits_1_with_its_last_words(project: stacks.Project) -> None:
    services = stacks.cheap_services(["one"], command=["sh", "-c", "echo no luck; exit 0"])
    stacks.write_inventory(project.folder, services)
    ended = project.run("start")
    assert ended.returncode == 1
    assert "ended before it was ready (exit 0)" in ended.stderr
    assert "| no luck" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_only_the_named_service_is_stopped_and_restarted(project: stacks.Project) -> None:
    project.json("start")
    before = assert_one_of_each(project)
    project.json("restart", "--only", "three")
    after = assert_one_of_each(project)
    assert {name for name in NAMES if before[name] != after[name]} == {"three"}
    project.json("stop", "-o", "three")
    document = project.json("check-running", code=2)
    assert document["hosts"]["localhost"]["services"]["three"]["state"] == "missing"
    assert project.json("check-running", "-o", "one,two")["ok"] is True


def test_status_counts_services_and_calls_per_host(project: stacks.Project) -> None:
    project.json("start")
    hosts = project.json("status")["hosts"]
    assert list(hosts) == ["localhost"]
    assert {service["state"] for service in hosts["localhost"]["services"].values()} == {"ready"}
    assert hosts["localhost"]["call_count"] == 0
    assert "ready" in project.run("status").stdout


def test_logs_are_merged_filtered_and_followed(project: stacks.Project) -> None:
    logs = ProjectFolder(project.folder).logs
    logs.mkdir(parents=True)
    (logs / "one.log").write_text("2026-01-01T00:00:01Z a\n2026-01-01T00:00:03Z c\n")
    (logs / "two.log").write_text("2026-01-01T00:00:02Z b\n")
    assert [line["line"][-1] for line in project.json("logs")["lines"]] == ["a", "b", "c"]
    assert len(project.json("logs", "--only", "two")["lines"]) == 1
    assert len(project.json("logs", "--since", "2026-01-01T00:00:02Z")["lines"]) == 2
    assert project.run("logs", "--lines", "1").stdout == "one   | 2026-01-01T00:00:03Z c\n"
    following = project.spawn("logs", "--follow", "--json")
    assert following.stdout is not None
    for expected in "abc":
        line = json.loads(following.stdout.readline())
        assert (line["line"][-1], problem("logs.json#/$defs/LogLine", line)) == (expected, "")
    with (logs / "three.log").open("a") as file:
        file.write("2026-01-01T00:00:09Z d\n")
    assert json.loads(following.stdout.readline())["service"] == "three"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    assert following.returncode == 0


def test_progress_off_a_terminal_is_plain_lines_on_stderr(project: stacks.Project) -> None:
    ended = project.run("start")
    assert "one: starting (was not running)" in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "start: 3 services changed" in ended.stdout


def test_an_interrupted_restart_says_what_runs_and_how_to_go_on(tmp_path: Path) -> None:
    services = stacks.cheap_services(("one", "two"))
    services["two"] |= {"needs": ["one"], "probe": {"tcp": "127.0.0.1:1"}, "ready_timeout_s": 60.0}
    with stacks.project(tmp_path / "project", services) as project:
        process = project.spawn("restart")
        while sum(one.leads for one in stacks.marked(project.folder)) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "one is ready, two is starting; `./inv start` goes on from there" in err
        assert err.rstrip().endswith("interrupted")
