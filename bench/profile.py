"""What ``inv init --profile letta`` costs and stands: ``python -m bench.profile [start|calls|kills]``.

* start: seven services one after the other in a clean folder, each alone; then all at once in another one, and that
  time as a ratio to the critical path, the longest chain of those that need each other;
* calls: the agent of the profile, called while a server in Letta's place is well, slow, failing, hanging and away;
* kills: each service killed with SIGKILL, alone and in pairs (``--only livekit+cors,agent``), healed by the monitor; the monitor itself by the
  next ``inv start``. A row that was written to PostgreSQL right before has to be there afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.letta_server import TOKEN, LettaStandIn, serving
from tests.support.stacks import REPOSITORY
from voiceops.adapters.binaries import postgresql

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
HEALED_S = 120.0
WELL_FOR_S = 15.0
"""Between two cases, which is less than the monitor needs to forget its backoff."""


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


def kills(chosen: Sequence[str]) -> bool:
    """Print after how long everything is ready again, and whether what was written is kept."""
    cases = [tuple(one.split("+")) for one in chosen] or [
        *((name,) for name in NEEDS),
        *itertools.combinations(NEEDS, 2),
    ]
    good = True
    with project() as folder:
        inv(folder, "start", "--timeout", "400")
        sql(folder, "CREATE TABLE written (number int)")
        for number, case in enumerate(cases):
            sql(folder, f"INSERT INTO written VALUES ({number})")
            services = inv(folder, "check-running")["hosts"]["localhost"]["services"]
            for name in case:
                os.kill(services[name]["pids"][0], signal.SIGKILL)
            began = time.monotonic()
            healed_s = until_running(folder, start="monitor" in case)
            kept = sql(folder, "SELECT count(*) FROM written") == str(number + 1)
            answered = inv(folder, "call", check=False)["answered_count"] == 1
            good &= healed_s < HEALED_S and kept and answered
            print(
                f"{'+'.join(case):20} ready again after {healed_s:6.1f} s; row kept: {kept}; call answered: {answered}",
                flush=True,
            )
            time.sleep(max(0.0, began + healed_s + WELL_FOR_S - time.monotonic()))
    return good


def until_running(folder: Path, *, start: bool) -> float:
    """Seconds until each service is ready and old enough to be no leftover of before; ``start``: the monitor has to be started."""
    began = time.monotonic()
    time.sleep(0.5)
    if start:
        inv(folder, "start", "--only", "monitor")
    while time.monotonic() < began + HEALED_S:
        if inv(folder, "check-running", check=False)["ok"]:
            return time.monotonic() - began
        time.sleep(0.5)
    return float("inf")


def sql(folder: Path, statement: str) -> str:
    """Run one statement in the database of the profile."""
    port = re.search(r"kind: postgres\n +port: (\d+)", (folder / "inventory.yaml").read_text())
    password = re.search(r"^POSTGRES_PASSWORD=(.*)$", (folder / ".env").read_text(), re.MULTILINE)
    assert port
    assert password
    argv = [
        postgresql.programs() / "psql",
        "-Xqtc",
        statement,
        "-h",
        "127.0.0.1",
        "-p",
        port[1],
        "-U",
        "postgres",
        "letta",
    ]
    done = subprocess.run(argv, env={"PGPASSWORD": password[1]}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


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
    parser.add_argument("part", nargs="?", choices=("start", "calls", "kills"), default="start")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    if given.part == "kills":
        well = kills([one for one in given.only.split(",") if one])
    else:
        well = start() if given.part == "start" else asyncio.run(calls(given.count))
    raise SystemExit(0 if well else 1)
