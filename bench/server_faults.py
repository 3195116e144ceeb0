"""What ``inv why --host`` and ``inv recover --host`` say of each fault of each service of a whole stack on a server; needs root.

``python -m bench.server_faults [--only SERVICES] [--faults down,hung,disk,password,port] [--letta]``: a host with a real systemd
runs the services of ``bench.profile_faults``, its data and its journal on small disks of their own, without a monitor. Letta
takes minutes and 2 GB, so it is there on request. Each fault is judged as there, and undone by a person's ``inv deploy``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.profile_faults import DATA_BYTES, PASSWORDS, SERVICES, has, named
from tests.integration.test_letta_servers import BIN
from tests.support import hosts, hosts_prepared, parts
from tests.support.hosts_packages import add_repository
from tests.support.live import API_KEY, API_SECRET
from tests.support.servers import IN_THREADS, PROJECT, Servers
from voiceops.adapters.binaries import postgresql

AGENT = Path(__file__).parents[1] / "tests/integration/agents/tone.py"
PORTS = {"postgres": 5432, "redis": 6379, "letta": 8283, "livekit": 7880, "web": 8888, "cors": 9000}
JOURNAL_BYTES = 16_000_000
_TAKE_PORT = """\
import os, signal, socket, sys, time
os.kill(int(sys.argv[1]), signal.SIGKILL)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
deadline = time.monotonic() + 30
while True:
    try:
        listener.bind(("0.0.0.0", int(sys.argv[2])))
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.005)
listener.listen()
time.sleep(600)
"""


@dataclass(frozen=True, slots=True)
class Site:
    """The server on which faults are made."""

    made: Servers

    @property
    def machine(self) -> hosts.Machine:
        return self.made.machines[0]

    def inv(self, *arguments: str) -> Any:
        return self.made.inv(*arguments, "--group", "servers", code=None, timeout_s=300)

    def unit(self, service: str) -> str:
        name = f"{PROJECT}-{service}"
        listed = self.machine.shell(
            f"systemctl list-units --plain --no-legend --all '{name}.service' '{name}@*'"
        ).stdout.split()
        return listed[0]

    def pid(self, service: str) -> int:
        return int(self.machine.shell(f"systemctl show -P MainPID {self.unit(service)}").stdout)

    def active(self, service: str) -> str:
        return self.machine.shell(f"systemctl show -P ActiveState {self.unit(service)}").stdout.strip()


@contextmanager
def down(site: Site, service: str) -> Iterator[None]:
    """Kill it until systemd gives it up."""
    unit, deadline = site.unit(service), time.monotonic() + 120
    while site.active(service) != "failed" and time.monotonic() < deadline:
        site.machine.shell(f"systemctl kill --kill-who=all --signal=KILL {unit}", check=False)
        time.sleep(0.1)
    yield


@contextmanager
def hung(site: Site, service: str) -> Iterator[None]:
    pid = site.pid(service)
    site.machine.shell(f"kill -STOP {pid}")
    try:
        yield
    finally:
        site.machine.shell(f"kill -CONT {pid}", check=False)


@contextmanager
def disk(site: Site, service: str) -> Iterator[None]:
    """Fill the disk of its data, or where it has none that of the journal."""
    folder = f"/var/lib/{PROJECT}/{service}" if service in DATA_BYTES else "/var/log/journal"
    site.machine.shell(f"dd if=/dev/zero of={folder}/filler bs=4096", check=False)
    try:
        yield
    finally:
        site.machine.shell(f"rm {folder}/filler")


@contextmanager
def password(site: Site, service: str) -> Iterator[None]:
    """Another one in .env than the service was deployed with."""
    before = site.made.env[PASSWORDS[service]]
    site.made.env[PASSWORDS[service]] = before[::-1]
    yield  # a person would leave it, and deploy


@contextmanager
def port(site: Site, service: str) -> Iterator[None]:
    """Its process is gone and a program of nobody's has its port."""
    site.machine.write("/srv/take_port.py", _TAKE_PORT)
    taken = f"/usr/bin/python3 /srv/take_port.py {site.pid(service)} {PORTS[service]}"
    site.machine.shell(f"systemd-run --quiet --collect --unit=foreign {taken}")
    time.sleep(3.0)
    try:
        yield
    finally:
        site.machine.shell("systemctl stop foreign")


FAULTS: dict[str, Callable[[Site, str], AbstractContextManager[None]]] = {
    "down": down,
    "hung": hung,
    "disk": disk,
    "password": password,
    "port": port,
}


def try_one(site: Site, service: str, fault: str) -> bool:
    """Make one fault; print what is said of it."""
    with FAULTS[fault](site, service):
        began = time.monotonic()
        found = site.inv("why", "--json").json
        took_s = time.monotonic() - began
        good = named(found["findings"], service, fault)
        print(f"{service:9} {fault:9} {'named' if good else 'NOT NAMED'} in {took_s:.1f} s", flush=True)
        for one in found["findings"]:
            print(f"    {one['severity']}: {one['cause']}  [{one['rule']}]\n      fix: {one['fix']}")
            for line in one["evidence"]:
                print(f"      seen: {line[:200]}")
        for problem in found.get("problems", ()):
            print(f"    problem: {problem}")
        began = time.monotonic()
        said = site.inv("recover")
        print(f"    recover: exit {said.code} after {time.monotonic() - began:.1f} s")
        for line in (said.err + said.out).strip().splitlines():
            print(f"      {line[:220]}", flush=True)
    again = site.inv("deploy", "--no-call")
    ready = site.inv("check-running")
    if ready.code:
        print(f"    NOT READY AFTER inv deploy: {again.err[-800:]}\n{ready.out}")
    return good and not ready.code


def server(folder: Path, machine: hosts.Machine, *, letta: bool) -> Servers:
    """The project of the stack; nothing is deployed."""
    parts.embedded_postgresql()
    # Debian 12 has no pgvector: the embedded one, as any other PostgreSQL, by its folder.
    shutil.copytree(postgresql.programs().parents[2], machine.root / "srv/postgresql", symlinks=True)
    machine.shell("chmod -R a+rX /srv/postgresql")
    add_repository(machine, "redis-server")
    folder.mkdir(parents=True)
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    shutil.copy(AGENT, folder / "agent.py")
    services: dict[str, dict[str, Any]] = {
        "postgres": {"kind": "postgres", "database": "letta", "bin": BIN},
        "redis": {"kind": "redis"},
        **({"letta": {"kind": "letta"}} if letta else {}),
        "livekit": {"kind": "livekit", "binary": str(parts.livekit_server_binary())},
        "agent": {"kind": "agent", "entry": "agent.py", "needs": ["livekit"], "env": dict(IN_THREADS)},
        "web": {"kind": "web", "needs": ["livekit"]},
        "cors": {"kind": "web", "port": 9000, "page": False, "origins": ["http://localhost:3000"]},
    }
    variables = {
        "project": PROJECT,
        "livekit": {
            "url": "ws://127.0.0.1:7880",
            "api_key": {"env": "LIVEKIT_API_KEY"},
            "api_secret": {"env": "LIVEKIT_API_SECRET"},
        },
        "services": services,
        "deploy": {"settle_s": 1.0, "packages": ["redis-server"]},
    }
    made = Servers(folder, [machine], variables)
    made.env |= {"LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET}
    made.env |= {
        name: f"password of {name}, long enough for all"
        for name in PASSWORDS.values()
        if name not in made.env
    }
    made.write()
    return made


def onto_small_disks(opened: ExitStack, site: Site) -> None:
    """Move what the services and the journal write to disks of their own."""
    site.inv("stop", "--now", "--yes")
    for name, size in DATA_BYTES.items():
        place = f"/var/lib/{PROJECT}/{name}"
        if name in site.made.variables["services"]:
            site.machine.shell(f"mv {place} {place}.before && mkdir {place}")
            site.machine.shell(
                f"chown --reference={place}.before {place}; chmod --reference={place}.before {place}"
            )
            opened.enter_context(site.machine.small_disk(place, size))
            site.machine.shell(f"cp -a {place}.before/. {place} && rm -r {place}.before")
    site.machine.shell("mkdir -p /var/log/journal")
    opened.enter_context(site.machine.small_disk("/var/log/journal", JOURNAL_BYTES))
    site.machine.shell("systemctl restart systemd-journald && journalctl --flush")
    site.inv("start")
    opened.callback(site.inv, "stop", "--now", "--yes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, make the faults, print, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--letta", action="store_true")
    options = parser.parse_args(arguments)
    chosen = (
        options.only.split(",")
        if options.only
        else [one for one in SERVICES if one != "letta" or options.letta]
    )
    cases = [
        (service, fault) for service in chosen for fault in options.faults.split(",") if has(service, fault)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="voiceops-bench-") as name,
        hosts.run() as run,
        hosts_prepared.agent_layer(run) as layer,
        run.cluster(1, layer=layer) as machines,
        ExitStack() as opened,
    ):
        site = Site(server(Path(name) / "project", machines[0], letta=options.letta))
        site.made.deploy(timeout_s=1200)
        onto_small_disks(opened, site)
        print(site.inv("check-running").out, flush=True)
        results = {case: try_one(site, *case) for case in cases}
    missed = [case for case, good in results.items() if not good]
    print(
        f"{len(cases) - len(missed)} of {len(cases)} faults named and over after `inv deploy`; not: {missed}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
