"""Rooms and workers that calls leave behind: ``python -m bench.ghosts [--seconds S] [--rounds N]``.

Six callers at once while the agent is replaced by overlap three times a round. 30 s after the last
call there must be no room and no draining worker. Exit 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.projects import REPOSITORY, Project, project
from voiceops.agentkit.worker import BLOCKED_S

ENTRY = REPOSITORY / "examples" / "agent" / "agent.py"
HANGUPS = "clean,mid-greeting,clean,abrupt"
OVERLAPS = 3
AFTER_S = 30.0


def replace_agent(made: Project, number: int, seconds: float) -> None:
    """Change the code and start anew, ``OVERLAPS`` times in ``seconds``."""
    entry = made.folder / "agent" / "agent.py"
    for turn in range(OVERLAPS):
        time.sleep(seconds / (OVERLAPS + 1))
        entry.write_text(f"{ENTRY.read_text()}\n# {number}.{turn}\n")
        made.inv("start", "--only", "agent", code=None, timeout_s=120)


def call_beside_overlaps(made: Project, number: int, seconds: float) -> list[dict[str, Any]]:
    """All calls, as `inv call` tells them."""
    replacing = threading.Thread(target=replace_agent, args=(made, number, seconds))
    replacing.start()
    flags = ["--duration", f"{seconds:g}", "--concurrency", "6", "--hangup", HANGUPS, "--expect-success", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "voiceops", "call", *flags, "--json"],
        cwd=made.folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | made.env,
        capture_output=True,
        text=True,
        timeout=seconds + 120,
    )
    replacing.join()
    calls: list[dict[str, Any]] = json.loads(done.stdout)["calls"]
    return calls


def blocked_workers(made: Project) -> int:
    """How often a worker left LiveKit because its own loop was blocked, as the agent's log tells."""
    lines = (made.folder / ".voiceops" / "logs" / "agent.log").read_text(errors="replace").splitlines()
    told = [json.loads(line) for line in lines if '"event loop blocked"' in line and line.startswith("{")]
    return sum(one.get("blocked_s", 0.0) >= BLOCKED_S for one in told)


def main() -> int:
    """Call, replace, wait, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    left = 0
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        project(Path(name) / "stack", ENTRY) as made,
    ):
        made.inv("start")
        for number in range(options.rounds):
            calls = call_beside_overlaps(made, number, options.seconds)
            answered = sum(call["ok"] for call in calls)
            time.sleep(AFTER_S)
            (host,) = made.inv("status", "--json").json["hosts"].values()
            rooms = made.inv("rooms.list", "--json").json["rooms"]
            draining = host["services"]["agent"].get("draining") or []
            left += len(rooms) + len(draining)
            print(
                f"round {number + 1}: {answered} of {len(calls)} calls answered; {AFTER_S:g} s later "
                f"{len(rooms)} rooms, {len(draining)} draining workers",
                flush=True,
            )
            for call in calls:
                if not call["ok"]:
                    print(f"  {json.dumps(call.get('failure'))}")
            for room in rooms:
                print(f"  {json.dumps(room)}")
            print(f"  workers that blocked their loop for {BLOCKED_S:g} s so far: {blocked_workers(made)}")
    return 0 if left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
