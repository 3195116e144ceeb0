"""Places many calls as a plan says, and clears up after them."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from voiceops.calls.plan import lines_for
from voiceops.calls.ports import CallerCrashError, Callers, CallRooms, Why
from voiceops.calls.stats import CallReport, weigh
from voiceops.deadline import deadline
from voiceops.errors import DeadlineError, VoiceopsError
from voiceops.model.calls import ROOM_PREFIX, CallJob, CallPlan, CallResult, CallTarget, FailureKind, Hangup
from voiceops.model.protocol import SYNTHETIC_CALLER_PREFIX

if TYPE_CHECKING:
    from voiceops.model.documents.common import DiagnosisEntry

TOKEN_SPARE_S = 300.0
TIDY_S = 30.0
DISCARD_S = 10.0
NEVER_IN_S = 2.0
"""A server that let no caller in is not given long to answer about the room."""
_SAMPLE_S = 0.5

OnResult = Callable[[CallResult], None]


async def run_calls(
    plan: CallPlan,
    target: CallTarget,
    *,
    callers: Callers,
    call_rooms: CallRooms,
    why: Why | None = None,
    on_result: OnResult | None = None,
) -> CallReport:
    """Carry the plan out. Rooms that it made are gone afterwards, also after an interruption."""
    run = _CallRun(plan, target, callers, call_rooms, why, on_result)
    machine = asyncio.get_running_loop().create_task(run.watch_machine())
    try:
        await run.carry_out()
        duration_s = time.monotonic() - run.started_at
        processes, cpu_s, lags = await callers.usage()
    finally:
        machine.cancel()
        await asyncio.wait({machine})
        await asyncio.shield(run.tidy())
    return CallReport(
        plan=plan,
        results=tuple(sorted(run.results, key=lambda result: result.id)),
        load=weigh(
            processes=processes,
            cpu_s=cpu_s,
            wall_s=duration_s,
            cores=os.cpu_count() or 1,
            machine=run.machine_cpu,
            lags=lags,
            late_s=run.late_s,
            crashes=run.crashes,
        ),
        duration_s=duration_s,
        rooms_kept=tuple(sorted(run.open_rooms)),
    )


class _CallRun:
    def __init__(
        self,
        plan: CallPlan,
        target: CallTarget,
        callers: Callers,
        call_rooms: CallRooms,
        why: Why | None,
        on_result: OnResult | None,
    ) -> None:
        self.plan = plan
        self.target = target
        self.callers = callers
        self.call_rooms = call_rooms
        self.why = why
        self.on_result = on_result
        self.started_at = time.monotonic()
        self.results: list[CallResult] = []
        self.open_rooms: dict[str, str] = {}
        """Rooms of ours that may still stand, with the caller's identity."""
        self.deleted: list[str] = []
        self.restless = False
        """Whether a room was deleted before its agent had come: the dispatch may recreate it."""
        self.late_s = 0.0
        """By how much a call began later than the rate asked for, because every caller was busy."""
        self.crashes = 0
        self.never_in: set[str] = set()
        self.door_verdict: DiagnosisEntry | None = None
        self.machine_cpu: list[float] = []
        self._numbers: Iterator[int] = itertools.count()
        self._discards: set[asyncio.Task[None]] = set()
        self._tag = secrets.token_hex(4)

    async def carry_out(self) -> None:
        lines = [asyncio.ensure_future(self._line(number)) for number in range(lines_for(self.plan))]
        try:
            await asyncio.gather(*lines)
        finally:
            for line in lines:
                line.cancel()
            await asyncio.wait(lines)

    async def _line(self, number: int) -> None:
        """One caller, who calls until the plan is done."""
        while True:
            index = next(self._numbers)
            if not self.plan.duration_s and index >= self.plan.count:
                return
            if self.plan.rate_per_s:
                wait_s = self.started_at + index / self.plan.rate_per_s - time.monotonic()
                self.late_s = max(self.late_s, -wait_s)
                await asyncio.sleep(max(0.0, wait_s))
            if self.plan.duration_s and time.monotonic() - self.started_at >= self.plan.duration_s:
                return
            if not await self._call(index, number):
                await self._call(index, number, again=True)

    async def _call(self, index: int, line: int, *, again: bool = False) -> bool:
        """Place one call; False where its caller process crashed before it was over, unless ``again``."""
        plan = self.plan
        room = self.target.room or f"{ROOM_PREFIX}{secrets.token_hex(8)}"
        identity = f"{SYNTHETIC_CALLER_PREFIX}{self._tag}-{line if plan.redial else f'{line}-{index}'}"
        job = CallJob(
            id=index,
            url=self.target.url,
            token=self.call_rooms.token(
                room=room, identity=identity, ttl_s=plan.timeout_s * 2 + plan.hold_s + TOKEN_SPARE_S
            ),
            room=room,
            identity=identity,
            timeout_s=plan.timeout_s,
            hold_s=plan.hold_s,
            min_quality=plan.min_quality,
            script=plan.script,
            hangup=plan.hangups[index % len(plan.hangups)],
        )
        verdict: DiagnosisEntry | None = None

        async def inquire(result: CallResult) -> None:
            nonlocal verdict
            if result.failure is not None:
                verdict = await self._ask(room, result.failure.kind)

        if self.target.room:
            await self.call_rooms.invite(room)
        else:
            self.open_rooms[room] = identity
        started_s = time.monotonic() - self.started_at
        try:
            result = await self.callers.place(job, inquire)
        except CallerCrashError as crash:
            if not again:
                self.crashes += 1
                if not self.target.room:
                    await self._discard(room, identity, agent_came=False)
                return False
            result = crash.result
        result = msgspec.structs.replace(
            result, room=room, identity=identity, started_s=round(started_s, 4), verdict=verdict
        )
        self.results.append(result)
        if self.on_result is not None:
            self.on_result(result)
        if result.connect_s is None:
            self.never_in.add(room)
        if result.failure is not None and result.failure.kind is FailureKind.CREDENTIALS:
            self.open_rooms.pop(room, None)  # refused at the door: there is no such room
        elif not self.target.room and job.hangup is not Hangup.ABRUPT:
            # A vanished caller's room is left to the server until the end: deleting it would
            # tell the agent what it has to find out by itself.
            discard = asyncio.ensure_future(self._discard(room, identity, agent_came=bool(result.agent)))
            self._discards.add(discard)
            discard.add_done_callback(self._discards.discard)
            if not plan.redial:
                await discard
        return True

    async def _ask(self, room: str, kind: FailureKind) -> DiagnosisEntry | None:
        """What the ``why`` rules find; once for all calls that the server let nobody in."""
        if self.why is None or kind is FailureKind.CALLER:
            return None
        if kind in _AT_THE_DOOR and self.door_verdict is not None:
            return self.door_verdict
        verdict: DiagnosisEntry | None
        try:
            verdict = await self.why(room)
        except VoiceopsError as error:
            verdict = {"ok": False, "findings": [], "problems": [error.message]}
        if kind in _AT_THE_DOOR:
            self.door_verdict = verdict
        return verdict

    async def _discard(self, room: str, identity: str, *, agent_came: bool) -> None:
        try:
            async with deadline(DISCARD_S if room not in self.never_in else NEVER_IN_S, "deleting a room"):
                gone = await self.call_rooms.discard(room, identity)
            if gone:
                self.open_rooms.pop(room, None)
                self.deleted.append(room)
                self.restless = self.restless or not agent_came
        except VoiceopsError:
            # It stays in open_rooms, is tried again at the end and shown in the report if that fails
            # too. A room whose caller never got in is hardly there when the server is not.
            if room in self.never_in:
                self.open_rooms.pop(room, None)

    async def tidy(self) -> None:
        """Delete what still stands. What does not work is left in ``open_rooms``."""
        try:
            async with deadline(TIDY_S, "deleting the calls' rooms"):
                if self._discards:
                    await asyncio.wait(self._discards)
                agents = {result.room for result in self.results if result.agent}
                for room, identity in list(self.open_rooms.items()):
                    await self._discard(room, identity, agent_came=room in agents)
                if self.deleted:
                    await self.call_rooms.discard_again(tuple(self.deleted), settle=self.restless)
        except (DeadlineError, VoiceopsError):
            return

    async def watch_machine(self) -> None:
        """Sample how busy all cores are."""
        import psutil

        psutil.cpu_percent(None)
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self.machine_cpu.append(psutil.cpu_percent(None) / 100)


_AT_THE_DOOR = (FailureKind.CREDENTIALS, FailureKind.NO_CONNECT)
