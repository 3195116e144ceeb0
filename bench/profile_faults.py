"""What ``inv why`` and ``inv recover`` say of each fault of each service of a whole stack; needs root.

``python -m bench.profile_faults [--only SERVICES] [--faults down,hung,disk,password,port]``: the profile letta with a Redis
beside it, its data and logs on small disks of their own, without its monitor. A fault counts as named if a finding has the
service and a word of the cause in its sentence, and a next step. After ``recover`` a person's part is done, and all has to
be ready by ``inv start``. Exit 1 if a fault is not named.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.faults import full
from bench.profile import inv, project
from tests.support import parts
from tests.support.stacks import REPOSITORY

INSIDE = "VOICEOPS_BENCH_INSIDE"
DATA_BYTES = {"postgres": 160_000_000, "redis": 4_000_000, "letta": 4_000_000}
LOG_BYTES = 8_000_000
SERVICES = ("postgres", "redis", "letta", "livekit", "agent", "web", "cors")
PASSWORDS = {
    "postgres": "POSTGRES_PASSWORD",
    "redis": "REDIS_PASSWORD",
    "letta": "LETTA_PASSWORD",
    "livekit": "LIVEKIT_API_SECRET",
}
WORDS = {
    "down": "does not run|does not answer|No worker",
    "hung": "frozen|stopped",
    "disk": "disk",
    "password": "password|secret|key|configuration",
    "port": "port",
}
"""What the sentence of a finding has to say of the fault."""


@dataclass(frozen=True, slots=True)
class Site:
    """The project in which faults are made."""

    folder: Path

    def pid(self, service: str) -> int:
        seen = inv(self.folder, "check-running", check=False)
        return int(seen["hosts"]["localhost"]["services"][service]["pids"][0])

    def port(self, service: str) -> int:
        if service == "livekit":
            found = re.search(r"url: ws://127.0.0.1:(\d+)", self.inventory.read_text())
        else:
            found = re.search(
                rf"      {service}:\n(?:        .*\n)*?        port: (\d+)", self.inventory.read_text()
            )
        assert found, service
        return int(found[1])

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"


@contextmanager
def down(site: Site, service: str) -> Iterator[None]:
    os.kill(site.pid(service), signal.SIGKILL)
    time.sleep(0.5)
    yield


@contextmanager
def hung(site: Site, service: str) -> Iterator[None]:
    pid = site.pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def disk(site: Site, service: str) -> Iterator[None]:
    """Fill the disk of its data, or where it has none that of its log."""
    folder = site.folder / ".voiceops" / (f"data/{service}" if service in DATA_BYTES else "logs")
    with full(folder):
        yield


@contextmanager
def password(site: Site, service: str) -> Iterator[None]:
    """Another one in .env than the service was started with."""
    env = site.folder / ".env"
    before = env.read_text()
    env.write_text(re.sub(rf"(?m)^({PASSWORDS[service]}=).*$", r"\g<1>" + "another-" * 5, before))
    yield  # a person would leave it


@contextmanager
def port(site: Site, service: str) -> Iterator[None]:
    """Its process is gone and a program of nobody's has its port."""
    os.kill(site.pid(service), signal.SIGKILL)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deadline = time.monotonic() + 10
        while True:
            try:
                listener.bind(("127.0.0.1", site.port(service)))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        listener.listen()
        code = "import socket,sys,time; s=socket.socket(fileno=int(sys.argv[1])); time.sleep(600)"
        arguments = [sys.executable, "-S", "-c", code, str(listener.fileno())]
        foreign = subprocess.Popen(arguments, pass_fds=[listener.fileno()])
    try:
        yield
    finally:
        foreign.kill()
        foreign.wait()


FAULTS: dict[str, Callable[[Site, str], contextlib.AbstractContextManager[None]]] = {
    "down": down,
    "hung": hung,
    "disk": disk,
    "password": password,
    "port": port,
}


def has(service: str, fault: str) -> bool:
    """Whether the service can have the fault: an agent listens on no TCP port, a page keeps no password."""
    return (fault != "port" or service != "agent") and (fault != "password" or service in PASSWORDS)


def named(findings: Sequence[dict[str, Any]], service: str, fault: str) -> bool:
    """Whether one of them says what it is, and what to do."""
    return any(
        service in one["cause"].lower() and re.search(WORDS[fault], one["cause"]) and one["fix"]
        for one in findings
    )


def try_one(site: Site, service: str, fault: str) -> bool:
    """Make one fault; print what is said of it."""
    with FAULTS[fault](site, service):
        found = inv(site.folder, "why", check=False)
        good = named(found["findings"], service, fault)
        print(f"{service:9} {fault:9} {'named' if good else 'NOT NAMED'}", flush=True)
        for one in found["findings"]:
            print(f"    {one['severity']}: {one['cause']}  [{one['rule']}]\n      fix: {one['fix']}")
            for line in one["evidence"]:
                print(f"      seen: {line[:200]}")
        began = time.monotonic()
        said = subprocess.run(
            [str(REPOSITORY / "inv"), "--project", str(site.folder), "recover"],
            capture_output=True,
            text=True,
            check=False,
        )
        took_s = time.monotonic() - began
        sys.stdout.flush()
        print(f"    recover: exit {said.returncode} after {took_s:.1f} s")
        for line in (said.stderr + said.stdout).strip().splitlines():
            print(f"      {line[:220]}", flush=True)
    inv(site.folder, "stop", "--only", "monitor")
    again = inv(site.folder, "start", "--only", ",".join(SERVICES), "--timeout", "400", check=False)
    if not again["ok"]:
        print(f"    NOT READY AFTER inv start: {again}")
    return good and bool(again["ok"])


@contextmanager
def site() -> Iterator[Site]:
    """A stack of the profile that runs without its monitor."""
    with project() as folder, ExitStack() as opened:
        made = Site(folder)
        redis = f"      redis:\n        kind: redis\n        port: {parts.free_port()}\n\n"
        text = made.inventory.read_text()
        made.inventory.write_text(text.replace("      letta:\n", f"{redis}      letta:\n", 1))
        disks = {f"data/{name}": size for name, size in DATA_BYTES.items()} | {"logs": LOG_BYTES}
        for name, size in disks.items():
            place = folder / ".voiceops" / name
            place.mkdir(parents=True, mode=0o700)
            options = f"size={size},mode=0700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
            opened.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
        inv(folder, "start", "--only", ",".join(SERVICES), "--timeout", "400")
        opened.callback(inv, folder, "stop", "--now", "--yes", check=False)
        yield made


def main() -> int:
    """Make the faults, print, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(SERVICES))
    parser.add_argument("--faults", default=",".join(FAULTS))
    options = parser.parse_args()
    if INSIDE not in os.environ:
        unshared = ["unshare", "--mount", sys.executable, "-m", "bench.profile_faults", *sys.argv[1:]]
        os.execvpe(unshared[0], unshared, os.environ | {INSIDE: "1"})
    cases = [
        (service, fault)
        for service in options.only.split(",")
        for fault in options.faults.split(",")
        if has(service, fault)
    ]
    with site() as made:
        results = {case: try_one(made, *case) for case in cases}
    missed = [case for case, good in results.items() if not good]
    print(
        f"{len(cases) - len(missed)} of {len(cases)} faults named and over after `inv start`; not: {missed}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
