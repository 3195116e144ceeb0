"""What `why` and a server's monitor make of Caddy's certificate there: ``python -m bench.certificate_server``. Needs root and Debian.

A real Caddy on a test host. Its certificate is good, then made for seconds and expired, then one of Let's Encrypt, which the
host can't reach. Each has to be a finding of `inv why` from here, with a fix that names the host, and an incident there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.page import AGENT
from bench.page_tls import CERTIFICATES, DOMAIN
from tests.support import hosts
from tests.support.caddy_stack import brief_certificates
from tests.support.hosts_packages import add_repository
from tests.support.servers import PROJECT, Servers, agent_servers

LIFETIME_S = 20
WITHIN_S = 90.0


def deployed(folder: Path, machine: hosts.Machine) -> Servers:
    """The stack on the host, with a monitor that looks each second."""
    add_repository(machine, "caddy")
    servers = agent_servers(
        folder,
        [machine],
        AGENT,
        page={"kind": "web", "needs": ["livekit"]},
        caddy={"kind": "caddy", "needs": ["page", "livekit"], "domain": DOMAIN, "tls": "internal"},
        monitor={"kind": "monitor"},
    )
    servers.variables["deploy"]["packages"] = ["caddy"]
    servers.variables["monitor"] = {"interval_s": 1}
    servers.write()
    servers.deploy(timeout_s=400)
    return servers


def findings(servers: Servers) -> list[dict[str, Any]]:
    """Those of certificates."""
    document = servers.inv("why", "--group", "servers", "--json", code=None).json
    return [one for one in document["findings"] if one["rule"].startswith("certificate")]


def incidents(servers: Servers, machine: hosts.Machine) -> list[dict[str, Any]]:
    """Those of certificates, of the host's own history."""
    document = servers.inv("history", "--incidents", "--host", machine.name, "--json").json
    found = document["hosts"][machine.name]["incidents"]
    return [one for one in found if str(one["cause"]).startswith("certificate")]


def wait(servers: Servers, machine: hosts.Machine, rule: str) -> None:
    """Wait until `why` and the monitor tell of it."""
    began = time.monotonic()
    told: dict[str, float] = {}
    while len(told) < 2:
        for one in findings(servers):
            if one["rule"] == rule and "why" not in told:
                told["why"] = time.monotonic() - began
                print(
                    f"{rule}: why after {told['why']:.0f} s: {one['cause']} {one['evidence']} {one['fix']}",
                    flush=True,
                )
                assert machine.name in one["fix"], one
        for one in incidents(servers, machine):
            if one["cause"] == rule and "monitor" not in told:
                told["monitor"] = time.monotonic() - began
                print(
                    f"{rule}: incident after {told['monitor']:.0f} s: {one['sentence']} {one['fix']}",
                    flush=True,
                )
        if time.monotonic() - began > WITHIN_S:
            journal = machine.shell(f"journalctl -o cat -n 40 -u {PROJECT}-monitor -u {PROJECT}-caddy").stdout
            history = servers.inv("history", "--incidents", "--host", machine.name).out
            raise AssertionError((rule, told, findings(servers), history, journal))
        time.sleep(1)


def main() -> int:
    """Run it."""
    with tempfile.TemporaryDirectory() as name, hosts.cluster(1) as (machine,):
        servers = deployed(Path(name) / "servers", machine)
        assert findings(servers) == [], findings(servers)
        brief_certificates(servers.folder, LIFETIME_S)
        machine.shell(f"rm -r {CERTIFICATES}/certificates")
        servers.deploy(timeout_s=200)
        wait(servers, machine, "certificate-expired")
        servers.variables["services"]["caddy"]["tls"] = "letsencrypt"
        servers.write()
        servers.deploy(timeout_s=200)
        wait(servers, machine, "certificate-missing")
        servers.variables["services"]["caddy"]["tls"] = "internal"
        servers.write()
        (servers.folder / "templates" / "caddy.caddyfile").unlink()
        machine.shell(f"rm -r {CERTIFICATES}/certificates")
        servers.deploy(timeout_s=200)
        ends_at = time.monotonic() + WITHIN_S
        while findings(servers) or any(one["ended_at"] is None for one in incidents(servers, machine)):
            assert time.monotonic() < ends_at, (findings(servers), incidents(servers, machine))
            time.sleep(1)
        print("healed: no finding, each incident has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
