"""Real test hosts: Debian 12 with systemd and sshd in systemd-nspawn, on a bridge of their own, no internet.

    with hosts.cluster(2) as (web, db):
        web.shell("systemctl is-system-running")          # straight into the host, needs no network
        web.ssh("id", user="deploy")                       # really over ssh
        with web.delayed(round_trip_ms=50), db.small_disk("/opt", 20 << 20): ...

A host is up in about half a second and is thrown away afterwards. Users: root, ``deploy`` (sudo without
password), ``pwsudo`` (sudo with ``hosts.SUDO_PASSWORD``); all take the run's key. What a crashed run left
behind is removed by the next one: each run holds a file lock for as long as it lives, so a free lock
marks a dead run.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts_kernel import (
    cgroup_root,
    checked,
    free_network,
    ip,
    kill_cgroup,
    mac_address,
    remove_cgroup,
    umount_below,
)
from tests.support.hosts_machine import Machine
from tests.support.hosts_rootfs import PYTHON, SUDO_PASSWORD, locked, require_parts, rootfs

__all__ = ["SUDO_PASSWORD", "HostRun", "Machine", "cluster", "run"]

BASE = Path("/var/tmp/voiceops-test-hosts")


@dataclass(slots=True)
class HostRun:
    """What all hosts of one test run share: a bridge, a key pair, a known_hosts file."""

    folder: Path
    network: str
    bridge: str
    cgroup: Path
    _count: int = 0

    @property
    def key_path(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def controller_address(self) -> str:
        """This machine, as the hosts see it."""
        return f"{self.network}.1"

    @contextmanager
    def cluster(
        self, count: int = 1, *, python: bool = True, layer: Path | None = None
    ) -> Iterator[list[Machine]]:
        """Boot ``count`` fresh hosts side by side; they are thrown away at the end of the block.

        ``layer`` lies over the root file system that all hosts have.
        """
        machines: list[Machine] = []
        try:
            for _ in range(count):
                machines.append(self._make(python=python, layer=layer))
                machines[-1].begin_boot()
            for machine in machines:
                machine.wait_up()
            yield machines
        finally:
            for machine in machines:
                machine.power_off()
                umount_below(machine.folder)
                shutil.rmtree(machine.folder)

    def _make(self, *, python: bool, layer: Path | None) -> Machine:
        self._count += 1
        number = self._count + 1  # .1 is the bridge
        folder = self.folder / f"m{number}"
        machine = Machine(
            name=f"vo{number}",
            address=f"{self.network}.{number}",
            folder=folder,
            key_path=self.key_path,
            known_hosts=self.known_hosts,
            # systemd-nspawn names it so: "vb-" and the machine's name, at most 15 characters.
            _interface=f"vb-{self.bridge}{number:x}",
            _bridge=self.bridge,
            _cgroup=self.cgroup / f"m{number}",
        )
        for part in ("upper", "work", "root"):
            (folder / part).mkdir(parents=True)
        lower = f"{layer}:{rootfs()}" if layer else str(rootfs())
        options = f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work"
        checked("mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root"))
        self._furnish(machine)
        if not python:
            checked("chroot", str(machine.root), "dpkg", "--purge", *PYTHON)
        return machine

    def _furnish(self, machine: Machine) -> None:
        etc = machine.root / "etc"
        mac = mac_address(self.bridge, self._count + 1)
        # Neighbours know each other beforehand: an ARP request that is sent too early gets no answer, the
        # next comes 1 s later. And behind a router a dead host is silence, not "no route to host".
        ip("neighbour", "replace", machine.address, "lladdr", mac, "dev", self.bridge, "nud", "permanent")
        (etc / "machine-id").write_text(secrets.token_hex(16) + "\n")
        (etc / "hostname").write_text(machine.name + "\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n")
        (etc / "systemd/network/10-host0.network").write_text(
            f"[Match]\nName=host0\n[Link]\nMACAddress={mac}\n"
            f"[Network]\nAddress={machine.address}/24\nGateway={self.controller_address}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n"
            f"[Neighbor]\nAddress={self.controller_address}\nLinkLayerAddress={mac_address(self.bridge, 1)}\n"
        )
        host_key = etc / "ssh/ssh_host_ed25519_key"
        checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", machine.name, "-f", str(host_key))
        kind, key = host_key.with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as known:
            known.write(f"{machine.address} {kind} {key}\n")
        public = self.key_path.with_suffix(".pub").read_text()
        for home in ("root", "home/deploy", "home/pwsudo"):
            owner = (machine.root / home).stat()
            folder = machine.root / home / ".ssh"
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / "authorized_keys").write_text(public)
            for path in (folder, folder / "authorized_keys"):
                os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def cluster(count: int = 1, *, python: bool = True) -> Iterator[list[Machine]]:
    """Fresh hosts in a run of their own, for use outside pytest's fixtures (benchmarks, by hand)."""
    with run() as shared, shared.cluster(count, python=python) as machines:
        yield machines


@contextmanager
def run() -> Iterator[HostRun]:
    """A bridge, keys and a place for hosts, until the block ends."""
    require_parts()
    rootfs()
    BASE.mkdir(mode=0o700, exist_ok=True)
    identity = secrets.token_hex(3)
    folder = BASE / f"run-{identity}"
    with locked(BASE / "lock"):
        _sweep()
        folder.mkdir(mode=0o700)
        owner = (folder / "lock").open("w")
        fcntl.flock(owner, fcntl.LOCK_EX)
        bridge = f"vo{identity}"
        network = free_network()
        ip("link", "add", bridge, "address", mac_address(bridge, 1), "type", "bridge")
        ip("address", "add", f"{network}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
    try:
        cgroup = cgroup_root() / f"voiceops-test-{identity}"
        cgroup.mkdir()
        made = HostRun(folder=folder, network=network, bridge=bridge, cgroup=cgroup)
        checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(made.key_path))
        made.known_hosts.touch(mode=0o600)
        yield made
    finally:
        with locked(BASE / "lock"):
            _destroy(folder)
        owner.close()


def _sweep() -> None:
    """Remove what dead runs left behind; a live run holds its lock. Runs come and go under ``BASE/lock``."""
    for folder in BASE.glob("run-*"):
        with (folder / "lock").open("a") as owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _destroy(folder)


def _destroy(folder: Path) -> None:
    identity = folder.name.removeprefix("run-")
    cgroup = cgroup_root() / f"voiceops-test-{identity}"
    if cgroup.exists():
        kill_cgroup(cgroup)
        remove_cgroup(cgroup)
    umount_below(folder)
    subprocess.run(["ip", "link", "del", f"vo{identity}"], capture_output=True, timeout=10, check=False)
    shutil.rmtree(folder)
