"""Ports for a new project that no other project of this user, and no program, uses on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from voiceops.config.decode import KindRegistry
from voiceops.config.project import Configuration, find_inventory
from voiceops.errors import VoiceopsError
from voiceops.model.settings import PortUse, ServiceBase, Settings
from voiceops.util.caches import private_folder

_STEP = 10
_TRIES = 500


@dataclass(frozen=True, slots=True)
class ProjectPorts:
    """What the services of a new project listen on: the defaults of their kinds, moved by ``shift``."""

    defaults: tuple[PortUse, ...]
    shift: int = 0

    @property
    def uses(self) -> list[PortUse]:
        """The ports with the shift."""
        return [replace(one, port=one.port + self.shift) for one in self.defaults]

    def written_into(self, inventory: str) -> str:
        """The text of a shipped inventory with these ports; unchanged where they are the defaults."""
        if not self.shift:
            return inventory
        for use in self.defaults:
            # It shows most defaults as comments; that of a URL ends in the port.
            line = rf"#?\b({re.escape(use.path[-1])}: \S*?|http://127\.0\.0\.1:){use.port}\b"
            inventory = re.sub(line, rf"\g<1>{use.port + self.shift}", inventory)
        return inventory


def services_of(inventory: str, kinds: KindRegistry) -> dict[str, ServiceBase]:
    """The services of a shipped inventory, as they stand for all hosts."""
    import yaml

    services: dict[str, ServiceBase] = {}
    for name, written in yaml.safe_load(inventory)["all"]["vars"]["services"].items():
        kind = kinds.find(written.pop("kind"))
        assert kind is not None
        services[name] = kind.settings(**written)
    return services


def default_ports(inventory: str, kinds: KindRegistry) -> tuple[PortUse, ...]:
    """The ports that the services of a shipped inventory listen on by default."""
    services = services_of(inventory, kinds)
    settings = Settings(project="new", services=services)
    return tuple(
        use for name, one in services.items() for use in kinds.kind_of(one).ports(name, one, settings)
    )


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


def choose_ports(folder: Path, inventory: str, kinds: KindRegistry) -> ProjectPorts:
    """The default ports of the sample inventory, or the next ones that are free and that no other project declares."""
    defaults = default_ports(inventory, kinds)
    declared = set(_declared_elsewhere(folder, kinds))
    for step in range(_TRIES):
        ports = ProjectPorts(defaults, step * _STEP)
        if not {use.port for use in ports.uses} & declared and _free(ports):
            return ports
    return ProjectPorts(defaults)


def _declared_elsewhere(own: Path, kinds: KindRegistry) -> Iterator[int]:
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
                yield from _ports_of(folder, kinds)


def _ports_of(folder: Path, kinds: KindRegistry) -> Iterator[int]:
    configuration = Configuration.read(find_inventory("", folder), kinds)
    for host in configuration.select(host="", group="", limit=""):
        if not host.local:
            continue
        for name, service in host.settings.services.items():
            for use in kinds.kind_of(service).ports(name, service, host.settings):
                yield use.port


def _free(ports: ProjectPorts) -> bool:
    types = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
    return all(_bindable(use.port, types[use.protocol]) for use in ports.uses)


def _bindable(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed ones may linger
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
