"""How the data of a kind are written to a file and brought back: programs and their arguments, without running them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from voiceops.model.secret import Secret
from voiceops.model.settings import ServiceBase

S = TypeVar("S", bound=ServiceBase)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCall:
    """A program that is run in the folder of a service's data, with the variables of its probe."""

    argv: tuple[str, ...]
    takes_backup: bool = False
    """The backup is its standard input."""


class BackupMethod(ABC, Generic[S]):
    """Backup and restore of one kind. What ``load`` names replaces the data in one step, or not at all."""

    suffix: str
    magic: bytes
    """What each backup begins with."""
    counted: str
    """What is counted, in the singular."""

    @abstractmethod
    def dump(self, service: S) -> DataCall:
        """Return what prints the backup."""

    @abstractmethod
    def count(self, service: S) -> DataCall:
        """Return what prints how much there is, for ``count_of``."""

    @abstractmethod
    def count_of(self, printed: str) -> int:
        """Return how much there is; 0: nothing that a restore could replace."""

    @abstractmethod
    def scratch(self, service: S, *, port: int, password: Secret, here: bool) -> S:
        """Return the settings of an instance that lives for a moment on this machine, to try a backup.

        ``here``: the service itself runs on this machine, too.
        """

    def place(self, service: S) -> Sequence[DataCall]:
        """Return what puts the backup into the folder of the service while it is stopped."""
        return ()

    def load(self, service: S) -> Sequence[DataCall]:
        """Return what puts the backup into the running service."""
        return ()
