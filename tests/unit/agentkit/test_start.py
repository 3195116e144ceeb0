"""``python -m voiceops.agentkit start``, up to the agent's own code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENTRY = """
import atexit, gc
print("while loading:", gc.isenabled())
atexit.register(lambda: print("after it:", gc.isenabled()))
raise RuntimeError("no model file")
"""


def test_garbage_is_not_looked_for_while_the_agent_is_loaded(tmp_path: Path, repository: Path) -> None:
    entry = tmp_path / "agent.py"
    entry.write_text(ENTRY)
    start = [sys.executable, "-m", "voiceops.agentkit", "start", str(entry)]
    done = subprocess.run(start, cwd=repository, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "no model file" in done.stdout + done.stderr
    assert done.stdout.count("while loading: False") == 1
    assert done.stdout.count("after it: True") == 1
