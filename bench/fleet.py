"""A no-op deploy of 100 ssh endpoints against Fabric's own time for as many connections and execs, in one run.

The endpoints are 100 names in the inventory of one test host with one sshd, which is what the
controller's side needs: it makes 100 connections, 100 desired states, 100 requests, and reads 100 answers. A
no-op changes nothing and takes no lock, so 100 of them on one host don't collide. What those execs cost on the host
runs on this machine's cores too, where real fleets have cores of their own. Therefore there are two floors,
each a fresh process with one thread per connection, as Fabric's ThreadingGroup has it, and checked host keys:

- ``true``: Fabric connects and runs ``true``: the floor of the bar.
- ``same``: Fabric connects and runs what the no-op runs, program and request byte by byte, so that the
  host does the same work: what is above it is the controller's.

CPU and memory are those of the controller's process, from its end (wait4).

    python -m bench.fleet --endpoints 100 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from bench.deploy import ENTRY, Silent
from bench.noop import Place, bare, places
from tests.support import hosts, hosts_prepared
from tests.support.hosts import Machine
from tests.support.live import API_KEY, API_SECRET
from tests.support.servers import Servers, agent_servers, sleeper
from voiceops.deploy.operations import DeployOptions
from voiceops.wiring.deploy import deployer
from voiceops.wiring.fleet import open_fleet
from voiceops.wiring.project import Project

TIMEOUT_S = 300.0
FLOORS = ("true", "same")


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """What one process took: until its end, on cores, at most of memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def cost_of(argv: list[str], environment: dict[str, str], folder: Path) -> ProcessCost:
    """Run a process to its end and return what it took; fail with its output if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        assert process.returncode == 0, f"{argv[:4]} exited {process.returncode}\n{output.read()[-2000:]}"
    return ProcessCost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def same_exec(place: Place, argv: str, request: bytes) -> None:
    """Fabric connects and runs one recorded program with its input; the answer is read to its end."""
    import fabric

    connection = fabric.Connection(
        place.address,
        user=place.user,
        port=place.port,
        connect_kwargs={"key_filename": place.key, "look_for_keys": False, "allow_agent": False},
    )
    connection.client.load_system_host_keys(place.known_hosts)
    with connection:
        connection.open()
        # Not ``run``: it writes standard input one byte per 10 ms.
        given, output, errors = connection.client.exec_command(argv)
        try:
            given.channel.sendall(request)
        except OSError:
            raise AssertionError(f"it ended early: {output.read()!r} {errors.read()!r}") from None
        assert output.read().rstrip(), errors.read()


def floor(what: str, place: Place, count: int, recorded: str) -> None:
    """Run one of the floors in this process; called in a fresh one."""
    if what == "true":
        work: Any = lambda _: bare(place)  # noqa: E731
    else:
        note = json.loads(Path(recorded).read_text())
        work = lambda _: same_exec(place, note["argv"], bytes.fromhex(note["request"]))  # noqa: E731
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def record_exec(servers: Servers, name: str, file: Path) -> None:
    """Write down the program and the request that a no-op sends to one host."""
    from voiceops.adapters.ssh import transport

    begin, write = transport.SshTransport.start, transport.SshProcess.write
    sent: list[tuple[str, bytearray]] = []

    def start(self: Any, argv: Any, **options: Any) -> Any:
        sent.append((shlex.join(argv), bytearray()))
        return begin(self, argv, **options)

    def keep(self: Any, data: bytes) -> None:
        sent[-1][1].extend(data)
        write(self, data)

    with (
        mock.patch.multiple(transport.SshTransport, start=start),
        mock.patch.multiple(transport.SshProcess, write=keep),
    ):
        noop(servers, name)
    ((argv, request),) = sent
    file.write_text(json.dumps({"argv": argv, "request": request.hex()}))


def noop(servers: Servers, names: str) -> None:
    """A no-op in this process."""
    project = Project.load(inventory=str(servers.folder / "inventory.yaml"), host=names)
    fleet = open_fleet(project.hosts)
    done = deployer(project, DeployOptions(by="bench"), Silent()).deploy(fleet)
    for run in done.fleet.runs:
        assert run.error is None, run.error
        assert run.result is not None
        assert not run.result.changed, f"{run.name} changed {run.result}"


def fleet_of(folder: Path, machine: Machine, count: int) -> Servers:
    """A project with ``count`` names for one host: LiveKit, an agent, two services more, the schedule."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands start with their bytecode, as users' do
    os.environ.update(LIVEKIT_API_KEY=API_KEY, LIVEKIT_API_SECRET=API_SECRET)
    named = [replace(machine, name=f"vo{number}") for number in range(count)]
    servers = agent_servers(folder, named, ENTRY, cache=sleeper(), relay=sleeper())
    servers.variables["livekit"]["url"] = "ws://127.0.0.1:7880"  # of each host its own
    servers.write()
    return servers


def measure(
    machine: Machine, count: int, rounds: int, *, parallel: Sequence[int], delay_ms: float
) -> Iterator[dict[str, object]]:
    """Rows of alternating rounds: both floors and the no-op, medians."""
    # A real fleet has an sshd for each host; this one would refuse more than 10 that log in at once.
    machine.write("/etc/ssh/sshd_config.d/fleet.conf", "MaxStartups 1000\nMaxSessions 1000\n")
    machine.shell("systemctl restart ssh")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        servers = fleet_of(folder, machine, count)
        first = servers.machines[0].name
        servers.inv("deploy", "--host", first, timeout_s=TIMEOUT_S)
        recorded = Path(scratch) / "recorded.json"
        record_exec(servers, first, recorded)
        (place,) = places([machine])
        fields = [getattr(place, name) for name in Place.__slots__]
        call = "import json, sys; from bench.fleet import *; a = json.loads(sys.argv[1]);"
        call += "floor(a[0], Place(*a[1]), a[2], a[3])"
        commands = {
            what: [sys.executable, "-c", call, json.dumps([what, fields, count, str(recorded)])]
            for what in FLOORS
        }
        every = ",".join(one.name for one in servers.machines)
        for at_once in parallel:
            name = f"no-op, {at_once or 'default'} at once"
            commands[name] = servers.argv("deploy", "--host", every, "--json", "--parallel", str(at_once))
        environment = servers.environment()
        costs: dict[str, list[ProcessCost]] = {name: [] for name in commands}
        for argv in commands.values():
            cost_of(argv, environment, folder)
        with machine.delayed(round_trip_ms=delay_ms):
            for _ in range(rounds):
                for name, argv in commands.items():
                    costs[name].append(cost_of(argv, environment, folder))
        yield from rows(count, costs)


def rows(count: int, costs: dict[str, list[ProcessCost]]) -> Iterator[dict[str, object]]:
    """Medians of each command, and the no-op's part of the floors."""
    middle = {
        name: ProcessCost(
            *(statistics.median(getattr(one, field) for one in taken) for field in ProcessCost.__slots__)
        )
        for name, taken in costs.items()
    }
    for name, cost in middle.items():
        row: dict[str, object] = {"part": name, "endpoints": count, "wall_s": round(cost.wall_s, 2)}
        row |= {"cpu_s": round(cost.cpu_s, 2), "peak_mb": round(cost.peak_mb)}
        if name not in FLOORS:
            for base in FLOORS:
                row[f"of_{base}"] = round(cost.wall_s / middle[base].wall_s, 2)
                row[f"cpu_of_{base}"] = round(cost.cpu_s / middle[base].cpu_s, 2)
        yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, nargs="*", default=[0], help="0: the default of deploys")
    parser.add_argument("--delay", type=float, default=0.0, help="round trip in ms")
    options = parser.parse_args()
    with (
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as (machine,),
    ):
        for row in measure(
            machine, options.endpoints, options.rounds, parallel=options.parallel, delay_ms=options.delay
        ):
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
