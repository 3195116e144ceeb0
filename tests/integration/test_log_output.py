"""Logs of real services: what reaches a terminal, what reaches a pipe, and rotation while nobody looks."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import stacks, terminals
from tests.support.stacks import observed, sleeper, stack_of
from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import Process
from voiceops.model.states import ServiceState
from voiceops.stack import operations
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.logs import rotation

HOSTILE = b"2026-01-01T00:00:01Z red \x1b[31m\x1b]0;title\x07 \xff\xfe \xc2\x9b2J end"
PRINTS = "printf '" + "".join(f"\\{byte:03o}" for byte in HOSTILE) + "\\n'"


def on_terminal(project: stacks.Project, *arguments: str) -> bytes:
    """What the command writes to a wide terminal."""
    environment = project.environment() | {"TERM": "xterm"}
    return terminals.on_terminal(
        project.argv(*arguments), folder=project.folder, environment=environment, columns=300
    )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[stacks.Project]:
    services = stacks.cheap_services(["noisy", "failing"])
    services["noisy"]["command"] = ["sh", "-c", f"{PRINTS}; echo ready; exec sleep 1000"]
    services["failing"]["command"] = ["sh", "-c", f"{PRINTS}; exit 3"]
    with stacks.project(tmp_path / "project", services) as made:
        made.json("start", "--only", "noisy")
        yield made


def test_escapes_of_a_service_do_not_reach_the_terminal_unless_asked_for(project: stacks.Project) -> None:
    shown = on_terminal(project, "logs", "--only", "noisy")
    assert rb"red \x1b[31m\x1b]0;title\x07 \udcff\udcfe \x9b2J end" in shown
    assert b"\x1b]0" not in shown
    assert b"\xc2\x9b" not in shown
    assert HOSTILE in on_terminal(project, "logs", "--only", "noisy", "--raw")


def test_a_pipe_gets_the_bytes_that_the_service_wrote(project: stacks.Project) -> None:
    for flags in ([], ["--raw"], ["--lines", "0"]):
        argv = project.argv("logs", "--only", "noisy", *flags)
        ended = subprocess.run(argv, cwd=project.folder, env=project.environment(), capture_output=True)
        assert ended.stdout == b"noisy | " + HOSTILE + b"\nnoisy | ready\n"
    (first, _) = project.json("logs", "--only", "noisy")["lines"]
    assert first["line"].endswith("\x1b]0;title\x07 \ufffd\ufffd \x9b2J end")


def test_the_log_in_an_error_does_not_draw(project: stacks.Project) -> None:
    shown = on_terminal(project, "start", "--only", "failing")
    assert rb"| 2026-01-01T00:00:01Z red \x1b[31m\x1b]0;title\x07" in shown
    assert b"\x1b]0" not in shown


def test_a_stray_whose_command_line_draws_is_shown_as_text(tmp_path: Path) -> None:
    name = "\x1b]0;title\x07\nhint: run this"
    listener = "import socket,time; s=socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); time.sleep(1000)"
    with stacks.foreign("python3", "-c", listener, name, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        services = stacks.cheap_services(["web"])
        services["web"]["port"] = port
        with stacks.project(tmp_path / "project", services) as made:
            for command in (["status"], ["check-running"], ["start"]):
                shown = on_terminal(made, *command)
                assert str(other.pid).encode() in shown
                assert b"\x1b]0" not in shown
                assert b"\nhint: run this" not in shown
        other.stdout.close()


def test_logs_rotate_while_services_run_and_the_process_that_does_it_ends_with_them(tmp_path: Path) -> None:
    flood = "echo ready; while :; do echo 2026-01-01T00:00:00Z and so on; done"
    loud = sleeper("loud", tmp_path, argv=("sh", "-c", flood), log_max_bytes=200_000, log_keep=2)
    quiet = sleeper("quiet", tmp_path)
    stack = stack_of(tmp_path, loud, quiet)
    folder = ProjectFolder(tmp_path)
    try:
        operations.start(stack)
        rotated = folder.logs / "loud.log.2"
        patience = stacks.soon(60)
        while not rotated.exists():
            patience.check("no log was rotated")
            time.sleep(0.1)
        assert rotated.stat().st_mode == folder.log_file("loud").stat().st_mode
        pid = rotation.last_holder(folder.base)
        operations.start(stack, renew=True, only=["quiet"])
        assert rotation.last_holder(folder.base) == pid
        operations.stop(stack, only=["loud"])
        assert processes.find(pid)
        assert observed(tmp_path, quiet).instances[0].state is ServiceState.READY
        operations.stop(stack)
        assert processes.find(pid) is None
    finally:
        stacks.end_all(tmp_path)


def test_a_log_is_rotated_by_one_process_and_by_the_next_when_it_was_killed(tmp_path: Path) -> None:
    stack = stack_of(tmp_path, sleeper("one", tmp_path), sleeper("two", tmp_path))
    folder = ProjectFolder(tmp_path)
    try:
        operations.start(stack)
        first = _rotator(folder)
        processes.kill_all([first.key])
        operations.start(stack, renew=True, only=["one"])
        assert _rotator(folder).pid != first.pid
        operations.stop(stack)
        assert not rotation.lock_held(folder.base)
    finally:
        stacks.end_all(tmp_path)


def _rotator(folder: ProjectFolder) -> Process:
    """The process that holds the lock. It notes its pid a moment after it has taken it, so the note may be an older one."""
    patience = stacks.soon(20)
    while True:
        found = processes.find(rotation.last_holder(folder.base))
        if found is not None and rotation.lock_held(folder.base):
            return found
        patience.check("nobody holds the lock of the rotation")
        time.sleep(0.05)
