"""What ``inv init --profile letta`` costs and stands: ``python -m bench.profile [start|calls]``.

* start: seven services one after the other in a clean folder, each alone; then all at once in another one, and that
  time as a ratio to the critical path, the longest chain of those that need each other;
* calls: the agent of the profile, called while a server in Letta's place is well, slow, failing, hanging and away.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.letta_server import TOKEN, LettaStandIn, serving
from tests.support.stacks import REPOSITORY

NEEDS: Mapping[str, tuple[str, ...]] = {
    "postgres": (),
    "letta": ("postgres",),
    "livekit": (),
    "agent": ("livekit",),
    "monitor": ("livekit",),
    "cors": ("livekit",),
    "web": ("livekit",),
}
"""The agent needs Letta only to be started."""
MOST_RATIO = 1.15
MOST_FIRST_AUDIO_S = 3.5


def inv(folder: Path, *arguments: str, check: bool = True) -> Any:
    """Run a command of the project; its document."""
    done = subprocess.run(
        [str(REPOSITORY / "inv"), "--project", str(folder), *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if check and done.returncode:
        raise SystemExit(f"inv {' '.join(arguments)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout)


@contextmanager
def project() -> Iterator[Path]:
    """A new project of the profile; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="voiceops-profile-") as name:
        folder = Path(name)
        inv(folder, "init", "--profile", "letta")
        try:
            yield folder
        finally:
            inv(folder, "stop", "--now", "--yes", check=False)


def timed(folder: Path, *arguments: str) -> tuple[float, Any]:
    began = time.monotonic()
    document = inv(folder, *arguments)
    return time.monotonic() - began, document


def critical_path(own_s: Mapping[str, float]) -> float:
    """The longest chain of services that need each other."""

    def until(name: str) -> float:
        return own_s[name] + max((until(need) for need in NEEDS[name]), default=0.0)

    return max(map(until, own_s))


def start() -> bool:
    """Print what each service takes alone, and all at once."""
    own_s: dict[str, float] = {}
    with project() as folder:
        for name in NEEDS:
            _, document = timed(folder, "start", "--only", name)
            own_s[name] = document["hosts"]["localhost"]["services"][name]["ready_s"]
            print(f"{name:10} {own_s[name]:6.1f} s alone", flush=True)
    with project() as folder:
        whole_s, document = timed(folder, "start")
        services = document["hosts"]["localhost"]["services"]
        ready = [name for name, one in services.items() if one["state"] == "ready"]
        call = inv(folder, "call", check=False)
    path_s, ratio = critical_path(own_s), whole_s / critical_path(own_s)
    print(f"{len(ready)} services ready; a call after it: {call['answered_count']} of 1 answered")
    print(
        f"one after the other {sum(own_s.values()):.1f} s, critical path {path_s:.1f} s, all {whole_s:.1f} s"
    )
    print(f"{ratio:.2f} x the critical path, bar {MOST_RATIO}")
    return ratio <= MOST_RATIO and len(ready) == len(NEEDS) and call["answered_count"] == 1


async def calls(count: int) -> bool:
    """Print how calls fare while Letta is in each state."""
    letta, good = LettaStandIn(), True
    with project() as folder:
        async with serving(letta) as url:
            inventory = folder / "inventory.yaml"
            text = re.sub(r'LETTA_URL: "[^"]*"', f'LETTA_URL: "{url}"', inventory.read_text())
            inventory.write_text(text.replace("{livekit: ready, letta: started}", "[livekit]"))
            with (folder / ".env").open("a") as env:
                env.write(f"LETTA_PASSWORD={TOKEN}\n")
            await asyncio.to_thread(inv, folder, "start", "--only", "livekit,agent")
            for name, delay_s, status in (
                ("well", 0.0, 200),
                ("slow, 2 s", 2.0, 200),
                ("answers 500", 0.0, 500),
                ("hangs", 3600.0, 200),
            ):
                letta.delay_s, letta.status = delay_s, status
                # A worker that has never had an answer: nothing is in its cache.
                await asyncio.to_thread(inv, folder, "restart", "--only", "agent")
                good &= await called(folder, name, count)
        good &= await called(folder, "away", count)
    return good


async def called(folder: Path, name: str, count: int) -> bool:
    document = await asyncio.to_thread(inv, folder, "call", "--count", str(count), check=False)
    audio_s = [one["audio_s"] for one in document["calls"] if one["ok"]]
    answered, longest = document["answered_count"], max(audio_s, default=float("inf"))
    print(
        f"Letta {name:12} {answered} of {count} answered, first audio at most {longest:.2f} s, "
        f"bar {MOST_FIRST_AUDIO_S}",
        flush=True,
    )
    return answered == count and longest <= MOST_FIRST_AUDIO_S


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("start", "calls"), default="start")
    parser.add_argument("--count", type=int, default=10)
    given = parser.parse_args()
    raise SystemExit(0 if (start() if given.part == "start" else asyncio.run(calls(given.count))) else 1)
