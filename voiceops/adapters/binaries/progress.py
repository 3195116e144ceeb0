"""How far a fetch is, where downloads are kept, and what a program says of its version."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a fetch is."""

    doing: str
    done: int = 0
    total: int | None = None
    unit: str = ""

    def __str__(self) -> str:
        if self.unit == "bytes":
            of = f" of {self.total / 1e6:.0f} MB ({self.done * 100 // self.total} %)" if self.total else " MB"
            return f"{self.doing}: {self.done / 1e6:.0f}{of}"
        return f"{self.doing}: {self.done} {self.unit}" if self.unit else self.doing

    @property
    def bar(self) -> str:
        """A bar in steps of 5 %: where there is no terminal, each change of it is a line."""
        if not self.total:
            return self.doing
        steps = min(20, self.done * 20 // self.total)
        return f"{self.doing} [{'#' * steps}{'.' * (20 - steps)}] {steps * 5} %"


OnProgress = Callable[[Progress], None]


def cache_folder() -> Path:
    """The user's cache for what voiceops downloads, shared by all projects."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voiceops"


def ask_version(binary: Path) -> str | None:
    """What ``--version`` says; None when it can't be run or says something else."""
    try:
        done = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\b(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)\b", done.stdout)
    return found.group(1) if done.returncode == 0 and found else None
