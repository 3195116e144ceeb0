"""Looks for secrets everywhere: on a test host, in every process of this machine, in what commands printed."""

from __future__ import annotations

import os
import shlex
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.support import hosts


@dataclass
class Sampler:
    """Reads the arguments of all processes, again and again; those of test hosts are seen from here as well."""

    secrets: Sequence[str]
    found: set[str] = field(default_factory=set)
    samples: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        wanted = [secret.encode() for secret in self.secrets]
        while not self._ended.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                command = _read(f"/proc/{pid}/cmdline")
                if any(one in command for one in wanted):
                    self.found.add(command.replace(b"\0", b" ").decode(errors="replace")[:200])
            self.samples += 1
            self._ended.wait(0.02)  # what is watched needs the processor as well


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def environments(host: hosts.Machine, secrets: Sequence[str], allowed: Iterable[str]) -> list[str]:
    """Processes of the host with a secret in their environment that belong to none of the ``allowed`` users."""
    patterns = " ".join(f"-e {shlex.quote(one)}" for one in secrets)
    listed = host.shell(
        f"for p in /proc/[0-9]*; do grep -qaF {patterns} $p/environ 2>/dev/null"
        " && echo $(stat -c %U $p) $(tr '\\0' ' ' < $p/cmdline); done; true"
    ).stdout.splitlines()
    known = {*allowed}
    return [line for line in listed if line.partition(" ")[0] not in known]


def files(host: hosts.Machine, secrets: Sequence[str]) -> dict[str, str]:
    """Files that were written since the host was made and hold a secret, with who may do what."""
    wanted = [secret.encode() for secret in secrets]
    found = {}
    for path in _written(host.folder / "upper"):
        content = path.read_bytes()
        if any(one in content for one in wanted):
            status = path.stat()
            inside = "/" + str(path.relative_to(host.folder / "upper"))
            found[inside] = f"{status.st_uid} {stat.filemode(status.st_mode)}"
    patterns = " ".join(f"-e {shlex.quote(one)}" for one in secrets)
    # What lies in memory only: /run/credentials is systemd's own, and closed.
    volatile = host.shell(f"grep -rlaF {patterns} /run /tmp /dev/shm 2>/dev/null; true").stdout.splitlines()
    return found | {path: "in memory" for path in volatile if not path.startswith("/run/credentials/")}


def _written(folder: Path) -> Iterator[Path]:
    for current, _folders, names in os.walk(folder):
        for name in names:
            path = Path(current, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 40_000_000:
                yield path


def units_and_journal(host: hosts.Machine, secrets: Sequence[str]) -> list[str]:
    """Lines of systemd's own about units, and of the journal, that show a secret."""
    shown = host.shell(
        "journalctl --sync; journalctl -o export --no-pager; systemctl show '*'; systemctl cat '*'",
        check=False,
    )
    return [line[:200] for line in shown.stdout.splitlines() if any(one in line for one in secrets)]


def in_folder(folder: Path, secrets: Sequence[str], *, ours: Iterable[str] = ()) -> list[str]:
    """Files of this machine below ``folder`` that hold a secret, but for those named ``ours``."""
    wanted = [secret.encode() for secret in secrets]
    known = {*ours}
    return [
        str(path.relative_to(folder))
        for path in _written(folder)
        if path.name not in known and any(one in path.read_bytes() for one in wanted)
    ]


@contextmanager
def planted(host: hosts.Machine, secret: str) -> Iterator[None]:
    """The same secret wherever it must not be, to prove that it would be found."""
    host.write("/var/tmp/open", secret)
    host.write("/etc/systemd/system/canary.service", f"[Service]\nExecStart=/bin/true {secret}\n", mode=0o600)
    host.write("/run/canary", secret)
    host.shell(f"systemctl daemon-reload; logger {shlex.quote(secret)}")
    pids = host.shell(
        f"A={shlex.quote(secret)} runuser -u nobody -- sleep 60 > /dev/null 2>&1 & echo $!;"
        f" sh -c 'sleep 60; :' {shlex.quote(secret)} > /dev/null 2>&1 & echo $!"
    ).stdout.split()
    try:
        yield
    finally:
        host.shell(f"kill {' '.join(pids)}; rm /var/tmp/open /etc/systemd/system/canary.service /run/canary")
        host.shell("systemctl daemon-reload")
