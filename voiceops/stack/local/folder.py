"""Where the local stack keeps its things: ``.voiceops`` beside the inventory."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voiceops.adapters.runtime_folder import make_private, runtime_folder
from voiceops.util.atomic_write import write_error

_WANTED = ".wanted"
_LONGEST_SOCKET_PATH = 90
"""Unix socket addresses end at 104 (macOS) or 108 bytes; names of up to 14 follow the folder."""


@dataclass(frozen=True, slots=True)
class ProjectFolder:
    """The paths below ``.voiceops``, and the name by which processes carry this project."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / ".voiceops"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def logs(self) -> Path:
        return self.base / "logs"

    @property
    def data(self) -> Path:
        """A folder for each service whose kind keeps data."""
        return self.base / "data"

    @property
    def mark(self) -> str:
        """Differs between two checkouts of one project."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.root))).hexdigest()[:12]

    @property
    def sockets(self) -> Path:
        """A private folder whose path is short enough for unix sockets."""
        reachable_endpoint = self.base / "run"
        if len(os.fsencode(str(reachable_endpoint))) <= _LONGEST_SOCKET_PATH:
            return reachable_endpoint
        return runtime_folder(outlives_session=True) / self.mark

    def health_socket(self, launch: str) -> Path:
        return self.sockets / f"{launch}.health"

    def notify_socket(self, launch: str) -> Path:
        return self.sockets / f"{launch}.notify"

    def configuration(self, service: str) -> Path:
        """The YAML file that a service was started with, if its kind has one."""
        return self.base / f"{service}.yaml"

    def wanted(self) -> frozenset[str]:
        """Services that somebody has started and nobody has stopped since."""
        try:
            names = os.listdir(self.state)
        except OSError:
            return frozenset()
        return frozenset(name.removesuffix(_WANTED) for name in names if name.endswith(_WANTED))

    def wanted_mark(self, service: str) -> Path:
        """The file that says that somebody wants the service to run."""
        return self.state / f"{service}{_WANTED}"

    def want(self, services: Sequence[str], wanted: bool) -> None:
        """Remember that these are to run, or not to: an empty file each. ``StorageError`` when that can't be."""
        try:
            for service in services:
                mark = self.wanted_mark(service)
                if not wanted:
                    mark.unlink(missing_ok=True)
                elif not mark.exists():
                    self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
                    mark.touch(mode=0o600)
        except OSError as error:
            raise write_error(self.state, error) from error

    def log_file(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def ended_file(self, service: str, launch: str) -> Path:
        """The file that says how a run ended: of a one-shot, and of what is started again only after a failure."""
        return self.state / f"{service}.{launch}.ended"

    def create(self) -> None:
        """Make the folders; ``StorageError`` when that can't be."""
        try:
            for folder in (self.base, self.state, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sockets = self.sockets
            if sockets.parent != self.base:
                make_private(sockets.parent)
            make_private(sockets)
        except OSError as error:
            raise write_error(self.base, error) from error

    def tidy(self) -> None:
        """Remove the folder for sockets where it stands outside of the project and is empty."""
        if self.sockets.parent != self.base:
            with contextlib.suppress(OSError):  # another service's socket is in it
                self.sockets.rmdir()
