"""What an update of several livekit-servers costs callers: ``python -m bench.nodes_update [--calls N] [--hold S] [--only TEXT]``; needs root.

Three hosts with a real systemd, as ``inv deploy`` brings them: Redis on the first, livekit-server, an agent and the monitor on
each of the other two. People call both nodes all the while, some for ``--hold`` seconds and some for one. Each row is a
deploy with ``--drain`` that changes livekit-server on both nodes: each takes no new rooms until its calls are over and it has restarted, while
the other one takes them.

- ``nothing``: no deploy at all, to tell what the machine itself does to calls
- ``configuration``: another livekit.yaml
- ``program``: another livekit-server
- ``keys``: ``inv rotate-keys``, which restarts each node twice
- ``killed``: the deployer is killed (SIGKILL) while the first node waits for its calls, and the next one goes on

Bars: no call dropped or unanswered; both nodes were restarted, never at one time; another deploy changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.nodes import two_nodes
from bench.rotate import KeysInFile, calling
from tests.support import hosts, hosts_prepared, parts
from tests.support.bad_releases import AGENT, TONE
from tests.support.live import API_KEY, API_SECRET
from tests.support.roles import bring_redis
from tests.support.servers import PROJECT, Servers

DRAIN_S = 200
BEGINS_S = 60.0


def nothing(made: Servers) -> str:
    time.sleep(60.0)
    return "no deploy"


def configuration(made: Servers) -> str:
    made.variables["services"]["livekit"]["log_level"] = "warn"
    made.write()
    return deployed(made)


def program(made: Servers) -> str:
    file = made.folder / "livekit-server"
    shutil.copy(parts.livekit_server_binary(), file)
    with file.open("ab") as binary:
        binary.write(b"\0")
    made.variables["services"]["livekit"]["binary"] = str(file)
    made.write()
    return deployed(made)


def killed(made: Servers) -> str:
    made.variables["services"]["livekit"]["log_level"] = "error"
    made.write()
    first = made.machines[1]
    process = made.spawn("deploy", "--group", "servers", "--no-call", "--drain", str(DRAIN_S))
    ends_at = time.monotonic() + BEGINS_S
    while first.shell(f"test -e /run/{PROJECT}/livekit.draining", check=False).returncode:
        assert time.monotonic() < ends_at, process.communicate()
        time.sleep(0.1)
    process.kill()
    process.communicate()
    return f"killed while the first node drained, then {deployed(made)}"


def keys(made: Servers) -> str:
    began = time.monotonic()
    made.inv("rotate-keys", "--group", "servers", "--drain", str(DRAIN_S), timeout_s=6 * DRAIN_S)
    return f"a rotation of the keys in {time.monotonic() - began:.0f} s"


def deployed(made: Servers) -> str:
    began = time.monotonic()
    made.deploy("--no-call", "--drain", str(DRAIN_S), timeout_s=3 * DRAIN_S)
    return f"a deploy in {time.monotonic() - began:.0f} s"


ROWS: dict[str, Callable[[Servers], str]] = {
    "nothing": nothing,
    "configuration": configuration,
    "program": program,
    "keys": keys,
    "killed": killed,
}


def up_since(nodes: Sequence[hosts.Machine]) -> list[tuple[int, int]]:
    """When each server was started and was ready; test hosts share one kernel, and so one clock."""
    shown = "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"
    unit = f"{PROJECT}-livekit.service"
    return [
        (int(begun), int(ready))
        for begun, ready in (
            [node.shell(f"systemctl show -P {what} {unit}").stdout for what in shown] for node in nodes
        )
    ]


def measure(made: Servers, row: str, calls: int, hold_s: float) -> bool:
    """Run one row under calls to both nodes and print it; whether it keeps the bars."""
    nodes = made.groups["media"]
    before = up_since(nodes)
    with contextlib.ExitStack() as callers:
        heard = [
            callers.enter_context(calling(made, *times, count=count, host=node.name))
            for node in nodes
            for times, count in (((hold_s, 0.5), calls), ((1.0, 1.0), 1))
        ]
        time.sleep(8.0)
        did = ROWS[row](made)
        time.sleep(5.0)
    (first, second), changed = (
        up_since(nodes),
        made.deploy("--check", "--no-call", code=None)["changed_count"],
    )
    wrong = []
    if row != "nothing":
        wrong += ["not both were restarted"] if first[1] <= before[0][1] or second[1] <= before[1][1] else []
        wrong += ["both were away at once"] if second[0] < first[1] else []
    wrong += [f"{changed} changes are left"] if changed else []
    long, short = [*heard[0], *heard[2]], [*heard[1], *heard[3]]
    return told(f"{row:14} {did}", long, short, wrong)


def told(
    what: str, long: Sequence[dict[str, Any]], short: Sequence[dict[str, Any]], wrong: Sequence[str]
) -> bool:
    """Print a row."""
    lost = [[one for one in calls if not one["ok"]] for calls in (long, short)]
    gap_s = max((max(one["max_gap_s"], one["max_pause_s"]) for one in long if one["ok"]), default=0.0)
    print(
        f"{what}: {len(lost[0])} of {len(long)} long calls dropped, {len(lost[1])} of {len(short)} short ones unanswered,"
        f" largest gap {gap_s * 1000:.0f} ms; {'; '.join(wrong) or 'as declared'}",
        flush=True,
    )
    for one in [*lost[0], *lost[1]]:
        print(f"    {one.get('started_s')} {one['failure']}", flush=True)
    return not (lost[0] or lost[1] or wrong)


def keys_in_file(made: Servers) -> Servers:
    """The same project, whose secrets stand in .env alone, where a rotation changes them."""
    secrets = {"LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET, **made.env}
    (made.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    values = {one.name: getattr(made, one.name) for one in dataclasses.fields(made)}
    return KeysInFile(**values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each row; exit 1 if a call was lost, or a node is not as declared."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2, help="long calls to each node at once")
    parser.add_argument("--hold", type=float, default=20.0)
    parser.add_argument("--only", default="", help="those rows that have this in their name")
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1) as stores,
        run.cluster(2, layer=layer) as nodes,
    ):
        bring_redis(stores[0])
        made = keys_in_file(two_nodes(Path(name) / "project", [*stores, *nodes]))
        (made.folder / AGENT).write_text(TONE.read_text())
        made.deploy("--no-call", timeout_s=400)
        kept = [measure(made, row, chosen.calls, chosen.hold) for row in ROWS if chosen.only in row]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
