"""What the monitor's repairs cost callers: ``python -m bench.heal [--rounds N] [--only TEXT] [--waiting N]``.

For each way to break a stack: seconds from the signal until a caller hears the agent, who dials from then on, beside the bar
of the same run: 1.2 times a worker's own start, and 0.5 s. With ``--phases`` also when the monitor noticed it, when the
worker was registered and when the caller got a dispatch.

``--waiting N``: of N callers at once who dial while all workers are dead and stay, how many hear an agent, and after how
long, in each round. It is the monitor that is measured, so callers have no microphone, agents beep once, and their jobs are threads: to
encode 40 streams takes two cores, and to import LiveKit's library 20 times half a minute of both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

from livekit import rtc

from tests.support.callers import Hearing, caller
from tests.support.projects import REPOSITORY, Project, project
from tests.support.servers import IN_THREADS
from voiceops.adapters import http
from voiceops.adapters.process import processes
from voiceops.deadline import Deadline
from voiceops.errors import UnreachableError
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked
from voiceops.stack.local.records import Records

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
SEEN_AFTER_S = 1.5
"""So long the monitor has to see what a person stopped or started."""


def fresh_stack(made: Project) -> float:
    """Stop and start what a round has broken, by which the monitor forgets its backoff; seconds of a worker's own start."""
    made.inv("stop", "--now", "--yes", "--only", "livekit,agent")
    time.sleep(SEEN_AFTER_S)
    made.inv("start", "--only", "livekit")
    document = made.inv("start", "--only", "agent", "--json").json
    time.sleep(SEEN_AFTER_S)
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


def phases(made: Project, since: float) -> str:
    """What the monitor did since then, in seconds after it."""
    found: list[tuple[float, str]] = []
    with closing(sqlite3.connect(made.folder / ".voiceops" / "history.db")) as history:
        for subject, at in history.execute(
            "SELECT subject, began_at FROM incidents WHERE began_at > ?", (since,)
        ):
            found.append((at, f"{subject or 'LiveKit'} noticed"))
        for action, subject, at, ok in history.execute(
            "SELECT action, subject, at, ok FROM repairs WHERE at > ?", (since,)
        ):
            found.append((at, f"{action} {subject}".strip() + ("" if ok else " failed")))
    boot = time.time() - processes.boot_clock()
    for service in ("livekit", "agent"):
        for record in Records(ProjectFolder(made.folder).state).read(service)[0]:
            found.append((record.started_at, f"{service} started"))
            if record.ready_at is not None:
                found.append((boot + record.ready_at, f"{service} ready"))
    return "; ".join(f"{at - since:.2f} {what}" for at, what in sorted(found) if at > since)


def measure_repairs(made: Project, rounds: int, only: str, *, with_phases: bool) -> bool:
    """Break, dial and print each case; whether the median of each is within its bar."""
    ok = True
    for label, (services, number) in BREAKS.items():
        if only not in label:
            continue
        times, starts, told = [], [], []
        for turn in range(rounds):
            starts.append(fresh_stack(made))
            began = time.time()
            break_it(made, services, number)
            times.append(asyncio.run(answered_after(made.url, f"heal-{label.replace(' ', '-')}-{turn}")))
            time.sleep(SEEN_AFTER_S)
            told.append(phases(made, began))
        bars = [1.2 * start + 0.5 for start in starts]
        within = statistics.median(one / bar for one, bar in zip(times, bars, strict=True))
        ok = ok and within <= 1.0
        each = ", ".join(f"{one:.2f} ({start:.2f})" for one, start in zip(times, starts, strict=True))
        print(f"{label:16}{statistics.median(times):12.2f} s{within:12.0%}  {each}", flush=True)
        for line in told if with_phases else ():
            print(f"  {line}", flush=True)
    return ok


async def waiting(made: Project, count: int, turn: int) -> list[float]:
    """Seconds until each caller hears an agent, who dials while all workers are dead and stays.

    Counted from when the monitor may act: until everybody is connected the lock is held, as by a deploy, so that no
    worker is back before.
    """
    async with AsyncExitStack() as calls:
        with locked(made.folder / ".voiceops", Deadline(10.0, "bench"), print, "bench"):
            break_it(made, ("agent",), signal.SIGKILL)
            began = time.perf_counter()
            people = [
                await calls.enter_async_context(
                    caller(made.url, f"waits-{turn}-{number}-beep", microphone=False)
                )
                for number in range(count)
            ]
            hearings = [await calls.enter_async_context(Hearing(one)) for one in people]
            waited_s = time.perf_counter() - began
        print(f"{count} callers have been connected, {waited_s:.1f} s after the kill", flush=True)
        began = time.perf_counter()

        async def heard(hearing: Hearing) -> float:
            ends_at = time.perf_counter() + GIVE_UP_S
            while time.perf_counter() < ends_at:
                try:
                    await hearing.something()
                except AssertionError:
                    continue
                return time.perf_counter() - began
            return float("inf")

        times = await asyncio.gather(*(heard(one) for one in hearings))
        await asyncio.sleep(8.0)
        agents = [len(one.remote_participants) for one in people]
        if agents != [1] * count:
            print(f"agents per caller: {agents}")
        return list(times)


def measure_waiting(made: Project, count: int, rounds: int) -> bool:
    """Print how many of the callers who waited were answered; whether all were."""
    answered = 0
    for turn in range(rounds):
        start = fresh_stack(made)
        times = sorted(asyncio.run(waiting(made, count, turn)))
        heard = [one for one in times if one < float("inf")]
        answered += len(heard)
        if heard:
            print(
                f"{len(heard)} of {count} answered without redialling: first {heard[0]:.2f} s, "
                f"median {statistics.median(heard):.2f} s, last {heard[-1]:.2f} s; "
                f"a worker's own start {start:.2f} s",
                flush=True,
            )
    print(f"{answered} of {count * rounds} callers who waited were answered without redialling")
    return answered == count * rounds


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the stack is stopped on the way out
    signal.raise_signal(signal.SIGINT)  # asyncio cancels what it runs, so that callers leave first


@contextmanager
def broken_stack(folder: Path, env: dict[str, str]) -> Iterator[Project]:
    """A stack with a monitor, ``env`` for its agent; whatever ends the bench, the monitor goes first, so that it starts
    nothing again."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with project(folder, AGENT, agent={"env": env}) as made:
        made.variables["services"]["monitor"] = {"kind": "monitor"}
        made.write()
        try:
            made.inv("start")
            yield made
        finally:
            made.inv("stop", "--only", "monitor", "--now", "--yes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Break, dial, print; exit 1 if a time is over its bar or a caller was not answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="those ways to break it that have this in their name")
    parser.add_argument("--phases", action="store_true")
    parser.add_argument(
        "--waiting", type=int, default=0, metavar="N", help="N callers who wait at once, and nothing else"
    )
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        broken_stack(Path(name) / "stack", IN_THREADS if chosen.waiting else {}) as made,
    ):
        if chosen.waiting:
            return 0 if measure_waiting(made, chosen.waiting, chosen.rounds) else 1
        print(
            f"{'broken by':16}{'answered after':>14}{'of the bar':>12}  each (a worker's own start just before)"
        )
        return 0 if measure_repairs(made, chosen.rounds, chosen.only, with_phases=chosen.phases) else 1


if __name__ == "__main__":
    sys.exit(main())
