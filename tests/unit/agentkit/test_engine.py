from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import os
from livekit.agents import AgentServer, JobExecutorType
from livekit.rtc._ffi_client import FfiClient
from voiceops.agentkit.worker import Worker
Worker(AgentServer(job_executor_type=JobExecutorType.{kind})).attach()
print(FfiClient._instance is not None, flush=True)
os._exit(0)
"""
"""The engine ends a process now and then with SIGABRT that ends while it is still starting: not what is tested."""


@pytest.mark.parametrize(("kind", "loaded"), [("THREAD", "True"), ("PROCESS", "False")])
def test_the_engine_is_loaded_before_jobs_in_threads_do_it_at_once(kind: str, loaded: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(kind=kind)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [loaded]
