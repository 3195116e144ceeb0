"""Ask the rules of ``why`` now and then, and carry out what the monitor decides on their findings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from voiceops.errors import VoiceopsError
from voiceops.model.findings import Diagnosis, Finding
from voiceops.model.monitor_events import Repair
from voiceops.model.rooms import Room
from voiceops.monitor.findings import FindingRepair

PAUSE_S = 5.0
"""At least so long between two diagnoses: checks follow each other faster while something is wrong."""


class Diagnoser(Protocol):
    """What finds causes and carries out their fixes."""

    async def diagnose(self, rooms: Sequence[Room]) -> Diagnosis:
        """Apply all rules, to these rooms alone."""

    def repair(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """Carry out their steps; returns of each finding what failed. Takes as long as an agent needs to join."""


class Diagnosing:
    """The diagnoses of one monitor."""

    def __init__(self, diagnoser: Diagnoser, host: str) -> None:
        self._diagnoser = diagnoser
        self._host = host
        self._due = 0.0
        self.repairing = False
        """The last repairs are still under way."""

    async def look(self, rooms: Sequence[Room]) -> Diagnosis | None:
        """Diagnose; None where the last time was a moment ago. ``VoiceopsError`` where it can't be."""
        if time.monotonic() < self._due:
            return None
        try:
            return await self._diagnoser.diagnose(rooms)
        finally:
            self._due = time.monotonic() + PAUSE_S

    async def repair(self, repairs: Sequence[FindingRepair]) -> tuple[Repair, ...]:
        """Carry these out and return a record of each."""
        self.repairing = True
        began = time.monotonic()
        try:
            failures = await asyncio.to_thread(self._diagnoser.repair, [one.finding for one in repairs])
        except VoiceopsError as error:
            failures = (error.message,) * len(repairs)
        finally:
            self.repairing = False
        return tuple(
            Repair(
                at=time.time(),
                host=self._host,
                action=one.finding.fixes[0].action,
                subject=one.finding.service,
                room=one.finding.room,
                reason=one.finding.sentence,
                incident=one.incident,
                ok=not failure,
                error=" ".join(failure.split())[:300],
                took_s=round(time.monotonic() - began, 3),
                attempt=one.attempt,
            )
            for one, failure in zip(repairs, failures, strict=True)
        )
