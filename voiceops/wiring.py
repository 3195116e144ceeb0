"""The composition root: the one place that builds real adapters from configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.model.settings import Host


@dataclass(frozen=True, slots=True)
class Project:
    """A loaded inventory, the hosts that the flags select, and factories for what acts on them."""

    root: Path
    """The folder of the inventory: relative paths and ``.voiceops/`` are here."""
    inventory_file: Path
    hosts: tuple[Host, ...]

    @classmethod
    def load(cls, *, inventory: str = "", host: str = "", group: str = "", limit: str = "") -> Project:
        """Read and check the configuration; ``ConfigError`` names file and line."""
        raise NotImplementedError  # filled with voiceops.config


def tasks_folder() -> Path:
    """The folder of the tasks.py that Invoke loaded, else the current one."""
    module = sys.modules.get("tasks")
    file = getattr(module, "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()
