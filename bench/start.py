"""What start costs, as ratios to floors of the same run: ``python -m bench.start [--rounds N]``.

* cold: the whole ``inv start`` against the critical path of the services' own readiness times,
  each measured here by running the bare program (livekit-server to its first 200, then the
  agent to READY=1);
* no-op ``start`` and ``check-running`` against a Python that only imports Invoke;
* 50 ``inv start`` at once, cold, and rounds of random kills: what is left and what it cost.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import live, parts, stacks
from voiceops.adapters import http
from voiceops.adapters.process import processes
from voiceops.errors import UnreachableError
from voiceops.health.notify import NotifySocket


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(values: list[float]) -> float:
    return statistics.median(values)


def build(folder: Path, port: int) -> None:
    """A project with a real server and a real agent."""
    entry = folder / "agent" / "agent.py"
    entry.parent.mkdir(parents=True)
    shutil.copy(stacks.REPOSITORY / "tests" / "integration" / "agents" / "tone.py", entry)
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    services: dict[str, dict[str, Any]] = {
        "livekit": {
            "kind": "livekit",
            "binary": str(parts.livekit_server_binary()),
            "rtc_tcp_port": parts.free_port(),
            "rtc_udp_port": parts.free_port(socket.SOCK_DGRAM),
        },
        "agent": {"kind": "agent", "entry": "agent/agent.py"},
    }
    livekit = {"url": f"ws://127.0.0.1:{port}", "api_key": live.API_KEY, "api_secret": live.API_SECRET}
    stacks.write_inventory(folder, services, livekit=livekit)


def floor_of_readiness(folder: Path, port: int) -> float:
    """The bare programs, one after the other, each until it says that it is ready."""
    began = time.perf_counter()
    log = (folder / "floor.log").open("ab")
    server = subprocess.Popen(
        [str(parts.livekit_server_binary()), "--config", str(folder / ".voiceops" / "livekit.yaml")],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    notify = NotifySocket(folder / "floor.sock")
    agent = None
    try:
        while not _answers(port):
            time.sleep(0.002)
        environment = stacks.Project(folder).environment() | {
            "LIVEKIT_URL": f"ws://127.0.0.1:{port}",
            "LIVEKIT_API_KEY": live.API_KEY,
            "LIVEKIT_API_SECRET": live.API_SECRET,
            "NOTIFY_SOCKET": str(notify.path),
        }
        agent = subprocess.Popen(
            [sys.executable, "-m", "voiceops.agentkit", "start", str(folder / "agent" / "agent.py")],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        while not notify.ready:
            time.sleep(0.002)
            notify.receive()
        return time.perf_counter() - began
    finally:
        for process in (agent, server):
            if process is not None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        notify.close()
        log.close()


def _answers(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/", timeout_s=1.0).status == 200
    except UnreachableError:
        return False


def succeed(project: stacks.Project, *arguments: str) -> None:
    """Run a command that has to exit 0, without a pipe: nothing but the command is measured."""
    subprocess.run(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def bench_times(folder: Path, rounds: int) -> None:
    """Cold start and the no-ops, floors and figures in turn."""
    port = parts.free_port()
    build(folder, port)
    project = stacks.Project(folder)
    succeed(project, "start")  # warms caches and renders livekit.yaml
    succeed(project, "stop")
    floors: list[float] = []
    colds: list[float] = []
    imports: list[float] = []
    starts: list[float] = []
    checks: list[float] = []
    for _ in range(rounds):
        floors.append(floor_of_readiness(folder, port))
        colds.append(timed(lambda: succeed(project, "start")))
        for _ in range(5):
            imports.append(timed(lambda: subprocess.run([sys.executable, "-c", "import invoke"], check=True)))
            starts.append(timed(lambda: succeed(project, "start")))
            checks.append(timed(lambda: succeed(project, "check-running")))
        succeed(project, "stop")
    print(f"cold start        {median(colds):.2f} s = {median(colds) / median(floors):.2f} x critical path")
    print(f"  critical path   {median(floors):.2f} s (server to 200, then agent to READY, bare)")
    print(
        f"start, all runs   {median(starts):.3f} s = {median(starts) / median(imports):.2f} x import invoke"
    )
    print(
        f"check-running     {median(checks):.3f} s = {median(checks) / median(imports):.2f} x import invoke"
    )
    print(f"  import invoke   {median(imports):.3f} s")


def bench_many(folder: Path, count: int) -> None:
    """Many starts at once, cold."""
    with stacks.project(folder, stacks.cheap_services(["one", "two", "three"])) as project:
        alone = timed(lambda: succeed(project, "start"))
        succeed(project, "stop")
        began = time.perf_counter()
        running = [project.spawn("start", "--timeout", "300") for _ in range(count)]
        codes = [(process.communicate(), process.returncode)[1] for process in running]
        took = time.perf_counter() - began
        leaders = [process for process in stacks.marked(folder) if process.leads]
        print(
            f"{count} starts at once  {took:.1f} s = {took / (alone * count):.2f} x one after the other; "
            f"exit 0: {codes.count(0)} of {count}; processes: {len(leaders)} for 3 services"
        )


def bench_kills(folder: Path, rounds: int) -> None:
    """Start killed half way, a random subset of all processes killed, start again."""
    port = parts.free_port()
    build(folder, port)
    project = stacks.Project(folder)
    dice = random.Random(rounds)
    good = 0
    took: list[float] = []
    try:
        for _ in range(rounds):
            starting = project.spawn("start")
            ends_at = time.monotonic() + dice.uniform(0.1, 4.0)
            while time.monotonic() < ends_at and starting.poll() is None:
                time.sleep(0.01)
            starting.kill()
            starting.communicate()
            alive = stacks.marked(folder)
            for process in dice.sample(alive, dice.randint(0, len(alive))):
                processes.send_signal(process.key, signal.SIGKILL)
            took.append(timed(lambda: succeed(project, "start")))
            leaders = [process for process in stacks.marked(folder) if process.leads]
            ready = project.run("check-running").returncode == 0
            good += ready and len(leaders) == 2
        succeed(project, "stop")
        left = len(stacks.marked(folder))
        print(f"random kills      {good} of {rounds} rounds end with one of each; left over: {left}")
        print(f"  repair takes    {median(took):.2f} s (median)")
    finally:
        stacks.end_all(folder)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of cold starts")
    parser.add_argument("--at-once", type=int, default=50, help="starts at once")
    parser.add_argument("--kills", type=int, default=20, help="rounds of random kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voiceops-bench-") as scratch:
        root = Path(scratch)
        try:
            if options.rounds:
                bench_times(root / "times", options.rounds)
            if options.at_once:
                bench_many(root / "many", options.at_once)
            if options.kills:
                bench_kills(root / "kills", options.kills)
        finally:
            for name in ("times", "many", "kills"):
                stacks.end_all(root / name)


if __name__ == "__main__":
    main()
