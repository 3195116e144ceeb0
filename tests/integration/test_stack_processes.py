"""The process backend on real processes: exactly one of each, found again, ended whole."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support import parts, stacks
from tests.support.stacks import foreign, observed, record_of, sleeper, soon, stack_of
from voiceops.adapters.process import processes
from voiceops.errors import ServiceError
from voiceops.model.settings import Probe
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.records import LaunchRecord, Records
from voiceops.stack.model import judge


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stacks.end_all(tmp_path)


# -- start, stop, and again --------------------------------------------------


def test_start_stop_and_each_a_second_time_change_nothing_more(folder: Path) -> None:
    stack = stack_of(folder, sleeper("one", folder), sleeper("two", folder, needs=("one",)))
    first = operations.start(stack)
    assert all(result.changed and result.state is ServiceState.READY for result in first.values())
    second = operations.start(stack)
    assert {name: result.pid for name, result in second.items()} == {
        name: result.pid for name, result in first.items()
    }
    assert not any(result.changed for result in second.values())
    assert all(verdict.ok for verdict in operations.check(stack).values())
    assert all(result.changed for result in operations.stop(stack).values())
    assert stacks.marked(folder) == []
    assert not any(result.changed for result in operations.stop(stack).values())
    assert Records(ProjectFolder(folder).state).services() == []
    assert list(ProjectFolder(folder).sockets.glob("*")) == []


def test_what_needs_another_starts_after_it_and_what_does_not_starts_beside_it(folder: Path) -> None:
    def meets(me: str, other: str) -> tuple[str, ...]:
        meeting = f"touch {me}; until test -e {other}; do sleep 0.02; done; touch {me}-ready; echo ready"
        return ("sh", "-c", f"{meeting}; exec sleep 1000")

    stack = stack_of(
        folder,
        sleeper("base", folder, argv=meets("base", "beside")),
        sleeper("beside", folder, argv=meets("beside", "base")),
        sleeper(
            "after",
            folder,
            needs=("base",),
            argv=("sh", "-c", "test -e base-ready && echo ready; exec sleep 1000"),
        ),
    )
    assert operations.start(stack)["after"].state is ServiceState.READY


def test_a_service_with_a_changed_configuration_is_restarted_and_no_other(folder: Path) -> None:
    before = operations.start(stack_of(folder, sleeper("one", folder), sleeper("two", folder)))
    after = operations.start(stack_of(folder, sleeper("one", folder, digest="d2"), sleeper("two", folder)))
    assert after["one"].action == "restart"
    assert after["one"].pid != before["one"].pid
    assert after["two"].pid == before["two"].pid
    assert len([process for process in stacks.marked(folder) if process.leads]) == 2


def test_a_service_that_is_no_longer_declared_is_stopped(folder: Path) -> None:
    operations.start(stack_of(folder, sleeper("one", folder), sleeper("old", folder)))
    results = operations.start(stack_of(folder, sleeper("one", folder)))
    assert results["old"].state is ServiceState.STOPPED
    assert len([process for process in stacks.marked(folder) if process.leads]) == 1


def test_stop_takes_children_in_sessions_of_their_own_with_it(folder: Path) -> None:
    service = sleeper(
        "one", folder, argv=("sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo ready; wait")
    )
    stack = stack_of(folder, service)
    operations.start(stack)
    assert judge(observed(folder, service)).state is ServiceState.READY
    operations.stop(stack)
    assert stacks.marked(folder) == []


def test_a_service_that_ignores_its_stop_signal_is_killed_after_its_timeout(folder: Path) -> None:
    service = sleeper(
        "one",
        folder,
        argv=("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"),
        stop_timeout_s=0.3,
    )
    stack = stack_of(folder, service)
    operations.start(stack)
    operations.stop(stack)
    assert stacks.marked(folder) == []


# -- failures to start -------------------------------------------------------


def test_an_exit_before_ready_is_a_failure_also_with_code_0_and_shows_the_log(folder: Path) -> None:
    service = sleeper("one", folder, argv=("sh", "-c", "echo could not bind; exit 0"))
    with pytest.raises(ServiceError, match=r"ended before it was ready \(exit 0\)") as caught:
        operations.start(stack_of(folder, service))
    assert caught.value.log_tail == ("could not bind",)
    assert Records(ProjectFolder(folder).state).services() == []


def test_a_program_that_does_not_exist_fails_clearly_and_leaves_no_record(folder: Path) -> None:
    with pytest.raises(ServiceError, match="can't run nonexistent-program"):
        operations.start(stack_of(folder, sleeper("one", folder, argv=("nonexistent-program",))))
    assert Records(ProjectFolder(folder).state).services() == []


def test_what_needs_a_failed_service_is_not_started_and_the_rest_is(folder: Path) -> None:
    broken = sleeper("broken", folder, argv=("false",))
    stack = stack_of(folder, broken, sleeper("after", folder, needs=("broken",)), sleeper("other", folder))
    with pytest.raises(ServiceError, match="broken ended"):
        operations.start(stack)
    verdicts = operations.check(stack)
    assert verdicts["other"].ok
    assert verdicts["after"].state is ServiceState.MISSING


def test_a_service_that_never_gets_ready_is_named_with_what_was_seen(folder: Path) -> None:
    service = sleeper("one", folder, probe=Probe(log="never", interval_s=0.01), ready_timeout_s=0.3)
    with pytest.raises(ServiceError, match="not ready after 0 s: no line of the log matches 'never'"):
        operations.start(stack_of(folder, service))


@pytest.mark.parametrize(
    "probe",
    [
        Probe(tcp="127.0.0.1:PORT"),
        Probe(http="http://127.0.0.1:PORT/"),
        Probe(command=["test", "-e", "flag"]),
    ],
)
def test_every_kind_of_probe_waits_until_the_service_can_do_its_job(folder: Path, probe: Probe) -> None:
    port = str(parts.free_port())
    probe = Probe(
        tcp=probe.tcp and probe.tcp.replace("PORT", port),
        http=probe.http and probe.http.replace("PORT", port),
        command=probe.command,
        interval_s=0.02,
    )
    argv = ("sh", "-c", f"touch flag; exec {sys.executable} -m http.server {port} --bind 127.0.0.1")
    stack = stack_of(folder, sleeper("web", folder, argv=argv, probe=probe, ports=(int(port),)))
    if probe.command:
        assert operations.check(stack)["web"].state is ServiceState.MISSING
    assert operations.start(stack)["web"].state is ServiceState.READY
    assert operations.check(stack)["web"].ok
    operations.stop(stack)


# -- exactly one -------------------------------------------------------------


def test_a_recycled_pid_in_the_state_is_never_signalled(folder: Path) -> None:
    service = sleeper("one", folder)
    with foreign("sleep", "1000") as other:
        ProjectFolder(folder).create()
        records = Records(ProjectFolder(folder).state)
        records.update(
            LaunchRecord(
                launch="x",
                service="one",
                kind="command",
                digest="d1",
                pid=other.pid,
                start="boot:1",
                ready_at=1.0,
            )
        )
        stack = stack_of(folder, service)
        verdict = operations.check(stack)["one"]
        assert verdict.state is ServiceState.STALE
        assert "another process" in verdict.detail
        operations.stop(stack)
        assert operations.check(stack)["one"].state is ServiceState.MISSING
        operations.start(stack)
        operations.stop(stack)
        assert other.poll() is None


@pytest.mark.parametrize("damage", ["cut", "gone", "binary", "no pid"])
def test_a_damaged_state_file_neither_loses_nor_doubles_a_service(folder: Path, damage: str) -> None:
    stack = stack_of(folder, sleeper("one", folder))
    pid = operations.start(stack)["one"].pid
    file = ProjectFolder(folder).state / "one.json"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "gone":
        file.unlink()
    elif damage == "binary":
        file.write_bytes(b"\xff\x00" * 50)
    else:  # as a start leaves it that is killed between the birth of the process and the note of its pid
        Records(ProjectFolder(folder).state).update(
            msgspec.structs.replace(record_of(folder, "one"), pid=0, start="", ready_at=None)
        )
    again = operations.start(stack)
    assert again["one"].pid == pid
    assert not operations.start(stack)["one"].changed
    assert len([process for process in stacks.marked(folder) if process.leads]) == 1
    operations.stop(stack)
    assert stacks.marked(folder) == []


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"format": 1, "records": [{"launch": 3}]}'])
def test_a_state_file_that_makes_no_sense_is_replaced(folder: Path, text: str) -> None:
    ProjectFolder(folder).create()
    (ProjectFolder(folder).state / "one.json").write_text(text)
    stack = stack_of(folder, sleeper("one", folder))
    assert operations.check(stack)["one"].state is ServiceState.STALE
    operations.stop(stack)
    assert operations.check(stack)["one"].state is ServiceState.MISSING
    assert operations.start(stack)["one"].changed


def test_two_runs_of_a_service_are_seen_as_duplicates_and_start_keeps_one(folder: Path) -> None:
    service = sleeper("one", folder)
    stack = stack_of(folder, service)
    operations.start(stack)
    stack.backend.wait_ready(service, stack.backend.start(service), soon())
    verdict = operations.check(stack)["one"]
    assert verdict.state is ServiceState.DUPLICATE
    assert len(verdict.pids) == 2
    operations.start(stack)
    assert operations.check(stack)["one"].ok
    assert len([process for process in stacks.marked(folder) if process.leads]) == 1


def test_children_that_outlive_a_killed_service_are_swept_by_the_next_start(folder: Path) -> None:
    service = sleeper("one", folder)
    stack = stack_of(folder, service)
    old = operations.start(stack)["one"].pid
    before = {process.key for process in stacks.marked(folder)}
    os.kill(old, signal.SIGKILL)
    processes.wait_gone([key for key in before if key.pid == old], 5)
    verdict = operations.check(stack)["one"]
    assert verdict.state is ServiceState.STALE
    assert operations.start(stack)["one"].changed
    assert not [key for key in before if processes.alive(key)]


def test_a_jump_of_the_wall_clock_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of(folder, sleeper("one", folder))
    pid = operations.start(stack)["one"].pid
    real = time.time
    for jump in (-10 * 365 * 86400, 10 * 365 * 86400):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        assert operations.check(stack)["one"].ok
        assert observed(folder, sleeper("one", folder)).current[0].age_s < 60
        assert operations.start(stack)["one"].pid == pid
    operations.stop(stack)
    assert stacks.marked(folder) == []
