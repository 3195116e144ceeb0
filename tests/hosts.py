"""Real test hosts: Debian 12 with systemd and sshd in systemd-nspawn, on a bridge of this run's own, no internet.

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
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts_rootfs import SUDO_PASSWORD, locked, require_parts, rootfs

__all__ = ["SUDO_PASSWORD", "HostRun", "Machine", "cluster", "run"]

BASE = Path("/var/tmp/voiceops-test-hosts")
_NETWORKS = [f"10.77.{third}" for third in range(256)] + [f"172.29.{third}" for third in range(256)]
_BOOT_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Machine:
    """One host; ``name`` is its hostname."""

    name: str
    address: str
    folder: Path
    key_path: Path
    known_hosts: Path
    _interface: str
    _bridge: str
    _cgroup: Path
    user: str = "root"
    port: int = 22
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _init_pid: int = 0
    _delay: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        """The host's file system, seen from outside (not its /run and /tmp)."""
        return self.folder / "root"

    # -- commands -----------------------------------------------------------

    def shell(
        self,
        command: str,
        *,
        user: str = "root",
        check: bool = True,
        input: str | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command inside the host without ssh: works with its network cut, costs milliseconds."""
        arguments = ["/bin/sh", "-c", command]
        if user != "root":
            arguments = ["runuser", "-u", user, "--", *arguments]
        return self._run(self._entered(arguments), command, check=check, input=input, timeout_s=timeout_s)

    def ssh(
        self,
        command: str,
        *,
        user: str | None = None,
        check: bool = True,
        input: str | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over ssh, with the run's key and a checked host key."""
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "ConnectTimeout": "10",
        }
        arguments = ["ssh", "-F", "/dev/null", "-i", str(self.key_path), "-p", str(self.port)]
        arguments += [f"-o{name}={value}" for name, value in options.items()]
        arguments += [f"{user or self.user}@{self.address}", command]
        return self._run(arguments, command, check=check, input=input, timeout_s=timeout_s)

    def copy_in(self, source: Path, target: str, *, mode: int | None = None) -> None:
        """Copy a file or the contents of a folder to ``target`` inside the host, owned by root."""
        parent = os.path.dirname(target.rstrip("/")) or "/"
        self.shell(f"mkdir -p {shlex.quote(target if source.is_dir() else parent)}")
        if source.is_dir():
            pack = ["tar", "-C", str(source), "-cf", "-", "."]
            unpack = ["tar", "-C", target, "--no-same-owner", "-xf", "-"]
            with subprocess.Popen(pack, stdout=subprocess.PIPE) as packer:
                subprocess.run(self._entered(unpack), stdin=packer.stdout, check=True, timeout=300)
        else:
            with source.open("rb") as content:
                writer = ["/bin/sh", "-c", 'cat > "$0"', target]
                subprocess.run(self._entered(writer), stdin=content, check=True, timeout=300)
            wanted = source.stat().st_mode & 0o777 if mode is None else mode
            self.shell(f"chmod {wanted:o} {shlex.quote(target)}")

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file inside the host, folders included."""
        self.shell(f"mkdir -p {shlex.quote(os.path.dirname(path))}; cat > {shlex.quote(path)}", input=text)
        self.shell(f"chmod {mode:o} {shlex.quote(path)}")

    def read(self, path: str) -> str:
        """The text of a file inside the host."""
        return self.shell(f"cat {shlex.quote(path)}").stdout

    # -- faults -------------------------------------------------------------

    @contextmanager
    def delayed(self, *, round_trip_ms: float) -> Iterator[None]:
        """Everything to and from the host takes half of ``round_trip_ms`` each way."""
        if round_trip_ms <= 0:
            yield
            return
        script = Path(__file__).with_name("delay_line.py")
        inside = ["nsenter", f"--net=/proc/{self._init_pid}/ns/net", sys.executable, str(script)]
        subprocess.run([*inside, "--no-offload", "host0"], check=True, timeout=10)
        tap = "vd" + self._interface[2:]
        self._delay = subprocess.Popen(
            [sys.executable, str(script), self._interface, tap, self._bridge, str(round_trip_ms / 2000)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._delay.stdout is not None
        try:
            if self._delay.stdout.readline() != b"ready\n":
                raise AssertionError(f"the delay line to {self.name} ended with {self._delay.wait(10)}")
            yield
        finally:
            self._undelay()

    def cut(self) -> None:
        """Unplug the network cable: open connections hang, new ones get no answer."""
        _ip("link", "set", self._interface, "down")

    def restore(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self._interface, "up")

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        self.cut()
        try:
            yield
        finally:
            self.restore()

    @contextmanager
    def small_disk(self, path: str, size_bytes: int) -> Iterator[None]:
        """Mount an empty disk of that size over ``path``, with its owner and mode."""
        place = shlex.quote(path)
        self.shell(
            f"mkdir -p {place} && mount -t tmpfs"
            f" -o size={size_bytes},mode=$(stat -c %a {place}),uid=$(stat -c %u {place}),gid=$(stat -c %g {place})"
            f" small-disk {place}"
        )
        try:
            yield
        finally:
            self.shell(f"umount --lazy {place}")

    def freeze(self) -> None:
        """Every process of the host stops, its kernel still answers TCP: a host that hangs."""
        (self._cgroup / "cgroup.freeze").write_text("1")

    def thaw(self) -> None:
        (self._cgroup / "cgroup.freeze").write_text("0")

    def power_off(self) -> None:
        """Pull the plug: every process is gone at once, the disk stays as it is."""
        self._undelay()
        _kill_cgroup(self._cgroup)
        if self._process is not None:
            self._process.wait(timeout=30)
            self._process = None
        # The kernel removes it with the network namespace, some time later.
        subprocess.run(["ip", "link", "del", self._interface], capture_output=True, timeout=10, check=False)
        _remove_cgroup(self._cgroup)

    def power_on(self) -> None:
        """Boot (again) on the disk as it is, and wait until it is up."""
        self.begin_boot()
        self.wait_up()

    # -- life ---------------------------------------------------------------

    def begin_boot(self) -> None:
        """Start the host without waiting for it."""
        self._cgroup.mkdir(parents=True)
        boot = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit"]
        boot += [f"--machine={self._interface[3:]}", f"--hostname={self.name}"]
        boot += [f"--network-bridge={self._bridge}", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
        with (self.folder / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                # A cgroup of its own: two hosts in one would see each other's units as busy.
                ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(self._cgroup), *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # The unified hierarchy also where the controller's is mixed, as Debian 12 has it.
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )

    def wait_up(self) -> None:
        """Wait until sshd answers and systemd has finished booting."""
        ends_at = time.monotonic() + _BOOT_TIMEOUT_S
        while not self._ssh_answers():
            if time.monotonic() > ends_at or self._process is None or self._process.poll() is not None:
                tail = (self.folder / "console.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.name} did not boot:\n{tail}")
            time.sleep(0.01)
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._init_pid = int(children[0])
        self.shell("systemctl is-system-running --wait", check=False)

    def _ssh_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=0.1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _undelay(self) -> None:
        if self._delay is None:
            return
        self._delay.kill()
        self._delay.communicate(timeout=10)
        self._delay = None
        subprocess.run(
            ["ip", "link", "set", self._interface, "master", self._bridge],
            capture_output=True,
            timeout=10,
            check=False,
        )

    def _entered(self, arguments: Sequence[str]) -> list[str]:
        environment = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        return ["nsenter", f"--target={self._init_pid}", "--all", "--", *environment, *arguments]

    def _run(
        self,
        arguments: Sequence[str],
        command: str,
        *,
        check: bool,
        input: str | None,
        timeout_s: float,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            arguments, capture_output=True, text=True, errors="replace", input=input or "", timeout=timeout_s, check=False
        )
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr)[-3000:]
            raise AssertionError(f"{self.name}: exit {done.returncode} from {command}\n{said}")
        return done


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
    def cluster(self, count: int = 1, *, python: bool = True) -> Iterator[list[Machine]]:
        """Boot ``count`` fresh hosts side by side; they are thrown away at the end of the block."""
        machines: list[Machine] = []
        try:
            for _ in range(count):
                machines.append(self._make(python=python))
                machines[-1].begin_boot()
            for machine in machines:
                machine.wait_up()
            yield machines
        finally:
            for machine in machines:
                machine.power_off()
                _umount_below(machine.folder)
                shutil.rmtree(machine.folder)

    def _make(self, *, python: bool) -> Machine:
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
        options = f"lowerdir={rootfs()},upperdir={folder}/upper,workdir={folder}/work"
        _checked("mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root"))
        self._furnish(machine)
        if not python:
            for interpreter in (machine.root / "usr/bin").glob("python3*"):
                interpreter.unlink()
        return machine

    def _furnish(self, machine: Machine) -> None:
        etc = machine.root / "etc"
        mac = ":".join(f"{byte:02x}" for byte in (2, *bytes.fromhex(self.bridge[2:]), 0, self._count))
        # Known beforehand: a host that is still booting misses the first ARP request, the next comes 1 s
        # later. And behind a router a dead host is silence, not "no route to host".
        _ip("neighbour", "replace", machine.address, "lladdr", mac, "dev", self.bridge, "nud", "permanent")
        (etc / "machine-id").write_text(secrets.token_hex(16) + "\n")
        (etc / "hostname").write_text(machine.name + "\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n")
        (etc / "systemd/network/10-host0.network").write_text(
            f"[Match]\nName=host0\n[Link]\nMACAddress={mac}\n[Network]\nAddress={machine.address}/24\nGateway={self.controller_address}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n"
        )
        host_key = etc / "ssh/ssh_host_ed25519_key"
        _checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", machine.name, "-f", str(host_key))
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
        network = _free_network()
        _ip("link", "add", bridge, "type", "bridge")
        _ip("address", "add", f"{network}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
    try:
        cgroup = _cgroup_root() / f"voiceops-test-{identity}"
        cgroup.mkdir()
        made = HostRun(folder=folder, network=network, bridge=bridge, cgroup=cgroup)
        _checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(made.key_path))
        made.known_hosts.touch(mode=0o600)
        yield made
    finally:
        _destroy(folder)
        owner.close()


def _sweep() -> None:
    """Remove what dead runs left behind; a live run holds its lock."""
    for folder in BASE.glob("run-*"):
        file = folder / "lock"
        with file.open("a") as owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _destroy(folder)


def _destroy(folder: Path) -> None:
    identity = folder.name.removeprefix("run-")
    cgroup = _cgroup_root() / f"voiceops-test-{identity}"
    if cgroup.exists():
        _kill_cgroup(cgroup)
        _remove_cgroup(cgroup)
    _umount_below(folder)
    subprocess.run(["ip", "link", "del", f"vo{identity}"], capture_output=True, timeout=10, check=False)
    shutil.rmtree(folder)


def _free_network() -> str:
    answers = (_checked("ip", "-j", "-4", "address"), _checked("ip", "-j", "-4", "route"))
    taken = {entry["local"] for link in json.loads(answers[0]) for entry in link["addr_info"]}
    taken |= {route["dst"] for route in json.loads(answers[1])}
    for network in _NETWORKS:
        if not any(address.startswith(network + ".") for address in taken):
            return network
    raise AssertionError("no free network for test hosts")


def _cgroup_root() -> Path:
    """Where cgroup version 2 is mounted: on its own, or beside version 1."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, place, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("cgroup version 2 is not mounted")


def _kill_cgroup(cgroup: Path) -> None:
    if not cgroup.exists():
        return
    (cgroup / "cgroup.kill").write_text("1")
    ends_at = time.monotonic() + 30
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        if time.monotonic() > ends_at:
            raise AssertionError(f"processes in {cgroup} survive SIGKILL")
        time.sleep(0.005)


def _remove_cgroup(cgroup: Path) -> None:
    if cgroup.exists():
        for folder, _folders, _files in os.walk(cgroup, topdown=False):
            os.rmdir(folder)


def _umount_below(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([place for place in mounts if place.startswith(f"{folder}/")]):
        _checked("umount", "--lazy", place)


def _ip(*arguments: str) -> str:
    return _checked("ip", *arguments)


def _checked(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60).stdout
