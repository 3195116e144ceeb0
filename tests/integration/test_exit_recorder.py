"""Programs whose end is written down by a parent of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from voiceops.adapters.process import exit_recorder, processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.errors import ServiceError

WAIT = "while true; do sleep 0.05; done"


def start(folder: Path, script: str) -> ProcessKey:
    return processes.spawn(
        ["/bin/sh", "-c", script],
        env={"PATH": os.environ["PATH"], "OWN": "mark"},
        cwd=folder,
        log_file=folder / "log",
        ended_file=folder / "result",
    )


@pytest.mark.parametrize(
    ("script", "number", "status"),
    [
        (f"trap 'exit 0' TERM; echo up; {WAIT}", signal.SIGTERM, 0),
        (f"trap 'exit 3' TERM; echo up; {WAIT}", signal.SIGTERM, 3),
        (f"echo up; {WAIT}", signal.SIGKILL, -9),
    ],
    ids=["exit 0", "exit 3", "killed"],
)
def test_how_a_program_ended_is_known_to_those_that_did_not_start_it(
    tmp_path: Path, script: str, number: int, status: int
) -> None:
    key = start(tmp_path, script)
    while (tmp_path / "log").read_text() != "up\n":
        time.sleep(0.01)
    assert processes.environment(key.pid).get("OWN") == "mark"
    parent = psutil.Process(key.pid).parent()
    assert parent is not None
    assert "OWN" not in parent.environ()
    assert parent.ppid() != os.getpid(), "whoever started it has nothing to reap"
    assert os.getsid(key.pid) == key.pid, "what signals its session reaches it alone"
    assert processes.ended_status(tmp_path / "result", patience_s=0) is None
    os.kill(key.pid, number)
    assert processes.ended_status(tmp_path / "result", patience_s=10) == status
    parent.wait(10)


def test_a_parent_that_is_killed_leaves_the_program_and_knows_nothing(tmp_path: Path) -> None:
    key = start(tmp_path, "exec sleep 1000")
    try:
        parent = psutil.Process(key.pid).parent()
        assert parent is not None
        parent.kill()
        parent.wait(10)
        assert processes.alive(key)
    finally:
        os.kill(key.pid, signal.SIGKILL)
    assert processes.ended_status(tmp_path / "result", patience_s=0.3) is None


def test_a_program_ends_again_where_whoever_starts_it_is_killed_before_it_knows_the_pid(
    tmp_path: Path,
) -> None:
    asked = {"argv": ["/bin/sleep", "1000"], "env": {}, "cwd": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-I", "-S", exit_recorder.__file__, str(tmp_path / "result")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starting:
        assert starting.stdin is not None
        assert starting.stdout is not None
        print(json.dumps(asked), file=starting.stdin, flush=True)
        program = psutil.Process(json.loads(starting.stdout.readline())["pid"])
        starting.stdin.close()
        program.wait(10)


def test_nothing_is_written_once_a_stop_has_removed_the_result(tmp_path: Path) -> None:
    key = start(tmp_path, "exec sleep 1000")
    parent = psutil.Process(key.pid).parent()
    assert parent is not None
    (tmp_path / "result").unlink()
    os.kill(key.pid, signal.SIGKILL)
    parent.wait(10)
    assert not (tmp_path / "result").exists()


def test_a_program_that_can_t_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="can't run /no/such: No such file or directory"):
        processes.spawn(
            ["/no/such"], env={}, cwd=tmp_path, log_file=tmp_path / "log", ended_file=tmp_path / "result"
        )
