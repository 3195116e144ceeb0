"""One process, and what tells it from a later one of the same pid."""

from __future__ import annotations

import sys
from dataclasses import dataclass

LINUX = sys.platform.startswith("linux")
"""Elsewhere psutil answers, which is slower: without it there is no /proc to read."""


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """A process beyond doubt: ``start`` differs between two owners of one pid."""

    pid: int
    start: str


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table; zombies are left out, they can't do anything."""

    key: ProcessKey
    parent: int
    session: int
    age_s: float

    @property
    def pid(self) -> int:
        return self.key.pid

    @property
    def leads(self) -> bool:
        """Whether it started its session, as every service does."""
        return self.key.pid == self.session
