"""Which share of jobs LiveKit gives a worker that asks for one: ``python -m bench.share [--jobs N]``.

A real livekit-server and two workers under agentkit, one of them with a share in the file of its gate. Rooms are made one after
the other, each with its dispatch; the job does nothing, so that hundreds fit on any machine. Counted is what either worker has taken,
by its own health. The last row: jobs that are dispatched while the share ends and the other worker begins to drain.

Exit 1 if a share is off by more than three standard deviations of a draw, or a job has found no worker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from livekit import api

from tests.support.live import LiveServer, livekit_server, worker

AGENT = """
import os
os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
from livekit.agents import AgentServer, JobContext, JobExecutorType

server = AgentServer(job_executor_type=JobExecutorType.THREAD, num_idle_processes=1, load_fnc=lambda *_: float(os.environ["LOAD"]))


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    ctx.shutdown()
"""
SIGMAS = 3.0


class Pair:
    """A worker that serves, and one beside it with a share."""

    def __init__(self, folder: Path, load: float) -> None:
        self.folder = folder
        self.load = load
        self.processes: dict[str, int] = {}

    def start(self, stack: ExitStack, server: LiveServer, share: float) -> None:
        entry = self.folder / "agent.py"
        entry.write_text(AGENT)
        self.gate.write_text(f"share {share:.4f}")
        for name in ("old", "new"):
            (self.folder / name).mkdir(exist_ok=True)
            env = {"VOICEOPS_HEALTH_SOCKET": str(self.folder / name / "health"), "LOAD": str(self.load)}
            process = stack.enter_context(worker(server, entry, agentkit=True, env=env))
            self.processes[name] = process.pid

    @property
    def gate(self) -> Path:
        return self.folder / "new.gate"

    def health(self, name: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / name / "health"))
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            data = b""
            while piece := connection.recv(65536):
                data += piece
        found: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
        return found

    def taken(self) -> dict[str, int]:
        return {name: int(self.health(name)["taken_count"]) for name in ("old", "new")}


async def dispatch(server: LiveServer, count: int, at: dict[int, Any] | None = None) -> None:
    """Rooms with one implicit dispatch each; ``at``: what to do before the job of a number."""
    async with api.LiveKitAPI(server.url, server.api_key, server.api_secret) as livekit:
        for number in range(count):
            if at and number in at:
                at[number]()
            room = f"share-{time.monotonic_ns()}"
            await livekit.room.create_room(api.CreateRoomRequest(name=room))
            await asyncio.sleep(0.05)
            if number % 20 == 19:
                await asyncio.sleep(0.5)  # the dispatches take 0.2 s each, beside each other
        await asyncio.sleep(3.0)
        for one in (await livekit.room.list_rooms(api.ListRoomsRequest())).rooms:
            await livekit.room.delete_room(api.DeleteRoomRequest(room=one.name))


def shares(server: LiveServer, pair: Pair, asked: Sequence[float], jobs: int) -> bool:
    ok = True
    for share in asked:
        with ExitStack() as stack:
            pair.start(stack, server, share)
            asyncio.run(dispatch(server, jobs))
            took = pair.taken()
        total = sum(took.values())
        measured = took["new"] / total
        bound = SIGMAS * math.sqrt(share * (1 - share) / total)
        fits = abs(measured - share) <= bound and total == jobs
        ok = ok and fits
        print(
            f"load {pair.load:g}: asked for {share:.1%}, {took['new']} of {total} jobs of {jobs}: {measured:.1%} "
            f"(bound {bound:.1%}){'' if fits else '  MISSED'}",
            flush=True,
        )
    return ok


def switched(server: LiveServer, pair: Pair, jobs: int) -> bool:
    """In the middle the share ends, and as soon as that is said the other worker drains."""

    def received() -> int:
        logs = server.folder.glob("worker-*.log")
        return sum(log.read_text(errors="replace").count("received job request") for log in logs)

    before = received()
    with ExitStack() as stack:
        pair.start(stack, server, 0.1)

        def switch() -> None:
            pair.gate.unlink()
            while pair.health("new")["share"] != 1.0:
                time.sleep(0.005)
            os.kill(pair.processes["old"], signal.SIGTERM)

        asyncio.run(dispatch(server, jobs, {jobs // 2: switch}))
        took = received() - before
    print(
        f"the share ends and the old worker drains after {jobs // 2} of {jobs} jobs: {took} taken", flush=True
    )
    return took == jobs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--only-switch", action="store_true", help="only the last row")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        livekit_server(Path(name) / "lk") as server,
    ):
        folder = Path(name) / "pair"
        folder.mkdir()
        ok = True
        if not chosen.only_switch:
            ok = shares(server, Pair(folder, 0.0), (0.05, 0.1, 0.25, 0.5), chosen.jobs)
            ok = shares(server, Pair(folder, 0.5), (0.1,), chosen.jobs) and ok
        ok = switched(server, Pair(folder, 0.0), chosen.jobs) and ok
        return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
