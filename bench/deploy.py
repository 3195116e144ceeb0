"""What deploys cost: a no-op of the full job and one changed agent file, against floors of the same run.

The floor is one bare Fabric connect and exec (``true``), cold, with checked host keys. Deploys are the
real command's work in this process, everything imported, with fresh connections; the agent is a real one.

    python -m bench.deploy --hosts 5 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import noop as toolkit
from bench.noop import bare_all, fresh_process, places, seconds
from tests.support import hosts
from tests.support.hosts import Machine
from tests.support.live import API_KEY, API_SECRET
from tests.support.servers import Servers, agent_servers, sleeper
from voiceops.deploy.operations import DeployOptions, DeployRun
from voiceops.wiring.deploy import deployer
from voiceops.wiring.fleet import open_fleet
from voiceops.wiring.project import Project

ENTRY = Path(__file__).resolve().parent.parent / "tests/integration/agents/tone.py"


class Silent:
    """A view for nobody."""

    def say(self, line: str) -> None:
        """Nothing."""

    def event(self, host: str, kind: str, data: Any) -> None:
        """Nothing."""

    def service(self, host: str, service: str, state: str, words: str) -> None:
        """Nothing."""

    def plan(self, fleet: Any) -> None:
        """Nothing."""

    def begin(self, hosts: Sequence[str]) -> None:
        """Nothing."""


def deploy(servers: Servers, machines: Sequence[Machine], *, call: bool = False) -> DeployRun:
    """What `inv deploy --host A,B` does after its imports."""
    names = ",".join(machine.name for machine in machines)
    project = Project.load(inventory=str(servers.folder / "inventory.yaml"), host=names)
    fleet = open_fleet(project.hosts)
    done = deployer(project, DeployOptions(by="bench", call=call), Silent()).deploy(fleet)
    for run in done.fleet.runs:
        if run.error is not None:
            raise run.error
    return done


def noop(servers: Servers, machines: Sequence[Machine]) -> None:
    done = deploy(servers, machines)
    changed = [run.name for run in done.fleet.runs if run.result is None or run.result.changed]
    assert not changed, f"{changed} changed"


def full_job(folder: Path, machines: Sequence[Machine]) -> Servers:
    """LiveKit, an agent, two services more and the schedule: more than 30 resources on each host."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # commands start with their bytecode, as users' do
    os.environ.update(LIVEKIT_API_KEY=API_KEY, LIVEKIT_API_SECRET=API_SECRET)
    servers = agent_servers(folder, machines, ENTRY, cache=sleeper(), relay=sleeper())
    del servers.variables["services"]["agent"]["env"]  # its jobs have processes, as those of most agents
    servers.variables["deploy"]["serial"] = "100%"
    for machine in machines:
        servers.host_variables[machine.name] = {
            "livekit": {"url": f"ws://{machine.address}:7880"},
            "services": {"livekit": {"node_ip": machine.address}},
        }
    servers.write()
    return servers


def measure(
    machines: Sequence[Machine], delays_ms: Sequence[float], rounds: int, *, only_changed: bool = False
) -> Iterator[dict[str, object]]:
    """Rows as they come to be."""
    with tempfile.TemporaryDirectory() as scratch:
        servers = full_job(Path(scratch) / "project", machines)
        first = seconds(lambda: deploy(servers, machines))
        run = deploy(servers, machines[:1]).fleet.runs[0]
        assert run.planned is not None
        count = len(run.planned.report.results)
        yield {"part": "first deploy", "hosts": len(machines), "resources": count, "s": round(first, 1)}
        for delay_ms in delays_ms:
            with ExitStack() as stack:
                for machine in machines:
                    stack.enter_context(machine.delayed(round_trip_ms=delay_ms))
                if not only_changed:
                    yield from _noops(servers, machines, delay_ms, rounds)
                for call in (True, False):
                    yield _changed(servers, machines[0], delay_ms, max(1, rounds // 2), call=call)


def _noops(
    servers: Servers, machines: Sequence[Machine], delay_ms: float, rounds: int
) -> list[dict[str, object]]:
    """One host and all of them in alternating rounds: as commands of their own, and in this process."""
    one, all_names = machines[:1], ",".join(machine.name for machine in machines)
    job = toolkit.Job("", "")
    place = places(one)
    rows = _row(
        "no-op",
        delay_ms,
        len(machines),
        {
            "floor": lambda: fresh_process("bare_all", place, job),
            "one": lambda: command(servers, one[0].name),
            "all": lambda: command(servers, all_names),
        },
        rounds,
    )
    warm = {
        "floor": lambda: bare_all(place),
        "one": lambda: noop(servers, one),
        "all": lambda: noop(servers, machines),
    }
    return rows + _row("no-op, warm", delay_ms, len(machines), warm, rounds)


def command(servers: Servers, names: str) -> None:
    """The whole command, from the start of Python on."""
    servers.inv("deploy", "--host", names, "--json")


def _row(
    part: str, delay_ms: float, count: int, ways: dict[str, Callable[[], None]], rounds: int
) -> list[dict[str, object]]:
    if count == 1:
        del ways["all"]
    times: dict[str, list[float]] = {name: [] for name in ("floor", "one", "all")}
    for action in ways.values():
        action()
    for _ in range(rounds):
        for name, action in ways.items():
            times[name].append(seconds(action))
    floor, single = statistics.median(times["floor"]), statistics.median(times["one"])
    row: dict[str, object] = {"part": part, "round_trip_ms": delay_ms, "hosts": 1}
    rows = [row | {"floor_s": round(floor, 3), "s": round(single, 3), "of_floor": round(single / floor, 2)}]
    if times["all"]:
        several = statistics.median(times["all"])
        rows.append(row | {"hosts": count, "s": round(several, 3), "of_one_host": round(several / single, 2)})
    return rows


def _changed(
    servers: Servers, machine: Machine, delay_ms: float, rounds: int, *, call: bool
) -> dict[str, object]:
    """One file of the agent is another: against the worker's own start on that host and the floor.

    ``call``: with the proof call, beside which the agent settles; without it nothing else is left to do meanwhile.
    ``later_audio_s``: what a call to the same agent takes once it has been up for a while, the least that a proof costs.
    """
    costs, starts, floors, calls, later = [], [], [], [], []
    for number in range(rounds):
        text = f"# {delay_ms} {number} {time.time()}\n{ENTRY.read_text()}"
        (servers.folder / "agent" / "agent.py").write_text(text)
        floors.append(seconds(lambda: bare_all(places([machine]))))
        began = time.monotonic()
        done = deploy(servers, [machine], call=call)
        costs.append(time.monotonic() - began)
        calls.append((done.call.audio_s if done.call else None) or 0.0)
        starts.append(_worker_start(machine))
        again = servers.inv("call", "--host", machine.name, "--json").json if call else {"calls": [{}]}
        later.append(again["calls"][0].get("audio_s", 0.0))
    cost, start, floor = map(statistics.median, (costs, starts, floors))
    return {
        "part": f"agent changed, {'proved by a call' if call else 'no call'}",
        "round_trip_ms": delay_ms,
        "hosts": 1,
        "floor_s": round(floor, 3),
        "worker_start_s": round(start, 3),
        "first_audio_s": round(statistics.median(calls), 3),
        "later_audio_s": round(statistics.median(later), 3),
        "s": round(cost, 3),
        "beyond_both_s": round(cost - start - floor, 3),
        "of_both": round(cost / (start + floor), 2),
    }


def _worker_start(machine: Machine) -> float:
    """A second worker of the same release, as bare as it gets: until systemd has its READY=1."""
    unit = machine.shell(
        "systemctl list-units --plain --no-legend --state=active 'frontdesk-agent@*'"
    ).stdout.split()[0]
    release = unit.partition("@")[2].removesuffix(".service")
    machine.shell(
        f"ln -sfn {release} /opt/frontdesk/releases/{release}.9;"
        f"ln -sfn {release}.env /etc/frontdesk/agent/{release}.9.env"
    )
    twin = unit.replace(".service", ".9.service")
    took = seconds(lambda: machine.shell(f"systemctl start {twin}"))
    machine.shell(
        f"systemctl kill -s KILL {twin}; systemctl stop {twin}; systemctl reset-failed", check=False
    )
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only-changed", action="store_true", help="only what a changed agent costs")
    parser.add_argument("--toolkit", action="store_true", help="also bench.noop: resources alone")
    parser.add_argument("--delays", type=float, nargs="*", default=[0.0, 50.0])
    options = parser.parse_args()
    with hosts.cluster(options.hosts) as machines:
        for row in measure(machines, options.delays, options.rounds, only_changed=options.only_changed):
            print(json.dumps(row), flush=True)
        for row in toolkit.measure(machines, options.delays, options.rounds) if options.toolkit else ():
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
