"""Facts of hosts, noted beside the inventory: without them each deploy would ask first, and then deploy."""

from __future__ import annotations

import json
from pathlib import Path

from voiceops.deploy.wheelhouse import HostPlatform
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.resources import read_facts
from voiceops.util.atomic_write import write_atomically


class FactsCache:
    """The facts of each host in a file of its own below ``root``."""

    def __init__(self, root: Path) -> None:
        self._folder = root / ".voiceops" / "hosts"

    def _file(self, host: Host) -> Path:
        return self._folder / f"{host.name}-{host.address}-{host.port or 22}.json".replace("/", "_")

    def read(self, host: Host) -> HostPlatform | None:
        """What was noted of the host, if anything was."""
        try:
            return HostPlatform.of(json.loads(self._file(host).read_text()))
        except (OSError, ValueError, KeyError):
            return None

    def learn(self, host: Host, transport: Transport) -> HostPlatform:
        """Ask the host, and note it."""
        facts = read_facts(transport, host.settings.project)
        found = HostPlatform.of(facts)
        noted = {key: value for key, value in facts.items() if key != "lease"}
        write_atomically(self._file(host), json.dumps(noted).encode())
        return found
