"""What the live view costs: ``python -m bench.watch [--seconds 60] [--rooms 200]``.

`inv status --watch` on terminals of 80 x 24 and 200 x 50, over a stack of livekit-server, agent and monitor with that
many rooms: its CPU time as a share of one core, and what it wrote to the terminal. The bar is 3 %.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import REPOSITORY, Project, project
from voiceops.adapters.livekit.api import LivekitApi
from voiceops.model.secret import Secret

AGENT = REPOSITORY / "tests" / "integration" / "agents" / "tone.py"
BAR = 0.03
SETTLED_S = 5.0
"""Imports and the first reading are no part of what it costs to watch."""


def share_of_core(made: Project, columns: int, lines: int, seconds: float) -> tuple[float, int]:
    """The view's CPU time over ``seconds``, as a share of one core, and the bytes that it wrote meanwhile."""
    with made.on_terminal("status", "--watch", columns=columns, lines=lines) as terminal:
        terminal.wait_for(lambda seen: any("checked" in row for row in seen.rows), timeout_s=60)
        process = psutil.Process(terminal.process.pid)
        wait_s = time.monotonic() + SETTLED_S
        terminal.wait_for(lambda seen: time.monotonic() > wait_s, timeout_s=SETTLED_S + 10)
        before, wrote, began = process.cpu_times(), len(terminal.written), time.monotonic()
        terminal.wait_for(lambda seen: time.monotonic() > began + seconds, timeout_s=seconds + 10)
        after, passed_s = process.cpu_times(), time.monotonic() - began
        print("\n".join(terminal.rows), flush=True)
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.restored
    used_s = after.user + after.system - before.user - before.system
    return used_s / passed_s, len(terminal.written) - wrote


async def make_rooms(url: str, count: int) -> None:
    """Rooms that stand while the bench runs."""
    async with LivekitApi(url, Secret(API_KEY), Secret(API_SECRET)) as api:
        for number in range(count):
            await api.create_room(f"bench-{number}", empty_timeout_s=3600, agents=["__none__"])


def main() -> int:
    """Measure at both sizes; 1 where one of them is over the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rooms", type=int, default=200)
    given = parser.parse_args()
    ok = True
    with tempfile.TemporaryDirectory() as folder, project(Path(folder) / "project", AGENT) as made:
        made.variables["services"]["monitor"] = {"kind": "monitor"}
        made.variables["monitor"] = {"interval_s": 5}
        made.write()
        made.inv("start")
        asyncio.run(make_rooms(made.url, given.rooms))
        for columns, lines in ((80, 24), (200, 50)):
            share, written = share_of_core(made, columns, lines, given.seconds)
            ok = ok and share <= BAR
            print(
                f"{columns} x {lines}: {share:.2%} of a core over {given.seconds:.0f} s with {given.rooms} rooms,"
                f" {written / given.seconds / 1000:.2f} kB/s written; bar {BAR:.0%}",
                flush=True,
            )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
