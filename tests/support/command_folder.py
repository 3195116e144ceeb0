"""A project folder that is driven by the real command, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from tests.support.forked_commands import run_command

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class CommandFolder(ABC):
    """``environment`` is what commands get; none of them reads a terminal."""

    folder: Path

    @abstractmethod
    def environment(self) -> dict[str, str]: ...

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "voiceops", "--project", str(self.folder), *arguments]

    def spawn(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command; the caller ends it."""
        return subprocess.Popen(
            self.argv(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, or kill it."""
        words = ["--project", str(self.folder), *arguments]
        return run_command(words, cwd=self.folder, env=self.environment(), timeout_s=timeout_s)


def environment_of_user() -> dict[str, str]:
    """The variables of this process without those of LiveKit, with this checkout's voiceops."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
    return keep | {"PYTHONPATH": str(REPOSITORY)}
