"""One test host: commands in it, files into it, faults around it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hosts_kernel import ip, kill_cgroup, remove_cgroup

_BOOT_TIMEOUT_S = 60.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
        ip("link", "set", self._interface, "down")

    def restore(self) -> None:
        """Plug it in again."""
        ip("link", "set", self._interface, "up")

    def cut_sessions(self) -> None:
        """End the ssh sessions that are open, each by its pid: what runs in them loses its line."""
        found = self.shell("ss -tnpH state established '( sport = :22 )'").stdout
        pids = sorted({part.split(",")[0] for part in found.split("pid=")[1:]})
        if pids:
            self.shell(f"kill -9 {' '.join(pids)}", check=False)  # one may have ended by itself

    def kill_in_sessions(self) -> None:
        """Kill what the open ssh sessions run, each by its pid."""
        found = self.shell("ss -tnpH state established '( sport = :22 )'").stdout
        parents = {int(part.split(",")[0]) for part in found.split("pid=")[1:]}
        listed = self.shell("ps -eo pid=,ppid=,comm=").stdout.split("\n")
        below: list[str] = []
        for pid, parent, name in (line.split(maxsplit=2) for line in listed if line.strip()):
            if int(parent) in parents:
                parents.add(int(pid))
                below += [pid] if "python" in name else []
        if below:
            self.shell(f"kill -9 {' '.join(below)}", check=False)

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
            f" -o size={size_bytes},$(stat -c mode=%a,uid=%u,gid=%g {place}) small-disk {place}"
        )
        try:
            yield
        finally:
            self.shell(f"umount --lazy {place}")

    def journal(self, *arguments: str) -> str:
        """What ``journalctl`` prints, once what was written a moment ago is there."""
        return self.shell(f"journalctl --sync; {shlex.join(['journalctl', '--no-pager', *arguments])}").stdout

    def freeze(self) -> None:
        """Every process of the host stops, its kernel still answers TCP: a host that hangs."""
        (self._cgroup / "cgroup.freeze").write_text("1")

    def thaw(self) -> None:
        (self._cgroup / "cgroup.freeze").write_text("0")

    def pin(self, cores: Collection[int]) -> None:
        """Have everything that runs on the host, or will run there, use these cores only."""
        for file in self._cgroup.rglob("cgroup.threads"):
            for thread in file.read_text().split():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), cores)

    def power_off(self) -> None:
        """Pull the plug: every process is gone at once, the disk stays as it is."""
        self._undelay()
        kill_cgroup(self._cgroup)
        if self._process is not None:
            self._process.wait(timeout=30)
            self._process = None
        # The kernel removes it with the network namespace, some time later.
        subprocess.run(["ip", "link", "del", self._interface], capture_output=True, timeout=10, check=False)
        remove_cgroup(self._cgroup)

    def power_on(self) -> None:
        """Boot (again) on the disk as it is, and wait until it is up."""
        self.begin_boot()
        self.wait_up()

    # -- life ---------------------------------------------------------------

    def begin_boot(self) -> None:
        """Start the host without waiting for it."""
        self._cgroup.mkdir(parents=True)
        boot = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            "--boot",
            "--register=no",
            "--keep-unit",
        ]
        boot += [f"--machine={self._interface[3:]}", f"--hostname={self.name}"]
        boot += [f"--network-bridge={self._bridge}", "--resolv-conf=off", "--timezone=off", "--console=pipe"]
        # As on a machine of its own, systemd may filter packets (IPAddressDeny), and root may copy a descriptor.
        boot += ["--system-call-filter=bpf pidfd_getfd", "--capability=CAP_BPF"]
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
        environment = [
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
        ]
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
            arguments,
            capture_output=True,
            text=True,
            errors="replace",
            input=input or "",
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            said = (done.stdout + done.stderr)[-3000:]
            raise AssertionError(f"{self.name}: exit {done.returncode} from {command}\n{said}")
        return done
