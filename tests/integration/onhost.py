"""A host made ready for units by hand: what setup and deploy will do, reduced to what units need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import hosts
from voiceops.remote.onhost import ready, restart
from voiceops.systemd.escape import environment_file
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitFile, UnitWriter

NAMES = HostNames("frontdesk")
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
SECRET = "a-secret-for-tests-only-32-characters-long"


def writer(*folders: Path) -> UnitWriter:
    return UnitWriter(NAMES, [*folders, TEMPLATES])


def furnish(host: hosts.Machine) -> None:
    """The project's user, folders, and the program that probes."""
    host.shell(
        f"useradd --system --user-group --home-dir {NAMES.state} --shell /usr/sbin/nologin {NAMES.user} && "
        f"mkdir -p {NAMES.opt}/bin {NAMES.opt}/releases {NAMES.etc}"
    )
    host.copy_in(Path(ready.__file__), NAMES.ready_script, mode=0o755)
    host.copy_in(Path(restart.__file__), NAMES.restart_script, mode=0o755)


def install(host: hosts.Machine, units: Iterable[UnitFile]) -> None:
    for unit in units:
        host.write(f"/etc/systemd/system/{unit.name}", unit.text)
    host.shell("systemctl daemon-reload")


def environment(host: hosts.Machine, service: str, values: Mapping[str, str], instance: str = "") -> None:
    host.write(NAMES.environment_file(service, instance), environment_file(values), mode=0o600)


def livekit_config(port: int, **extra: object) -> str:
    config: dict[str, object] = {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "keys": {"testkey": SECRET},
        "rtc": {
            "tcp_port": port + 1,
            "udp_port": port + 2,
            "use_external_ip": False,
            "enable_loopback_candidate": True,
            "node_ip": "127.0.0.1",
            "ips": {"includes": ["127.0.0.1/32"]},
            "stun_servers": ["127.0.0.1:9"],
        },
    }
    return json.dumps(config | extra)


@contextmanager
def elapsing(host: hosts.Machine, timer: str) -> Iterator[None]:
    """Let systemd's timer elapse now and every second, by a drop-in, instead of when it is declared to."""
    folder = f"/run/systemd/system/{timer}.d"
    soon = "OnActiveSec=0.1s\nOnUnitInactiveSec=1s\nAccuracySec=1ms\nRandomizedDelaySec=0\n"
    host.write(f"{folder}/soon.conf", f"[Timer]\nOnCalendar=\n{soon}")
    host.shell(f"systemctl daemon-reload && systemctl restart {timer}")
    try:
        yield
    finally:
        host.shell(f"rm -r {folder}; systemctl daemon-reload && systemctl restart {timer}")
