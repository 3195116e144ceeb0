"""The root filesystem under all test hosts: built once by debootstrap, cached outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import parts

SUITE = "bookworm"
MIRROR = [one for one in [os.environ.get("VOICEOPS_DEBIAN_MIRROR")] if one]
"""None: the one that debootstrap knows."""
# What a freshly rented Debian 12 server has and voiceops touches: no pip, no python3-venv, no compiler.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "python3"),
    *("cron", "rsync", "iproute2", "procps", "ca-certificates", "nftables"),
)
PYTHON = (
    *("python3", "python3-minimal", "libpython3-stdlib", "python3.11", "python3.11-minimal"),
    *("libpython3.11-stdlib", "libpython3.11-minimal", "media-types"),
)
"""What nothing else on a host needs: without it there is no Python."""
SUDO_PASSWORD = "pa ss'w\"ord $(x)"
"""Of the user ``pwsudo``; awkward on purpose."""
_SETUP = r"""
set -eu
useradd --create-home --shell /bin/bash deploy
useradd --create-home --shell /bin/bash pwsudo
printf 'pwsudo:%s\n' "$SUDO_PASSWORD" | chpasswd
printf 'deploy ALL=(ALL) NOPASSWD: ALL\n' > /etc/sudoers.d/deploy
printf 'pwsudo ALL=(ALL) ALL\n' > /etc/sudoers.d/pwsudo
chmod 0440 /etc/sudoers.d/*
printf 'UseDNS no\nPermitRootLogin prohibit-password\n' > /etc/ssh/sshd_config.d/test-hosts.conf
rm -f /etc/ssh/ssh_host_* /etc/resolv.conf /etc/machine-id
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer console-getty.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf /lib/systemd/system/systemd-networkd.service /etc/systemd/system/multi-user.target.wants/
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
"""
_TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}


def require_parts() -> None:
    """Skip visibly where test hosts can't run."""
    if os.geteuid() != 0:
        parts.missing("test hosts", "they need root (systemd-nspawn, overlayfs, a bridge)")
    packages = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool) is None})
    if packages:
        parts.missing("test hosts", f"apt install {' '.join(packages)}")
    if not Path("/dev/net/tun").exists():
        parts.missing("test hosts", "/dev/net/tun does not exist")


def rootfs() -> Path:
    """The cached root filesystem; built first where needed, by one process at a time."""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, _SETUP, SUDO_PASSWORD)).encode()).hexdigest()[:12]
    folder = parts.cache_folder() / "hosts"
    ready = folder / f"{SUITE}-{recipe}"
    if ready.exists():
        return ready
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock") as lock:
        if not ready.exists():
            _build(ready, lock)
    return ready


@contextmanager
def locked(file: Path) -> Iterator[int]:
    """Hold ``file`` exclusively; the kernel lets go when the last process with the descriptor dies."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def _build(ready: Path, lock: int) -> None:
    # Only the holder of the lock is here, so every other such folder is a build that died.
    for left_over in ready.parent.glob("*.building"):
        shutil.rmtree(left_over)
    building = ready.with_name(ready.name + ".building")
    log = ready.parent / "build.log"
    steps = (
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            SUITE,
            str(building),
            *MIRROR,
        ],
        ["chroot", str(building), "/bin/sh", "-c", _SETUP],
    )
    environment = os.environ | {"SUDO_PASSWORD": SUDO_PASSWORD, "LC_ALL": "C"}
    with log.open("w") as output:
        for step in steps:
            done = subprocess.run(
                step,
                stdout=output,
                stderr=output,
                env=environment,
                # A debootstrap that outlives its killed parent keeps the lock until it ends.
                pass_fds=(lock,),
                timeout=900,
                check=False,
            )
            if done.returncode != 0:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                parts.missing("test hosts", f"{step[0]} failed with exit {done.returncode}:\n{tail}")
    building.rename(ready)
