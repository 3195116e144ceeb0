"""State files when several runs of one service are changed at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from voiceops.stack.local.records import LaunchRecord, Records
from voiceops.stack.results import side_by_side


def test_runs_of_one_service_changed_side_by_side_are_all_kept_and_all_removed(tmp_path: Path) -> None:
    records = Records(tmp_path / "state")
    launches = [f"launch-{number}" for number in range(12)]

    def add(launch: str) -> None:
        records.update(LaunchRecord(launch=launch, service="agent", kind="agent", digest="d"))

    side_by_side([lambda launch=launch: add(launch) for launch in launches])  # type: ignore[misc]
    assert sorted(one.launch for one in records.read("agent")[0]) == sorted(launches)
    side_by_side([lambda launch=launch: records.remove("agent", launch) for launch in launches])  # type: ignore[misc]
    assert records.read("agent") == ([], "")


def test_threads_that_read_first_at_once_do_not_crash(tmp_path: Path) -> None:
    """msgspec builds what it knows of a type on first use; two threads in it at once ended the interpreter."""
    program = """
import sys, threading
sys.setswitchinterval(1e-6)
from pathlib import Path
from voiceops.stack.local.records import LaunchRecord, Records
folder = Path(sys.argv[1])
(folder / "a.json").write_text('{"records": [{"launch": "l", "service": "a", "kind": "agent", "digest": "d"}]}')
start = threading.Barrier(8)
def read():
    start.wait()
    assert Records(folder).read("a")[0][0].launch == "l"
threads = [threading.Thread(target=read) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60, check=False)
        assert done.returncode == 0
