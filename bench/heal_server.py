"""What the repairs of a server's monitor cost callers: ``python -m bench.heal_server [--rounds N] [--only TEXT] [--monitor]``.

A host with a real systemd runs LiveKit, an agent and the monitor, as ``inv deploy`` brings them. Each row is as in ``bench.heal``.

``--monitor``: instead, kill the monitor together with the agent, and print after how long it watches again (bar: 5 s), how often the
agent was started for that, and what the history has of it: one incident, which is over.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.heal import AGENT, BREAKS, SEEN_AFTER_S, answered_after
from tests.support import hosts, hosts_prepared
from tests.support.servers import PROJECT, Servers, agent_servers

MONITOR_BACK_S = 5.0


def main_pid(machine: hosts.Machine, service: str) -> int:
    """The main process of a service; of an agent, of the instance that serves."""
    unit = f"{PROJECT}-{service}"
    listed = machine.shell(
        f"systemctl list-units --plain --no-legend --state=active '{unit}.service' '{unit}@*'"
    )
    name = listed.stdout.split()[0]
    return int(machine.shell(f"systemctl show -P MainPID {name}").stdout)


def fresh_stack(made: Servers) -> float:
    """Stop and start what a round has broken, by which the monitor forgets its backoff; seconds of a worker's own start."""
    (machine,) = made.machines
    made.inv("stop", "--host", machine.name, "--now", "--yes", "--only", "livekit,agent")
    time.sleep(SEEN_AFTER_S)
    made.inv("start", "--host", machine.name, "--only", "livekit")
    made.inv("start", "--host", machine.name, "--only", "agent")
    shown = "systemctl show -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic"
    lines = machine.shell(f"{shown} '{PROJECT}-agent@*'").stdout.split()
    times = {name: int(value) / 1e6 for name, value in (line.split("=") for line in lines)}
    time.sleep(SEEN_AFTER_S)
    return times["ActiveEnterTimestampMonotonic"] - times["ExecMainStartTimestampMonotonic"]


def log_since(machine: hosts.Machine, epoch_s: float) -> str:
    """What the monitor and its helper wrote since then."""
    return machine.shell(
        f"journalctl --no-pager -o short-unix -u '{PROJECT}-monitor*' -u '{PROJECT}-agent*' -u {PROJECT}-livekit --since @{epoch_s:.0f} | cut -c1-220"
    ).stdout


def measure_repairs(made: Servers, rounds: int, only: str, *, with_log: bool) -> bool:
    """Break, dial and print each case; whether the median of each is within its bar."""
    (machine,) = made.machines
    url = str(made.variables["livekit"]["url"])
    ok = True
    for label, (services, number) in BREAKS.items():
        if only not in label:
            continue
        times, starts = [], []
        for turn in range(rounds):
            starts.append(fresh_stack(made))
            pids = [main_pid(machine, name) for name in services]
            began = time.time()
            machine.shell(f"kill -{int(number)} {' '.join(map(str, pids))}")
            times.append(asyncio.run(answered_after(url, f"heal-{label.replace(' ', '-')}-{turn}")))
            time.sleep(SEEN_AFTER_S)
            if with_log:
                print(f"  {began:.3f}\n{log_since(machine, began)}", flush=True)
        bars = [1.2 * start + 0.5 for start in starts]
        within = statistics.median(one / bar for one, bar in zip(times, bars, strict=True))
        ok = ok and within <= 1.0
        each = ", ".join(f"{one:.2f} ({start:.2f})" for one, start in zip(times, starts, strict=True))
        print(f"{label:16}{statistics.median(times):12.2f} s{within:12.0%}  {each}", flush=True)
    return ok


def measure_monitor(made: Servers, rounds: int) -> bool:
    """Kill monitor and agent at once, and print what came of both; whether it was back in time and did all of it once."""
    (machine,) = made.machines
    ok, times = True, []
    for turn in range(rounds):
        fresh_stack(made)
        since = time.time()
        monitor, agent = main_pid(machine, "monitor"), main_pid(machine, "agent")
        began = time.monotonic()
        machine.shell(f"kill -KILL {monitor} {agent}")
        times.append(_seconds_until_watching(machine, monitor, began))
        answered_s = asyncio.run(answered_after(str(made.variables["livekit"]["url"]), f"killed-{turn}"))
        time.sleep(SEEN_AFTER_S * 4)
        starts = log_since(machine, since).count(f"Started {PROJECT}-agent@")
        document = made.inv(
            "history", "--host", machine.name, "--since", f"{time.time() - since:.0f}s", "--json"
        )
        kept = document.json["hosts"][machine.name]
        incidents = [one for one in kept["incidents"] if one["subject"] == "agent"]
        over = [one for one in incidents if one["ended_at"] is not None]
        ok = ok and times[-1] <= MONITOR_BACK_S and starts == 1 and len(incidents) == len(over) <= 1
        print(
            f"the monitor watches again after {times[-1]:.2f} s; the agent was started {starts} times and answers after"
            f" {time.monotonic() - began:.1f} s ({answered_s:.1f} s from the first dial); {len(incidents)} incidents of it,"
            f" {len(over)} over; {len(kept['repairs'])} repairs",
            flush=True,
        )
    print(
        f"the monitor killed: back after {statistics.median(times):.2f} s (median), bar {MONITOR_BACK_S:.0f} s"
    )
    return ok


def _seconds_until_watching(machine: hosts.Machine, old: int, began: float) -> float:
    unit = f"{PROJECT}-monitor"
    while time.monotonic() < began + 60:
        lines = machine.shell(f"systemctl show -p MainPID -p ActiveState {unit}").stdout.split()
        shown = dict(line.split("=", 1) for line in lines)
        if shown["ActiveState"] == "active" and shown["MainPID"] not in ("0", str(old)):
            return time.monotonic() - began
        time.sleep(0.05)
    return float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, break, dial, print; exit 1 if a time is over its bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="those ways to break it that have this in their name")
    parser.add_argument("--log", action="store_true", help="print what the monitor wrote meanwhile")
    parser.add_argument(
        "--monitor", action="store_true", help="kill the monitor together with the agent, and nothing else"
    )
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as machines,
    ):
        made = agent_servers(Path(name) / "project", machines, AGENT, monitor={"kind": "monitor"})
        # With a process for each job, as livekit-agents has it.
        made.variables["services"]["agent"]["env"] = {}
        made.write()
        made.deploy(timeout_s=300)
        if chosen.monitor:
            return 0 if measure_monitor(made, chosen.rounds) else 1
        print(
            f"{'broken by':16}{'answered after':>14}{'of the bar':>12}  each (a worker's own start just before)"
        )
        return 0 if measure_repairs(made, chosen.rounds, chosen.only, with_log=chosen.log) else 1


if __name__ == "__main__":
    sys.exit(main())
