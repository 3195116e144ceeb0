"""What a run takes of its machine is its own: not that of another service that it has started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import LINUX
from voiceops.model import protocol
from voiceops.model.states import ServiceState
from voiceops.stack.local.usage import usage
from voiceops.stack.model import Instance

PARENT = """
import os, subprocess, sys, time
held = bytearray(os.urandom(1000)) * 60_000
child = "held = bytearray(b'x' * 1000) * 60_000; print('ready', flush=True); import time; time.sleep(60)"
environment = {**os.environ, "VOICEOPS_LAUNCH": sys.argv[1]}
subprocess.Popen([sys.executable, "-c", child], env=environment, start_new_session=True)
time.sleep(60)
"""


@pytest.mark.skipif(not LINUX, reason="memory is read from /proc")
@pytest.mark.parametrize(("launch", "least_mb", "most_mb"), [("own", 120, 200), ("other", 60, 110)])
def test_a_child_counts_unless_it_is_a_service_of_its_own(
    tmp_path: Path, launch: str, least_mb: int, most_mb: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, launch],
        env=os.environ | {protocol.LAUNCH_ENV: "own"},
        stdout=subprocess.PIPE,
    )
    children: list[int] = []
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        children = [one.pid for one in processes.descendants(process.pid, processes.table())]
        one = Instance(service="s", launch="own", pid=process.pid, digest="d", state=ServiceState.READY)
        taken = usage(one)
        assert taken is not None
        assert least_mb < taken.memory_bytes / 1e6 < most_mb
    finally:
        process.kill()
        for pid in children:
            os.kill(pid, 9)
        process.communicate()
