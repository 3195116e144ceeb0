"""Brings the real parts that tests run on: ``python -m tests.support.install_parts``, done by ``inv test``.

Everything lands outside of the checkout and stays for the next run. As root on Debian or
Ubuntu, missing packages are installed; elsewhere the tests that need them skip and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.parts import LIVEKIT_VERSION
from voiceops.adapters.binaries.find import livekit_server
from voiceops.adapters.binaries.progress import Progress
from voiceops.errors import VoiceopsError

APT_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "systemd-analyze": "systemd",
    "debootstrap": "debootstrap",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "redis-server": "redis-server",
    "cron": "cron",
    "rsync": "rsync",
    "pg_lsclusters": "postgresql",
    "git": "git",
    "fish": "fish",
    "tmux": "tmux",
    "zsh": "zsh",
    "node": "nodejs",
    "npm": "npm",
    "chromium": "chromium",
    "caddy": "caddy",
}
"""Command -> package."""
_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_POLICY = Path("/usr/sbin/policy-rc.d")


def main() -> None:
    """Install what is missing; what can't be installed is left to the tests to name."""
    _packages()
    try:
        livekit_server(LIVEKIT_VERSION, None, on_progress=_Lines())
    except VoiceopsError as error:
        print(f"parts: {error.message}", *error.log_tail, sep="\n  ", file=sys.stderr)


def _packages() -> None:
    missing = sorted({p for tool, p in APT_PACKAGES.items() if shutil.which(tool, path=_SEARCH) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"parts: not root on Debian, so not installed: {' '.join(missing)}", file=sys.stderr)
        return
    print(f"parts: installing {' '.join(missing)}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing]
    with _no_daemons():
        if subprocess.run(install, env=environment, capture_output=True, check=False).returncode == 0:
            return
        subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True, check=False)
        done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"parts: apt-get failed: {done.stderr[-500:]}", file=sys.stderr)


@contextmanager
def _no_daemons() -> Iterator[None]:
    """Debian starts what it installs: an sshd and a redis-server that nobody asked for."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


class _Lines:
    """One line for each new step, one for each tenth of it."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, progress: Progress) -> None:
        step = progress.doing
        if progress.total:
            step += f" {progress.done * 10 // progress.total * 10} %"
        elif progress.unit:
            step += f" ({progress.done // 100 * 100} {progress.unit})"
        if step != self.last:
            print(f"parts: {step}", file=sys.stderr, flush=True)
            self.last = step


if __name__ == "__main__":
    main()
