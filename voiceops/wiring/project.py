"""The composition root: the one place that builds real adapters from configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voiceops import kinds
from voiceops.config.local_keys import ensure_keys_of, new_keys_notice
from voiceops.config.project import Configuration, find_inventory
from voiceops.model.settings import Host


@dataclass(frozen=True, slots=True)
class Project:
    """A loaded inventory, the hosts that the flags select, and factories for what acts on them."""

    root: Path
    """The folder of the inventory: relative paths and ``.voiceops/`` are here."""
    inventory_file: Path
    hosts: tuple[Host, ...]
    configuration: Configuration
    """The whole inventory, for commands that look beyond the selected hosts."""

    @property
    def rooms_memory(self) -> Path:
        """The file of what cleanups of rooms observed, for those that come after them."""
        return self.root / ".voiceops" / "rooms-seen.json"

    @classmethod
    def load(cls, *, inventory: str = "", host: str = "", group: str = "", limit: str = "") -> Project:
        """Read and check the configuration; ``ConfigError`` names file and line.

        Without ``host``, ``group`` and ``limit`` the only host is this machine. Secrets that are
        references are not fetched here.
        """
        configuration = Configuration.read(find_inventory(inventory, tasks_folder()), kinds)
        return cls(
            root=configuration.inventory.folder,
            inventory_file=configuration.inventory.file,
            hosts=configuration.select(host=host, group=group, limit=limit),
            configuration=configuration,
        )

    def notices(self) -> list[str]:
        """What the user should know about the configuration, though it is no error."""
        return [*self.configuration.notices(self.hosts), *self._ignored_ssh_arguments()]

    def _ignored_ssh_arguments(self) -> list[str]:
        remote = [one for one in self.hosts if not one.local and any("_args" in name for name in one.vars)]
        if not remote:
            return []
        from voiceops.adapters.ssh.config import ssh_arguments

        found: dict[tuple[str, ...], list[str]] = {}
        for host in remote:
            found.setdefault(ssh_arguments(host.vars).ignored, []).append(host.name)
        return [
            f"{', '.join(hosts)}: ignored, as it means nothing to a single ssh connection: {', '.join(options)}"
            for options, hosts in found.items()
            if options
        ]

    def ensure_local_keys(self, say: Callable[[str], None]) -> tuple[str, ...]:
        """Make the LiveKit keys that nobody has set; the names of the variables added to ``.env``.

        New keys lock out whoever has the old ones, so one sentence goes to ``say`` whenever some are made.

        Only for a server that this project itself runs on this machine: the keys of any other
        server are not ours to make up. Safe to call again, and from many processes at once.
        """
        made = [ensure_keys_of(host, self.configuration.environment) for host in self.hosts]
        names = tuple(dict.fromkeys(name for names in made for name in names))
        if names:
            old = any((self.root / ".voiceops").glob("*.yaml"))
            say(new_keys_notice(names, self.configuration.environment, old_in=".voiceops" if old else ""))
        return names


def tasks_folder() -> Path:
    """The folder of the tasks.py that Invoke loaded, else the current one."""
    module = sys.modules.get("tasks")
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()
