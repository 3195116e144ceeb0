"""The program that waits for a one-shot: its result, its signals, and what the task gets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from voiceops.adapters.process import processes
from voiceops.kinds.model import Declared
from voiceops.model.states import ServiceState
from voiceops.stack.local import oneshot
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.observe import observe_services
from voiceops.stack.local.records import LaunchRecord, Records
from voiceops.stack.model import judge

PID_MAX = 1 << 22
"""No process has it: the kernel's pids end below."""


def run(folder: Path, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-S", oneshot.__file__, str(folder / "result"), *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["sh", "-c", "exit 0"], 0, "exit 0 after"),
        (["sh", "-c", "exit 9"], 9, "exit 9 after"),
        (["sh", "-c", "kill -9 $$"], 137, "signal 9 after"),
        (["no-such-program"], 127, "can't be run: No such file or directory"),
    ],
)
def test_how_it_ended_is_written_down(tmp_path: Path, argv: list[str], code: int, said: str) -> None:
    with run(tmp_path, *argv) as process:
        assert process.wait(timeout=30) == code
    result = oneshot.read_result(tmp_path / "result")
    assert result is not None
    assert str(result).startswith(said)


def test_a_signal_reaches_the_task(tmp_path: Path) -> None:
    trap = "trap 'exit 5' TERM; echo up; while true; do sleep 0.02; done"
    with run(tmp_path, "sh", "-c", trap) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 5


def test_the_task_has_no_signal_blocked_or_ignored_that_programs_expect(tmp_path: Path) -> None:
    with run(tmp_path, "cat", "/proc/self/status") as process:
        said, _ = process.communicate(timeout=30)
    masks = dict(line.split(":\t") for line in said.splitlines() if line.startswith(("SigBlk", "SigIgn")))
    assert int(masks["SigBlk"], 16) == 0
    assert not int(masks["SigIgn"], 16) & 1 << (signal.SIGPIPE - 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"exit_status": "x"}'])
def test_a_damaged_result_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "result").write_text(text)
    assert oneshot.read_result(tmp_path / "result") is None
    assert oneshot.read_result(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("pid", "start", "state"),
    [
        (0, processes.boot_id(), ServiceState.COMPLETED),
        (PID_MAX, f"{processes.boot_id()}:1", ServiceState.COMPLETED),
        (PID_MAX, "another-boot:1", ServiceState.STALE),
    ],
    ids=[
        "its start was killed before it knew the process",
        "it has ended",
        "before the machine was started anew",
    ],
)
def test_its_result_counts_until_the_machine_is_started_anew(
    tmp_path: Path, pid: int, start: str, state: ServiceState
) -> None:
    folder = ProjectFolder(tmp_path)
    folder.create()
    record = LaunchRecord(
        launch="l", service="task", kind="command", digest="d", oneshot=True, pid=pid, start=start
    )
    Records(folder.state).update(record)
    result = {"exit_status": 0, "took_s": 1.25, "error": ""}
    folder.ended_file("task", "l").write_text(json.dumps(result))
    task = Declared(name="task", kind="command", cwd=tmp_path, oneshot=True)
    assert judge(observe_services(folder, [task])["task"]).state is state
