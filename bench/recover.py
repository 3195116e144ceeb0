"""What recovery costs: ``python -m bench.recover [--rounds N]``.

For each way to break a stack: seconds from ``inv recover`` to audio in a caller's ear, beside
the floor of the same run, a worker's own start (``inv start --only agent`` from nothing).
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.projects import REPOSITORY, Project, project

FAULTY = REPOSITORY / "tests" / "integration" / "agents" / "faulty.py"


def kill(made: Project, service: str, number: signal.Signals) -> None:
    """Signal the only instance of a service."""
    os.kill(made.pid(service), number)


def stray(made: Project) -> None:
    """Stop our agent and start another version of it by hand: it joins, and never speaks."""
    made.inv("stop", "--only", "agent", "--yes")
    made.start_stray("await serve(ctx)", "await asyncio.sleep(600)")


BREAKS: dict[str, Callable[[Project], None]] = {
    "nothing wrong": lambda made: None,
    "killed agent": lambda made: kill(made, "agent", signal.SIGKILL),
    "killed server": lambda made: kill(made, "livekit", signal.SIGKILL),
    "frozen agent": lambda made: kill(made, "agent", signal.SIGSTOP),
    "frozen server": lambda made: kill(made, "livekit", signal.SIGSTOP),
    "stray with other code": stray,
}


def floor_of(made: Project) -> float:
    """Seconds of a worker's own start."""
    made.inv("stop", "--only", "agent", "--yes")
    began = time.perf_counter()
    made.inv("start", "--only", "agent")
    return time.perf_counter() - began


def main() -> int:
    """Break, recover, print; exit 1 if a call stayed unanswered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ok = True
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        project(Path(name) / "stack", FAULTY) as made,
    ):
        made.env["VOICEOPS_LOAD_LIMIT"] = "off"
        made.inv("start")
        floor = statistics.median(floor_of(made) for _ in range(rounds))
        print(f"floor: a worker's own start takes {floor:.2f} s (median of {rounds})")
        print(f"{'broken by':24}{'audio after':>12}{'ratio':>8}  what helped")
        for label, break_it in BREAKS.items():
            times, helped = [], ""
            for _ in range(rounds):
                break_it(made)
                began = time.perf_counter()
                document = made.inv("recover", "--json", "--yes", code=None).json
                times.append(time.perf_counter() - began)
                ok = ok and bool(document.get("ok"))
                helped = str(document.get("helped"))
            took = statistics.median(times)
            print(f"{label:24}{took:10.2f} s{took / floor:8.2f}  {helped}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
