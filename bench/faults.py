"""Random faults in sequence, left to the monitor: ``python -m bench.faults [--count N] [--seed S] [--redis]``; needs root.

Each fault is chosen by the seed. Beside it runs a call; from it on somebody dials and waits. A fault after which nobody
is answered within the limit needs a person; a call that ends by a fault that does not end it was harmed. Everything runs in a
network namespace and with a project folder on a small disk, both its own. The clock that steps is the monitor's alone
(stepped_clock.c): LiveKit's is another one then, which is worse than a clock that steps for all. With ``--redis``, LiveKit
keeps its rooms in a Redis outside of the stack, which goes away now and then.

Exit 1 if a fault needs a person or harms a call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from livekit import rtc

from bench.monitored import TONE, load, log_lines, monitored, repairs
from tests.support import live, parts
from tests.support.callers import Hearing, agent_in, caller
from tests.support.projects import Project

INSIDE = "VOICEOPS_BENCH_INSIDE"
LIMIT_S = 180.0
PAUSE_S = 3.0
"""A longer silence in a call that goes on is harm; a busy machine makes pauses of a second."""
QUIET_S = 62.0
"""After so long in good health a service's restarts are forgotten."""
RESTARTS = 4
"""So often a service is hit before that time is given to it: the limit of restarts is not what this is about."""
DISK_BYTES = 32_000_000
NETWORK = (
    "link set lo up",
    # WebRTC gathers no candidates on loopback.
    "link add peer type veth peer name other",
    "link set other up",
    "address add 10.77.0.1/24 dev peer",
    "link set peer up",
    "route add default dev peer",
)
CLOCK = Path(__file__).with_name("stepped_clock.c")


@dataclass(slots=True)
class Site:
    """Where faults are made."""

    made: Project
    clock_file: Path
    redis: RedisServer | None
    random: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    """Of each service, since all was well for ``QUIET_S``."""
    begun: threading.Event = field(default_factory=threading.Event)
    """The fault is there."""


class RedisServer:
    """A Redis that keeps its data on disk, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = parts.free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--appendonly", "yes", "--dir", str(self._folder)],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(500):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            live.end(self._process)
            self._process = None


def _signal(site: Site, number: signal.Signals, *services: str) -> float:
    for pid in [site.made.pid(name) for name in services]:
        os.kill(pid, number)
    site.begun.set()
    return 0.0


def kill_guard(site: Site) -> float:
    for one in psutil.Process(site.made.pid("monitor")).children():
        if "guard.py" in " ".join(one.cmdline()):
            one.kill()
    site.begun.set()
    return 0.0


def cut_network(site: Site) -> float:
    """Every packet is lost for a while."""
    for_s = site.random.choice((1.0, 4.0, 10.0))
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
    site.begun.set()
    try:
        time.sleep(for_s)
    finally:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return for_s


def fill_disk(site: Site) -> float:
    """No byte is left for a while."""
    for_s = site.random.choice((2.0, 6.0, 12.0))
    with full(site.made.folder):
        site.begun.set()
        time.sleep(for_s)
    return for_s


def fill_disk_and_kill(site: Site) -> float:
    """No byte is left, and what writes a record has to be started."""
    with full(site.made.folder):
        _signal(site, signal.SIGKILL, site.random.choice(("agent", "livekit", "monitor")))
        time.sleep(8.0)
    return 8.0


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave nothing free on the disk of a folder until the block ends."""
    filler = folder / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield
    finally:
        filler.unlink()


def step_clock(site: Site) -> float:
    """The monitor's clock is another one for a while."""
    site.clock_file.write_text(str(site.random.choice((-3600, -45, 45, 3600, 30 * 86_400))))
    site.begun.set()
    try:
        time.sleep(10.0)
    finally:
        site.clock_file.write_text("0")
    return 10.0


def step_clock_and_kill(site: Site) -> float:
    """The clock has stepped when the agent dies, and steps back afterwards."""
    site.clock_file.write_text(str(site.random.choice((-45, 45))))
    try:
        time.sleep(2.0)
        _signal(site, signal.SIGKILL, "agent")
        time.sleep(8.0)
    finally:
        site.clock_file.write_text("0")
    return 10.0


def redis_away(site: Site) -> float:
    assert site.redis is not None
    for_s = site.random.choice((1.0, 5.0, 15.0))
    site.redis.stop()
    site.begun.set()
    time.sleep(for_s)
    site.redis.start()
    return for_s


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault: what makes it returns how long it held."""

    name: str
    make: Callable[[Site], float]
    hits: tuple[str, ...] = ()
    """Services that it ends or stops."""
    ends_calls: bool = True


KILL, STOP = signal.SIGKILL, signal.SIGSTOP
FAULTS = (
    Fault("kill agent", lambda site: _signal(site, KILL, "agent"), ("agent",)),
    Fault("kill server", lambda site: _signal(site, KILL, "livekit"), ("livekit",)),
    Fault("kill both", lambda site: _signal(site, KILL, "livekit", "agent"), ("livekit", "agent")),
    Fault(
        "kill all",
        lambda site: _signal(site, KILL, "livekit", "agent", "monitor"),
        ("livekit", "agent", "monitor"),
    ),
    Fault("kill monitor", lambda site: _signal(site, KILL, "monitor"), ("monitor",), ends_calls=False),
    Fault("kill guard", kill_guard, ends_calls=False),
    Fault("freeze agent", lambda site: _signal(site, STOP, "agent"), ("agent",)),
    Fault("freeze server", lambda site: _signal(site, STOP, "livekit"), ("livekit",)),
    Fault("freeze both", lambda site: _signal(site, STOP, "livekit", "agent"), ("livekit", "agent")),
    Fault("freeze monitor", lambda site: _signal(site, STOP, "monitor"), ("monitor",), ends_calls=False),
    Fault("network cut", cut_network),
    Fault("disk full", fill_disk, ends_calls=False),
    Fault("disk full, kill", fill_disk_and_kill, ("agent", "livekit")),
    Fault("clock step", step_clock, ends_calls=False),
    Fault("clock step, kill agent", step_clock_and_kill, ("agent",)),
)
# LiveKit itself interrupts its calls when Redis comes back after a while: they reconnect.
REDIS_FAULTS = (Fault("Redis away", redis_away),)


async def dial(url: str, room: str) -> float | None:
    """Seconds until somebody is heard: who is connected waits, who is not dials again."""
    began = time.monotonic()
    while time.monotonic() - began < LIMIT_S:
        try:
            # A server that takes connections and does not answer would hold the library for a long time.
            await asyncio.to_thread(_connects, url)
            async with caller(url, room) as person, Hearing(person) as hearing:
                for _ in range(3):
                    with contextlib.suppress(AssertionError):
                        await hearing.something()
                        return time.monotonic() - began
        except (rtc.ConnectError, OSError):
            await asyncio.sleep(0.1)
    return None


def _connects(url: str) -> None:
    host, _, port = url.removeprefix("ws://").partition(":")
    with socket.create_connection((host, int(port)), timeout=1.0) as connection:
        connection.settimeout(1.0)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.recv(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one fault."""

    fault: Fault
    held_s: float
    answered_s: float | None
    """Since the fault was made."""
    harmed: str = ""


async def one(site: Site, fault: Fault, number: int) -> Outcome:
    """A call, the fault, somebody who dials, and what has become of the call."""
    async with caller(site.made.url, f"held-{number}") as person:
        agent = await agent_in(person)
        async with Hearing(person) as hearing:
            await hearing.something()
            await asyncio.sleep(2.0)
            site.begun.clear()
            making = asyncio.ensure_future(asyncio.to_thread(fault.make, site))
            await asyncio.to_thread(site.begun.wait, 10.0)
            answered_s = await dial(site.made.url, f"new-{number}")
            held_s = await making
            if fault.ends_calls:
                return Outcome(fault, held_s, answered_s)
            await asyncio.sleep(6.0)
            harmed = []
            if list(person.remote_participants) != [agent]:
                harmed.append(f"agents {list(person.remote_participants)}")
            if hearing.longest_pause_s > PAUSE_S:
                harmed.append(f"silent for {hearing.longest_pause_s:.1f} s")
            return Outcome(fault, held_s, answered_s, "; ".join(harmed))


def settle(site: Site, fault: Fault) -> bool:
    """Wait until all is ready again and no service that the fault hits is near its limit of restarts."""
    ends_at = time.monotonic() + LIMIT_S
    while site.made.inv("check-running", code=None).code:
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.5)
    if any(site.hits[name] >= RESTARTS for name in fault.hits):
        time.sleep(QUIET_S)  # all is ready: from here on all of them are in good health
        site.hits.clear()
    site.hits.update(fault.hits)
    return True


async def run(site: Site, faults: list[Fault]) -> list[Outcome]:
    """All faults, one after the other."""
    found = []
    for number, fault in enumerate(faults):
        ready = await asyncio.to_thread(settle, site, fault)
        try:
            outcome = await one(site, fault, number) if ready else Outcome(fault, 0.0, None)
        except (rtc.ConnectError, AssertionError) as error:
            print(f"  no call before the fault: {type(error).__name__} {error}")
            outcome = Outcome(fault, 0.0, None)
        found.append(outcome)
        said = (
            "NEEDS A PERSON" if outcome.answered_s is None else f"answered after {outcome.answered_s:5.1f} s"
        )
        held = f" (it held {outcome.held_s:g} s)" if outcome.held_s else ""
        harm = f"; HARMED: {outcome.harmed}" if outcome.harmed else ""
        print(f"{number + 1:4} {fault.name:24} {said}{held}{harm}; {load()}", flush=True)
        if outcome.answered_s is None:
            for line in log_lines(site.made)[-12:]:
                print(f"     {line}")
            print(site.made.inv("check-running", code=None).out)
            site.made.inv("start", "--timeout", "120", code=None)
    return found


@contextmanager
def site_of(redis: bool, seed: int) -> Iterator[Site]:
    """A stack on a disk and in a network of its own."""
    with tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name, ExitStack() as opened:
        disk, clock_file = Path(name) / "disk", Path(name) / "clock"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
        opened.callback(subprocess.run, ["umount", "-l", disk], check=True)
        clock_file.write_text("0")
        store = None
        settings: dict[str, object] = {}
        if redis:
            store = RedisServer(Path(name))
            store.start()
            opened.callback(store.stop)
            settings = {"redis": {"address": f"127.0.0.1:{store.port}"}}
        library = Path(name) / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, CLOCK], check=True)
        clock = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(clock_file)}
        made = opened.enter_context(
            monitored(TONE, folder=disk / "stack", livekit=settings, monitor={"env": clock})
        )
        yield Site(made, clock_file, store, random.Random(seed))


def main() -> int:
    """Make the faults, print, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis", action="store_true")
    parser.add_argument("--only", default="", help="names of faults, with commas")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        unshared = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.faults", *sys.argv[1:]]
        # In its place: a parent that is interrupted would kill it before it has ended its stack.
        os.execvpe(unshared[0], unshared, os.environ | {INSIDE: "1"})
    for command in NETWORK:
        subprocess.run(["ip", *command.split()], check=True)
    if not shutil.which("cc") or (options.redis and not shutil.which("redis-server")):
        parser.error("a C compiler and, with --redis, redis-server are needed")
    kinds = [
        one
        for one in (*FAULTS, *(REDIS_FAULTS * 4 if options.redis else ()))
        if not options.only or one.name in options.only.split(",")
    ]
    with site_of(options.redis, options.seed) as site:
        chosen = site.random.choices(kinds, k=options.count)
        found = asyncio.run(run(site, chosen))
        errors = [one for one in log_lines(site.made) if one.get("level") == "error"]
        done = repairs(site.made)
    lost = [one for one in found if one.answered_s is None]
    harmed = [one for one in found if one.harmed]
    beside = sum(not one.fault.ends_calls for one in found)
    print(f"{len(found)} faults with seed {options.seed}: {len(lost)} need a person")
    print(
        f"live calls harmed: {len(harmed)} of {beside}; repairs {len(done)}, of which failed {sum(not one['ok'] for one in done)}"
    )
    for one in errors:
        print(f"  {one.get('message')}")
    return 1 if lost or harmed else 0


if __name__ == "__main__":
    sys.exit(main())
