"""What a no-op costs: the full job on hosts that are already as declared, against a floor of the same run.

The floor is one bare Fabric connect and exec (``true``), cold, per host, with checked host keys.
Both run in this process with everything imported; each round takes fresh connections.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import fabric

from tests.hosts import Machine
from voiceops.adapters.ssh import SshTarget, SshTransport
from voiceops.resources import (
    Blob,
    Command,
    CronEntry,
    Directory,
    File,
    Resource,
    State,
    Symlink,
    Sysctl,
    Template,
    Tree,
    Unit,
    User,
    apply,
    on_hosts,
)

BINARY_BYTES = 75_000_000
UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
PROJECT = "bench"


def full_job(binary: Path, source: Path) -> list[Resource]:
    """A voice host: account, folders, binary, configuration, a release, units, schedule."""
    root, etc = f"/opt/{PROJECT}", f"/etc/{PROJECT}"
    user = User(name=PROJECT, system=True, home=f"/var/lib/{PROJECT}", shell="/usr/sbin/nologin")
    folders = [
        Directory(path=path) for path in (root, f"{root}/bin", f"{root}/releases", etc, f"/var/log/{PROJECT}")
    ]
    livekit = Blob(path=f"{root}/bin/livekit-server", source=binary, mode=0o755)
    tree = Tree.of_folder(f"{root}/releases/r1", source, patterns=("*.py",))
    configs = [
        Template(
            path=f"{etc}/{name}.conf",
            template="project={{ p }}\nname={{ n }}\n",
            variables={"p": PROJECT, "n": name},
        )
        for name in ("livekit", "agent", "monitor", "web", "cleanup", "rotate", "alerts", "metrics")
    ]
    link = Symlink(path=f"{root}/current", target="releases/r1")
    job: list[Resource] = [user, *folders, livekit, tree, link, *configs]
    for number in range(5):
        name = f"{PROJECT}-{number}.service"
        file = File(path=f"/etc/systemd/system/{name}", content=UNIT, mode=0o644)
        job += [
            file,
            Unit(name=name, enabled=True, running=True, restart_on=[file, configs[number]], settle_s=0.2),
        ]
    job += [
        CronEntry(name=PROJECT, schedule="*/5 * * * *", command="true"),
        Sysctl(path=f"/etc/sysctl.d/60-{PROJECT}.conf", values={"net.core.rmem_max": "5000000"}),
        File(path=f"/etc/security/limits.d/{PROJECT}.conf", content=f"{PROJECT} - nofile 65536\n"),
        Command(name="stamp", argv=["touch", f"{etc}/stamp"], creates=f"{etc}/stamp"),
    ]
    return job


def target(machine: Machine) -> SshTarget:
    return SshTarget(
        name=machine.name,
        address=machine.address,
        user=machine.user,
        port=machine.port,
        key_file=machine.key_path,
        known_hosts=(machine.known_hosts,),
    )


def bare(machine: Machine) -> None:
    """The floor, as Fabric's manual has it, but for the host key."""
    connection = fabric.Connection(
        machine.address,
        user=machine.user,
        port=machine.port,
        connect_kwargs={"key_filename": str(machine.key_path), "look_for_keys": False, "allow_agent": False},
    )
    connection.client.load_system_host_keys(str(machine.known_hosts))
    with connection:
        connection.run("true", hide=True, in_stream=False)


def bare_all(machines: Sequence[Machine]) -> None:
    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(bare, machines))


def deploy_all(
    machines: Sequence[Machine], job: Callable[[], list[Resource]], *, expect_changes: bool = False
) -> None:
    """Build the state and bring all hosts to it."""
    state = State(PROJECT, job())
    transports = [SshTransport(target(machine)) for machine in machines]
    for outcome in on_hosts(transports, lambda transport: apply(transport, state)).values():
        report = outcome.get()
        report.raise_for_failure()
        if bool(report.changed) != expect_changes:
            changed = [result.id for result in report.results if result.result == "changed"]
            raise AssertionError(f"{report.host} changed {changed}")


def seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(machines: Sequence[Machine], delays_ms: Sequence[float], rounds: int) -> list[dict[str, object]]:
    """One row per delay and number of hosts: medians of alternating rounds, and their ratio."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        binary = Path(scratch) / "livekit-server"
        with binary.open("wb") as file:
            file.truncate(BINARY_BYTES)
        source = Path(__file__).resolve().parent.parent / "voiceops/model"

        def job() -> list[Resource]:
            return full_job(binary, source)

        deploy_all(machines, job, expect_changes=True)
        for delay_ms in delays_ms:
            with ExitStack() as stack:
                for machine in machines:
                    stack.enter_context(machine.delayed(round_trip_ms=delay_ms))
                for count in sorted({1, len(machines)}):
                    some = machines[:count]
                    bare_all(some)
                    deploy_all(some, job)
                    floors, costs = [], []
                    for _ in range(rounds):
                        floors.append(seconds(partial(bare_all, some)))
                        costs.append(seconds(partial(deploy_all, some, job)))
                    rows.append(_row(delay_ms, count, len(State(PROJECT, job()).specs), floors, costs))
    return rows


def _row(
    delay_ms: float, count: int, resources: int, floors: list[float], costs: list[float]
) -> dict[str, object]:
    floor, cost = statistics.median(floors), statistics.median(costs)
    return {
        "part": "no-op",
        "round_trip_ms": delay_ms,
        "hosts": count,
        "resources": resources,
        "floor_s": round(floor, 3),
        "noop_s": round(cost, 3),
        "ratio": round(cost / floor, 2),
    }
