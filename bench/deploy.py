"""Benchmarks of deploys on real hosts: ``python -m bench.deploy``; prints one JSON row per line.

Every ratio is against a floor measured in the same run. Parts: no-op (see ``bench.noop``).
"""

from __future__ import annotations

import argparse
import json

from bench import noop
from tests import hosts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--round-trip-ms", type=float, nargs="*", default=[0.0, 50.0])
    arguments = parser.parse_args()
    with hosts.cluster(arguments.hosts) as machines:
        for row in noop.measure(machines, arguments.round_trip_ms, arguments.rounds):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
