"""What the monitor makes of a certificate that nobody renews: ``python -m bench.certificate``.

A real Caddy whose own CA makes it for 60 s. The incident has to come when a quarter of that is left, and an alert with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support import parts
from tests.support.caddy_stack import caddy_stack
from tests.support.projects import Project

LIFETIME_S = 60


def incidents(made: Project) -> list[dict[str, object]]:
    """Those of the certificate."""
    document = made.inv("history", "--incidents", "--json").json
    found = document["hosts"]["localhost"]["incidents"]
    return [one for one in found if str(one["cause"]).startswith("certificate")]


def main() -> int:
    """Run it."""
    parts.caddy()
    with tempfile.TemporaryDirectory() as folder, caddy_stack(Path(folder), LIFETIME_S) as made:
        made.variables["services"]["monitor"] = {"kind": "monitor"}
        made.variables["monitor"] = {"interval_s": 1}
        made.write()
        made.inv("start")
        began = time.monotonic()
        while not (found := incidents(made)):
            assert time.monotonic() - began < LIFETIME_S * 3
            time.sleep(1)
        print(f"incident {time.monotonic() - began:.0f} s after the start:", json.dumps(found[0]))
        why = made.inv("why", "--json", code=None).json["findings"]
        print(json.dumps([one for one in why if one["rule"].startswith("certificate")]))
        print((made.folder / ".voiceops/logs/monitor.log").read_text()[-1500:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
