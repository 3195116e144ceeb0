"""What a no-op costs: the full job on hosts that are already as declared, against a floor of the same run.

The floor is one bare Fabric connect and exec (``true``) per host, in a fresh process as users start
one, with the host keys loaded. The no-op is a fresh process too, which builds the desired state of
the job and brings all hosts to it. ``warm`` rows are the same without the start of Python and the
imports: both in this process, with fresh connections.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.hosts import Machine
    from voiceops.ports import Transport
    from voiceops.resources import HostReport, Resource, State

BINARY_BYTES = 75_000_000
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
PROJECT = "bench"


@dataclass(frozen=True, slots=True)
class Place:
    """How a fresh process reaches one host."""

    name: str
    address: str
    user: str
    port: int
    key: str
    known_hosts: str


@dataclass(frozen=True, slots=True)
class Job:
    """What the no-op is about: a local binary and a folder of code."""

    binary: str
    code: str


def places(machines: Sequence[Machine]) -> list[Place]:
    return [
        Place(one.name, one.address, one.user, one.port, str(one.key_path), str(one.known_hosts))
        for one in machines
    ]


def full_job(job: Job) -> list[Resource]:
    """A voice host: account, folders, binary, configuration, a release, units, schedule."""
    from voiceops.resources import (
        Blob,
        Command,
        CronEntry,
        Directory,
        File,
        Symlink,
        Sysctl,
        Template,
        Tree,
        Unit,
        User,
    )

    root, etc = f"/opt/{PROJECT}", f"/etc/{PROJECT}"
    user = User(name=PROJECT, system=True, home=f"/var/lib/{PROJECT}", shell="/usr/sbin/nologin")
    folders = [
        Directory(path=path) for path in (root, f"{root}/bin", f"{root}/releases", etc, f"/var/log/{PROJECT}")
    ]
    livekit = Blob(path=f"{root}/bin/livekit-server", source=Path(job.binary), mode=0o755)
    tree = Tree.of_folder(f"{root}/releases/r1", Path(job.code), patterns=("*.py",))
    configs = [
        Template(
            path=f"{etc}/{name}.conf",
            template="project={{ p }}\nname={{ n }}\n",
            variables={"p": PROJECT, "n": name},
        )
        for name in ("livekit", "agent", "monitor", "web", "cleanup", "rotate", "alerts", "metrics")
    ]
    made: list[Resource] = [user, *folders, livekit, tree, *configs]
    made.append(Symlink(path=f"{root}/current", target="releases/r1"))
    for number in range(5):
        name = f"{PROJECT}-{number}.service"
        file = File(path=f"/etc/systemd/system/{name}", content=UNIT, mode=0o644)
        made += [
            file,
            Unit(name=name, enabled=True, running=True, restart_on=[file, configs[number]], settle_s=0.2),
        ]
    made += [
        CronEntry(name=PROJECT, schedule="*/5 * * * *", command="true"),
        Sysctl(path=f"/etc/sysctl.d/60-{PROJECT}.conf", values={"net.core.rmem_max": "5000000"}),
        File(path=f"/etc/security/limits.d/{PROJECT}.conf", content=f"{PROJECT} - nofile 65536\n"),
        Command(name="stamp", argv=["touch", f"{etc}/stamp"], creates=f"{etc}/stamp"),
    ]
    return made


def bare(place: Place) -> None:
    """The floor, as Fabric's manual has it, but for the host key."""
    import fabric

    connection = fabric.Connection(
        place.address,
        user=place.user,
        port=place.port,
        connect_kwargs={"key_filename": place.key, "look_for_keys": False, "allow_agent": False},
    )
    connection.client.load_system_host_keys(place.known_hosts)
    with connection:
        connection.run("true", hide=True, in_stream=False)


def bare_all(hosts: Sequence[Place], job: Job | None = None) -> None:
    if len(hosts) == 1:
        return bare(hosts[0])
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(bare, hosts))
    return None


def deploy_all(hosts: Sequence[Place], job: Job, *, expect_changes: bool = False) -> None:
    """Build the state and bring all hosts to it."""
    from voiceops.adapters.ssh.target import SshTarget
    from voiceops.adapters.ssh.transport import SshTransport
    from voiceops.fleet import on_hosts
    from voiceops.resources import apply

    transports = [
        SshTransport(
            SshTarget(
                name=one.name,
                address=one.address,
                user=one.user,
                port=one.port,
                key_file=Path(one.key),
                known_hosts=(Path(one.known_hosts),),
            )
        )
        for one in hosts
    ]
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(lambda: _state(job))  # while the connections are being made

        def work(transport: Transport) -> HostReport:
            transport.open()
            return apply(transport, building.result())

        outcomes = on_hosts(transports, work)
    for outcome in outcomes.values():
        report = outcome.get()
        report.raise_for_failure()
        if bool(report.changed) != expect_changes:
            changed = [result.id for result in report.results if result.result == "changed"]
            raise AssertionError(f"{report.host} changed {changed}")


def _state(job: Job) -> State:
    from voiceops.resources import State

    return State(PROJECT, full_job(job))


def fresh_process(what: str, hosts: Sequence[Place], job: Job) -> None:
    """``bare_all`` or ``deploy_all`` as a command of its own."""
    fields = [[getattr(one, name) for name in Place.__slots__] for one in hosts]
    program = (
        "import json, sys; from bench.noop import *; fields, job = json.loads(sys.argv[1]);"
        f"{what}([Place(*one) for one in fields], Job(*job))"
    )
    arguments = json.dumps([fields, [job.binary, job.code]])
    subprocess.run([sys.executable, "-c", program, arguments], check=True, timeout=120)


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(machines: Sequence[Machine], delays_ms: Sequence[float], rounds: int) -> list[dict[str, object]]:
    """Rows per delay and number of hosts: medians of alternating rounds, and their ratio."""
    rows: list[dict[str, object]] = []
    hosts = places(machines)
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "livekit-server"
        with binary.open("wb") as file:
            file.truncate(BINARY_BYTES)
        job = Job(str(binary), str(Path(__file__).resolve().parent.parent / "voiceops/model"))
        deploy_all(hosts, job, expect_changes=True)
        for delay_ms in delays_ms:
            with ExitStack() as stack:
                for machine in machines:
                    stack.enter_context(machine.delayed(round_trip_ms=delay_ms))
                for count in sorted({1, len(machines)}):
                    rows += _compare(hosts[:count], job, delay_ms, rounds)
    return rows


def _compare(hosts: Sequence[Place], job: Job, delay_ms: float, rounds: int) -> list[dict[str, object]]:
    kinds: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "no-op": (
            partial(fresh_process, "bare_all", hosts, job),
            partial(fresh_process, "deploy_all", hosts, job),
        ),
        "no-op, warm": (partial(bare_all, hosts), partial(deploy_all, hosts, job)),
    }
    rows: list[dict[str, object]] = []
    for part, (floor, noop) in kinds.items():
        floor()
        noop()
        floors, costs = [], []
        for _ in range(rounds):
            floors.append(seconds(floor))
            costs.append(seconds(noop))
        least, cost = statistics.median(floors), statistics.median(costs)
        rows.append(
            {
                "part": part,
                "round_trip_ms": delay_ms,
                "hosts": len(hosts),
                "floor_s": round(least, 3),
                "noop_s": round(cost, 3),
                "ratio": round(cost / least, 2),
            }
        )
    return rows
