"""What a declaration for a server needs, and the resources that most kinds have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.model import protocol
from voiceops.model.settings import ServiceBase, Settings
from voiceops.resources import Blob, Content, Directory, File, Unit, Venv
from voiceops.systemd.escape import environment_file
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitFile, UnitWriter

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress

UNITS = "/etc/systemd/system"
HOST_TASKS = '"""Runs on this host only: see inventory.yaml."""\n\nfrom voiceops.tasks import namespace\n\n__all__ = ["namespace"]\n'
"""The tasks.py beside an inventory on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostContext:
    """What the declaration of a service for a server needs besides its settings."""

    settings: Settings
    names: HostNames
    units: UnitWriter
    root: Path
    """The inventory's folder, on this machine."""
    templates: Sequence[Path]
    """Folders, the project's own first."""
    dotenv: Mapping[str, str]
    venv: Venv | None
    """The host's Python environment; None where none of its kinds ``runs_python``."""
    machine: str
    """Its architecture, in the words of ``uname -m``."""
    on_fetch: OnProgress
    own_venv: Callable[[str, Path], Venv]
    """Gives the Python environment at a path with what a lock file names, for a program that has one of its own."""
    host_name: str = ""
    """Its name in the inventory."""
    only_worker: Callable[[], bool] = lambda: False
    """Whether no other host of the inventory has an agent for its LiveKit."""

    def completed_first(self, service: ServiceBase) -> list[str]:
        """Return the one-shots of this host that must have completed before the service starts."""
        running = self.settings.running
        return [need for need in service.needs if need in running and running[need].oneshot]

    def environment(self, name: str, instance: str, values: Mapping[str, str], digest: str = "") -> File:
        """Return the environment file of a unit; ``digest`` adds the mark by which its process is known."""
        mark = {protocol.SERVICE_ENV: f"{self.names.project}/{name}/{digest}"} if digest else {}
        return File(
            path=self.names.environment_file(name, instance),
            content=environment_file({**values, **mark}),
            owner="root",
            mode=0o600,
            secret=True,
        )

    def configuration(self, path: str, text: str, *, group: str | None = None) -> File:
        """Return a configuration file that may hold secrets: root's alone, or readable for ``group`` too."""
        mode = 0o640 if group else 0o600
        return File(path=path, content=text, owner="root", group=group, mode=mode, secret=True)

    def program(self, path: str, source: Path, *, mode: int = 0o755) -> Blob:
        """Return a program, or by ``mode`` another file, that is copied from this machine."""
        content = Content.of_file(source, str(source))
        return Blob(path=path, source=source, content=content, owner="root", mode=mode)

    def script(self, path: str, source: Path) -> File:
        """Return a program that is a text of ours."""
        return File(path=path, content=source.read_bytes(), owner="root", mode=0o755)

    def folder(self, path: str) -> Directory:
        """Return a folder of root's that everybody may look into."""
        return Directory(path=path, owner="root", mode=0o755)

    def unit_file(self, unit: UnitFile) -> File:
        """Return the file of a unit."""
        return File(path=f"{UNITS}/{unit.name}", content=unit.text, owner="root", mode=0o644)

    def enabled(self, unit: UnitFile) -> Unit:
        """Return the unit as one that starts with the host; whether it runs now is for reconcile."""
        return Unit(name=unit.name, enabled=True)
