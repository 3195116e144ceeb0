"""Whether ``inv capacity`` says the same twice: ``python -m bench.capacity [--times 2] [--most 20]``.

A host with systemd runs LiveKit and an agent that speaks all the while, as ``inv deploy`` brings them. The host has
one half of the cores, the callers the other: with ``--shared`` all share all of them, and callers who wait for the CPU
hear gaps that no agent made. Each call has a process of its own, as the library has it: of jobs in threads what an
overload leaves behind slows down those that come later. The bar is that the numbers differ by 1 at most.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.deploy import ENTRY
from tests.support import hosts, hosts_prepared
from tests.support.servers import agent_servers

SPREAD_BAR = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--hold", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=0, help="max_concurrent_jobs of the agent; 0: none")
    parser.add_argument("--shared", action="store_true", help="host and callers use the same cores")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as machines,
    ):
        cores = sorted(os.sched_getaffinity(0))
        if not chosen.shared:
            machines[0].pin(cores[: len(cores) // 2])
            os.sched_setaffinity(0, cores[len(cores) // 2 :])
        made = agent_servers(Path(name) / "project", machines, ENTRY)
        made.variables["services"]["agent"]["env"]["TONE_JOBS"] = "process"
        if chosen.jobs:
            made.variables["services"]["agent"]["max_concurrent_jobs"] = chosen.jobs
        made.write()
        made.deploy(timeout_s=300)
        flags = ("--group", "servers", "--most", str(chosen.most), "--hold", str(chosen.hold), "--json")
        numbers = []
        for _ in range(chosen.times):
            document = made.inv("capacity", *flags, code=None, timeout_s=1000).json
            for step in document["steps"]:
                print(f"    {json.dumps(step)}", flush=True)
            told = {
                key: document[key] for key in ("call_count", "limited_by", "detail", "settings", "stopped")
            }
            print(json.dumps(told), flush=True)
            numbers.append(document["call_count"])
    print(f"{numbers}: {'within' if max(numbers) - min(numbers) <= SPREAD_BAR else 'NOT within'} the bar")
    return 0 if max(numbers) - min(numbers) <= SPREAD_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
