"""Ports for a new project that no other project of this user, and no program, uses on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.config.project import Configuration, find_inventory
from voiceops.errors import VoiceopsError
from voiceops.model.settings import LivekitService, LivekitSettings
from voiceops.util.caches import private_folder

_STEP = 10
_TRIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPorts:
    """What one project with a livekit-server of its own listens on."""

    signal: int = urlsplit(LivekitSettings().url).port or 7880
    rtc_tcp: int = LivekitService().rtc_tcp_port
    rtc_udp: int = LivekitService().rtc_udp_port

    def moved(self, by: int) -> ProjectPorts:
        return ProjectPorts(signal=self.signal + by, rtc_tcp=self.rtc_tcp + by, rtc_udp=self.rtc_udp + by)

    def written_into(self, inventory: str) -> str:
        """The text of the sample inventory with these ports; unchanged where they are the defaults."""
        defaults = ProjectPorts()
        for setting, value, default in (
            ("url", f"ws://127.0.0.1:{self.signal}", f"ws://127.0.0.1:{defaults.signal}"),
            ("rtc_tcp_port", str(self.rtc_tcp), str(defaults.rtc_tcp)),
            ("rtc_udp_port", str(self.rtc_udp), str(defaults.rtc_udp)),
        ):
            if value != default:
                inventory = re.sub(rf"#{setting}: {re.escape(default)}\b", f"{setting}: {value}", inventory)
        return inventory


def remember(folder: Path) -> None:
    """Note that a project lives in this folder, for the ports of those to come. Safe to call again."""
    notes = private_folder("projects")
    if notes is None:
        return  # without a cache the next project only sees what is listening
    place = os.path.realpath(folder)
    note = notes / hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
    if not note.exists():
        with contextlib.suppress(OSError):
            note.write_text(place, encoding="utf-8", errors="surrogateescape")


def choose_ports(folder: Path) -> ProjectPorts:
    """The default ports, or the next ones that are free and that no other project declares."""
    declared = set(_declared_elsewhere(folder))
    for step in range(_TRIES):
        ports = ProjectPorts().moved(step * _STEP)
        numbers = {ports.signal, ports.rtc_tcp, ports.rtc_udp}
        if not numbers & declared and _free(ports):
            return ports
    return ProjectPorts()


def _declared_elsewhere(own: Path) -> Iterator[int]:
    notes = private_folder("projects")
    for note in sorted(notes.iterdir()) if notes else ():
        try:
            folder = Path(note.read_text(encoding="utf-8", errors="surrogateescape"))
            if not folder.is_dir():
                note.unlink()
                continue
        except OSError:
            continue
        if os.path.realpath(own) != str(folder):
            with contextlib.suppress(VoiceopsError):  # a broken inventory: its owner will be told
                yield from _ports_of(folder)


def _ports_of(folder: Path) -> Iterator[int]:
    for host in Configuration.read(find_inventory("", folder)).select(host="", group="", limit=""):
        if not host.local:
            continue
        yield urlsplit(host.settings.livekit.url).port or 0
        for service in host.settings.services.values():
            if isinstance(service, LivekitService):
                yield from (service.rtc_tcp_port, service.rtc_udp_port)


def _free(ports: ProjectPorts) -> bool:
    wanted = (
        (ports.signal, socket.SOCK_STREAM),
        (ports.rtc_tcp, socket.SOCK_STREAM),
        (ports.rtc_udp, socket.SOCK_DGRAM),
    )
    return all(_bindable(port, kind) for port, kind in wanted)


def _bindable(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed ones may linger
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
