"""What ``why`` says: one finding is one line of diagnosis."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.model.documents.common import FindingEntry


_SAFE_ACTIONS = frozenset({"start", "restart", "dispatch", "remove", "delete-room"})
"""Each leaves calls alone: it waits, overlaps, or refuses where one would end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One step that removes a cause: what to type, and the same as data for ``why --fix``."""

    command: str
    action: str
    """start, restart, replace, dispatch, remove, delete-room; empty: only a person can do it."""
    service: str = ""
    room: str = ""
    room_sid: str = ""
    """Of the room that was seen: another one of its name is not to be deleted."""
    agent_name: str = ""
    identity: str = ""
    now: bool = False
    """A restart that kills: the kernel has stopped the process, so that its callers hear nothing."""


def is_command(text: str) -> bool:
    """Whether a step can be typed as it is; else only a person can do it."""
    return text.startswith("inv ")


def for_host(command: str, host: str) -> str:
    """Return a command with the host that it acts on: without it, it would act on this machine. Other text stays."""
    return f"{command} --host {host}" if is_command(command) and "--host" not in command else command


def steps_for_host(steps: str, host: str) -> str:
    """The same of several steps, joined by ``&&``."""
    return " && ".join(for_host(step, host) for step in steps.split(" && "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause, the evidence for it, and what fixes it."""

    rule: str
    severity: str = "error"
    """``error``: callers hear silence; ``warning``: they may soon; ``info``: what may be meant to be so."""
    sentence: str
    evidence: tuple[str, ...]
    fixes: tuple[Fix, ...]
    """In the order in which they have to be done."""
    room: str = ""
    room_sid: str = ""
    service: str = ""
    """The service that it concerns; empty: the whole stack, or a room."""
    by_hand: bool = False
    """Neither a fix nor a restart removes it: a person has to change code, configuration or another project."""
    from_below: bool = False
    """Of a room whose silence a finding about the stack explains, where there is one: a missing, frozen or lost worker."""
    past: bool = False
    """It tells of calls that have ended: only a new call shows whether it still holds."""
    rank: int = 30
    """Smaller: nearer to the root. A server that is down explains everything above it."""

    @property
    def repairable(self) -> bool:
        """Whether all of its steps can be done by themselves: none needs a person, ends what nobody of us started, or kills."""
        return not self.by_hand and all(one.action in _SAFE_ACTIONS and not one.now for one in self.fixes)

    @property
    def fix(self) -> str:
        """Commands that follow each other as one line to copy; what only a person can do in its place between them."""
        groups = itertools.groupby(self.fixes, key=lambda fix: is_command(fix.command))
        return "; then ".join(
            (" && " if typed else "; then ").join(fix.command for fix in fixes) for typed, fixes in groups
        )

    def as_json(self, host: str = "") -> FindingEntry:
        """Return the finding as documents have it, with the host that it was made on where that is to be said."""
        entry: FindingEntry = {
            "rule": self.rule,
            "severity": self.severity,
            "cause": self.sentence,
            "evidence": list(self.evidence),
            "fix": self.fix,
        }
        if self.room:
            entry["room"] = self.room
        if host:
            entry["host"] = host
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings of one look."""

    findings: tuple[Finding, ...]
    complete: bool
    """False: something could not be observed, so that a finding that is missing is not over."""
