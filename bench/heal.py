"""What the monitor's repairs cost callers: ``python -m bench.heal [--rounds N]``.

For each way to break a stack: seconds from the signal until a caller hears the agent, who dials from then on, beside the bar
of the same run: 1.2 times a worker's own start, and 0.5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from livekit import rtc

from tests.support.callers import Hearing, caller
from tests.support.projects import REPOSITORY, Project, project
from voiceops.adapters import http
from voiceops.errors import UnreachableError
from voiceops.monitor.decide import WELL_FOR_S

AGENT = REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
BREAKS: dict[str, tuple[tuple[str, ...], signal.Signals]] = {
    "killed agent": (("agent",), signal.SIGKILL),
    "killed server": (("livekit",), signal.SIGKILL),
    "both killed": (("livekit", "agent"), signal.SIGKILL),
    "frozen agent": (("agent",), signal.SIGSTOP),
    "frozen server": (("livekit",), signal.SIGSTOP),
    "both frozen": (("livekit", "agent"), signal.SIGSTOP),
}
GIVE_UP_S = 60.0


def floor_of(made: Project) -> float:
    """Seconds of a worker's own start."""
    made.inv("stop", "--only", "agent", "--yes")
    document = made.inv("start", "--only", "agent", "--json").json
    return float(document["hosts"]["localhost"]["services"]["agent"]["ready_s"])


async def answered_after(url: str, room: str) -> float:
    """Dial until somebody is heard; a call that is connected waits, as people do."""
    began = time.perf_counter()
    while time.perf_counter() - began < GIVE_UP_S:
        try:
            # Not cancelled while it connects: livekit's library does not survive that.
            await asyncio.to_thread(http.get, url.replace("ws", "http", 1), timeout_s=0.5)
            await _hear(url, room)
        except (rtc.ConnectError, UnreachableError, AssertionError):
            await asyncio.sleep(0.1)
            continue
        return time.perf_counter() - began
    return float("inf")


async def _hear(url: str, room: str) -> None:
    async with caller(url, room) as person, Hearing(person) as hearing:
        await hearing.something()


def break_it(made: Project, services: tuple[str, ...], number: signal.Signals) -> None:
    """Signal these services at once."""
    pids = [made.pid(name) for name in services]
    for pid in pids:
        os.kill(pid, number)


def main() -> int:
    """Break, dial, print; exit 1 if a time is over its bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ok = True
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        project(Path(name) / "stack", AGENT) as made,
    ):
        made.variables["services"]["monitor"] = {"kind": "monitor"}
        made.write()
        made.inv("start")
        starts = [floor_of(made) for _ in range(rounds)]
        bar = 1.2 * statistics.median(starts) + 0.5
        print(
            f"a worker's own start: {statistics.median(starts):.2f} s (median of {rounds}); bar {bar:.2f} s"
        )
        print(f"{'broken by':16}{'answered after':>16}{'of the bar':>12}  each")
        for label, (services, number) in BREAKS.items():
            times = []
            for turn in range(rounds):
                time.sleep(1.0)
                break_it(made, services, number)
                times.append(asyncio.run(answered_after(made.url, f"heal-{label.replace(' ', '-')}-{turn}")))
                settle(made)
            took = statistics.median(times)
            ok = ok and took <= bar
            each = ", ".join(f"{one:.2f}" for one in times)
            print(f"{label:16}{took:14.2f} s{took / bar:11.0%}  {each}", flush=True)
    return 0 if ok else 1


def settle(made: Project) -> None:
    """Wait until everything is ready again, and for so long that no backoff is left of this round."""
    ends_at = time.monotonic() + GIVE_UP_S
    while made.inv("check-running", code=None).code != 0 and time.monotonic() < ends_at:
        time.sleep(0.5)
    time.sleep(WELL_FOR_S + 5.0)


if __name__ == "__main__":
    sys.exit(main())
