"""A host that has no Python yet: the one thing that the payload can't do."""

from __future__ import annotations

from voiceops.errors import HostError
from voiceops.ports import Transport

INSTALL_S = 600.0
_SCRIPT = """
command -v python3 >/dev/null && exit 0
trap '' HUP
umask 022
log=$(mktemp) || exit 1
install() {
    if command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        [ -z "$(ls /var/lib/dpkg/updates)" ] || dpkg --configure -a || return
        apt-get -o DPkg::Lock::Timeout=120 update &&
            apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends python3
    elif command -v dnf >/dev/null; then
        dnf -y install python3
    else
        echo 'neither apt-get nor dnf is here'
    fi
}
install >"$log" 2>&1
tail -n 20 "$log"
rm "$log"
command -v python3 >/dev/null
"""
"""What is installed writes into a file: to a connection that is cut it could not, and would end half done."""


def install_python(transport: Transport) -> None:
    """Install python3 from the distribution; safe to call again. ``HostError`` with what the installer said."""
    ended = transport.run(["sh", "-c", _SCRIPT], root=True, timeout_s=INSTALL_S)
    if ended.exit_code != 0:
        lines = (ended.stdout + b"\n" + ended.stderr).decode("utf-8", "replace").splitlines()
        raise HostError(
            f"{transport.name}: python3 can't be installed",
            hint="give the host a package source, or install Python 3.10 or newer there by hand",
            log_tail=tuple(line for line in lines if line.strip())[-10:],
            data={"host": transport.name, "lacks": "python3"},
        )
