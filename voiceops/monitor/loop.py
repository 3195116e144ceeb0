"""The monitor's loop: observe, decide, save, act; every few seconds, and at once when a service ends or freezes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from voiceops.adapters.process import processes
from voiceops.adapters.process.table_entry import ProcessKey
from voiceops.deadline import deadline
from voiceops.errors import LockedError, StorageError, VoiceopsError
from voiceops.model.findings import Finding
from voiceops.model.monitor_events import MonitorEvent, ProbeCall, Repair, WebhookEvent
from voiceops.model.states import ServiceState
from voiceops.monitor.decide import (
    Observations,
    ServiceRepair,
    decide,
    decide_livekit,
    not_tried,
)
from voiceops.monitor.diagnosing import Diagnosing
from voiceops.monitor.exits import watching_exits
from voiceops.monitor.findings import FindingRepair, decide_findings, relevant
from voiceops.monitor.local_stack import StackObservation
from voiceops.monitor.memory import MemoryFile, MonitorMemory
from voiceops.monitor.rooms import DEFERRED_LOOK_S, RoomKeeper
from voiceops.monitor.summary import WorkCounters, check_summary, moment_now, summary_line
from voiceops.monitor.watched_stack import Watched
from voiceops.ports import MonitorRecorder

SUMMARY_EVERY = 10
"""Checks between two lines of summary."""
FREEZE_LOOK_S = 0.25
"""Between two looks whether the kernel has stopped a service: a file for each."""
FROZEN_AFTER_S = 0.1
"""One that is seen stopped is looked at again so much later: a program may stop itself for a moment."""
REVIVE_AFTER_S = (0.0, 1.0, 3.0, 6.0)
"""When rooms are looked at after workers came back: a caller whose connection is coming back may be late."""
REGISTERING_S, LISTED_AFTER_S = 2.0, 6.0
"""When a worker registered is known so exactly; by then LiveKit's list of jobs, up to 5 s late, says who has one."""
WEBHOOK_PAUSE_S = 5.0
"""Rooms of which webhooks told are looked at together, so long after the first one."""
_TELLING = frozenset({"participant_joined", "participant_left", "participant_connection_aborted"})
_REVIVE_WITHIN_S = 60.0
_LIST_WITHIN_S = 5.0


@dataclass(slots=True)
class Monitor:
    """Runs until ``stop``. Everything that blocks goes to threads; rooms are asked in its own event loop."""

    watched: Watched
    memory_file: MemoryFile
    recorder: MonitorRecorder
    say: Callable[[str], None]
    boot: str
    outdated: Callable[[], bool] = lambda: False
    """Whether the configuration is another one now: then the monitor ends, for its guard to start it again."""
    memory: MonitorMemory = field(default_factory=MonitorMemory)
    errors: tuple[Finding, ...] = ()
    """Of the last diagnosis: what callers hear as silence."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: StackObservation = field(default_factory=lambda: StackObservation(services=()))
    _seen_version: int = 0
    """Of the stack's records, just before ``_seen``."""
    _in_hand: frozenset[str] = frozenset()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _counters: WorkCounters = field(default_factory=WorkCounters)
    _held_by: str = ""
    _rooms_told: asyncio.Task[None] | None = None
    _probe_due: float = 0.0
    _probe_ok: bool | None = None
    _crowded: str = ""
    """Why no probe call is placed."""

    def stop(self) -> None:
        """End the loop; a repair that is under way is left to finish by itself."""
        self._stopping.set()
        self._news.set()

    def wake(self) -> None:
        """Check at once."""
        self._news.set()

    def on_webhook(self, event: WebhookEvent) -> None:
        """Record what LiveKit tells, and look after the room of whoever came or went."""
        self.recorder.record(event)
        rooms = self.watched.rooms
        if rooms is None or event.kind not in _TELLING:
            return
        rooms.touch(event.room_sid)
        if self._rooms_told is None or self._rooms_told.done():
            self._rooms_told = self._spawn(self._look_at_told_rooms())

    async def _look_at_told_rooms(self) -> None:
        await asyncio.sleep(WEBHOOK_PAUSE_S)
        if not self._in_hand and not await asyncio.to_thread(self.watched.stack.held_by):
            await self._look_at_rooms(act=True)

    async def run(self) -> None:
        """Check until ``stop``."""
        self.memory = self.memory_file.load(self.boot)
        self._spawn(self._revive_calls())  # callers may have waited while no monitor was there, either
        try:
            while not self._stopping.is_set():
                try:
                    look_again_s = await self.check()
                except VoiceopsError as error:
                    self.say(f"the check failed: {error.message}")
                    look_again_s = self.watched.interval_s
                await self._wait(look_again_s)
                if await asyncio.to_thread(self.outdated):
                    self.say("the configuration has changed: ending, to begin again with it")
                    self.stop()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def check(self, *, act: bool = True) -> float:
        """One check; returns in how many seconds the next one is due. ``act``: repair what can be repaired."""
        self._news.clear()
        began = time.monotonic()
        self._seen_version = self.watched.stack.version()
        self._seen = await asyncio.to_thread(self.watched.stack.observe)
        held_by = "" if self._in_hand else self.watched.stack.held_by()
        self._tell_lock(held_by)
        look_again_s = self._decide(self._seen, held_by, act=act)
        await self._look_at_rooms(act=act and not held_by and not self._in_hand)
        diagnose_s = await self._diagnose(act=act, held_by=held_by)
        if act and not held_by and not self._in_hand:
            self._probe_if_due()
        self._summarize(began, held_by)
        rooms_s = self.watched.rooms.look_again_s() if self.watched.rooms is not None else None
        sooner = [one for one in (diagnose_s, rooms_s) if one is not None]
        return min(look_again_s, self.watched.interval_s, *sooner)

    def _decide(self, seen: StackObservation, held_by: str, *, act: bool = True) -> float:
        services = tuple(
            msgspec.structs.replace(one, in_hand=bool(self._in_hand)) if self._in_hand else one
            for one in seen.services
        )
        found = Observations(services=services, held_by=held_by)
        decision = decide(self.watched.host, self.memory, found, moment_now())
        if act:
            self._remember(decision.memory)
            self._record(decision.events)
            if decision.repairs:
                self._begin_repair(decision.repairs)
        return self.watched.interval_s if decision.look_again_s is None else decision.look_again_s

    def _remember(self, memory: MonitorMemory) -> None:
        """Before anything is done: a monitor that is killed meanwhile goes on where this one was."""
        self.memory = memory
        try:
            self.memory_file.save(memory)
        except StorageError as error:
            self.say(f"{error.message}: after a restart of the monitor its backoff begins anew")

    def _record(self, events: Sequence[MonitorEvent]) -> None:
        for event in events:
            self.recorder.record(event)

    def _tell_lock(self, held_by: str) -> None:
        if held_by and held_by != self._held_by:
            self.say(f"not acting: {held_by} holds the lock")
        elif self._held_by and not held_by:
            self.say("acting again: the lock is free")
        self._held_by = held_by

    # -- services ------------------------------------------------------------

    def _begin_repair(self, repairs: tuple[ServiceRepair, ...]) -> None:
        self._in_hand = frozenset(one.service for one in repairs)
        self._spawn(self._repair(repairs))

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _repair(self, repairs: tuple[ServiceRepair, ...]) -> None:
        began = time.monotonic()
        failure = ""
        try:
            await asyncio.to_thread(self.watched.stack.repair, repairs)
        except LockedError as error:
            self._remember(not_tried(self.memory, repairs, moment_now()))
            self.say(f"not acting: {error.message}")
            return
        except VoiceopsError as error:
            failure = " ".join(error.message.split())[:300]
        finally:
            self._in_hand = frozenset()
            self.wake()
        self._counters.repairs += not failure
        self._counters.failed += bool(failure)
        for one in repairs:
            self.recorder.record(
                Repair(
                    at=time.time(),
                    host=self.watched.host,
                    action="resume" if one.resume else "restart" if one.frozen else "start",
                    subject=one.service,
                    reason=one.reason,
                    incident=one.incident,
                    ok=not failure,
                    error=failure,
                    took_s=round(time.monotonic() - began, 3),
                    attempt=one.attempt,
                )
            )
        if not failure:
            self._spawn(self._revive_calls())

    async def _revive_calls(self) -> None:
        """Give the callers that waited while no worker was there an agent each, without a redial."""
        rooms, stack = self.watched.rooms, self.watched.stack
        if rooms is None or not self.watched.all_workers_here:
            return
        ends_at = time.monotonic() + _REVIVE_WITHIN_S
        while stack.held_by() or (until := await asyncio.to_thread(stack.registered_at)) is None:
            if time.monotonic() > ends_at:
                return
            await asyncio.sleep(0.2)
        began = time.monotonic()
        ends_at = began + _REVIVE_WITHIN_S
        for after_s in REVIVE_AFTER_S:
            await asyncio.sleep(max(0.0, began + after_s - time.monotonic()))
            everywhere, late = True, 0.0
            if after_s >= LISTED_AFTER_S:
                late = until + REGISTERING_S
                await asyncio.to_thread(stack.observe)  # which rooms the workers have by now
            while await self._revive_some(rooms, until, late, everywhere) and time.monotonic() < ends_at:
                everywhere = False
                await asyncio.sleep(DEFERRED_LOOK_S)

    async def _revive_some(self, rooms: RoomKeeper, until: float, late: float, everywhere: bool) -> int:
        """One pass over those who wait; returns how many get their agent once others have theirs."""
        lost = self.watched.stack.lost_workers(until, late)
        if lost is None:
            # An agent that does not answer, perhaps for all the calls that it has just got.
            await asyncio.to_thread(self.watched.stack.observe)
            return 0
        with suppress(VoiceopsError):  # the next pass, or the next check, tries again
            async with deadline(_LIST_WITHIN_S * 2, "looking after the callers who wait"):
                await rooms.list()
                return await rooms.look_after(everywhere=everywhere, lost=lost)
        return 0

    # -- rooms ---------------------------------------------------------------

    async def _look_at_rooms(self, *, act: bool) -> None:
        rooms = self.watched.rooms
        if rooms is None or not self.watched.stack.server_may_answer():
            return
        answers = False
        try:
            async with deadline(_LIST_WITHIN_S, "listing rooms"):
                await rooms.list()
            answers = True
            if act:
                await rooms.look_after()
                await rooms.clean()
        except VoiceopsError as error:
            if answers:
                self.say(f"rooms were not looked after: {error.message}")
        if act or answers:
            decision = decide_livekit(self.watched.host, self.memory, answers, moment_now())
            self._remember(decision.memory)
            self._record(decision.events)

    def _probe_if_due(self) -> None:
        """Place a synthetic call if it is time for one and the workers have room for it."""
        if self.watched.probe is None or time.monotonic() < self._probe_due:
            return
        ready = [one for one in self._seen.agents if one.state is ServiceState.READY]
        if not ready or self.memory.silent_count:
            return
        crowded = self.watched.stack.crowded()
        if crowded and not self._crowded:
            self.say(f"no probe call as long as {crowded}")
        self._crowded = crowded
        if crowded:
            return
        self._probe_due = time.monotonic() + self.watched.probe_every_s
        self._spawn(self._probe(self.watched.probe))

    async def _probe(self, place: Callable[[], Awaitable[ProbeCall]]) -> None:
        result = await place()
        self._probe_ok = result.ok
        self.recorder.record(result)

    def _summarize(self, began: float, held_by: str) -> None:
        self._counters.checks += 1
        rooms = self.watched.rooms
        summary = check_summary(
            self.watched.host,
            self._seen,
            rooms.counts() if rooms is not None and self.memory.silent_count == 0 else None,
            well=self.memory.silent is None and not self.errors,
            began=began,
            held_by=held_by,
            probe_ok=self._probe_ok,
        )
        self.recorder.record(summary)
        if self._counters.checks % SUMMARY_EVERY == 0:
            self.say(summary_line(summary, self._counters))

    # -- findings ------------------------------------------------------------

    async def _diagnose(self, *, act: bool, held_by: str) -> float | None:
        """Apply the rules of `why`; returns in how many seconds that is due again, None: with the next check."""
        diagnosing, rooms = self.watched.diagnosing, self.watched.rooms
        if diagnosing is None or rooms is None or self._in_hand:
            return None  # while something is repaired, whatever else happens has to be noticed at once
        try:
            seen = await diagnosing.look(rooms.doubtful())
        except VoiceopsError as error:
            self.say(f"no diagnosis: {error.message}")
            return None
        if seen is None:
            return None
        self.errors = tuple(
            one for one in relevant(seen.findings, self._seen.services) if one.severity == "error"
        )
        if not act:
            return None
        may_act = not (held_by or self._in_hand or diagnosing.repairing)
        decision = decide_findings(
            self.watched.host, self.memory, seen, self._seen.services, moment_now(), may_act=may_act
        )
        self._remember(decision.memory)
        self._record(decision.events)
        if decision.repairs:
            self._spawn(self._repair_findings(diagnosing, decision.repairs))
        return decision.look_again_s

    async def _repair_findings(self, diagnosing: Diagnosing, repairs: Sequence[FindingRepair]) -> None:
        services = frozenset(one.finding.service for one in repairs) - {""}
        self._in_hand |= services
        try:
            done = await diagnosing.repair(repairs)
        finally:
            self._in_hand -= services  # not those of a repair that began meanwhile
        self._counters.repairs += sum(one.ok for one in done)
        self._counters.failed += sum(not one.ok for one in done)
        self._record(done)

    async def _wait(self, timeout_s: float) -> None:
        """Until the next check is due, or something happens to a service."""
        ends_at = time.monotonic() + timeout_s
        suspects: set[str] = set()
        with watching_exits(self._seen.processes.values(), self._exited):
            while not self._news.is_set() and (left_s := ends_at - time.monotonic()) > 0:
                with suppress(asyncio.TimeoutError):
                    look_s = FROZEN_AFTER_S if suspects else FREEZE_LOOK_S
                    await asyncio.wait_for(self._news.wait(), min(look_s, left_s))
                if not self._in_hand and self.watched.stack.version() != self._seen_version:
                    return  # somebody started or stopped a service: of a new one the end has to be watched
                stopped = {
                    name
                    for name, key in self._seen.processes.items()
                    if name not in self._in_hand and processes.is_frozen(key.pid) and self._may_repair(name)
                }
                if frozen := stopped & suspects:
                    self._repair_frozen(frozen)
                    return
                suspects = stopped

    def _may_repair(self, name: str) -> bool:
        if self._held_by and self.watched.stack.held_by():
            return False  # nothing is done meanwhile, and the lock's end is seen
        known = self.memory.services.get(name)
        return known is None or not (known.gave_up or processes.boot_clock() < known.not_before)

    def _repair_frozen(self, names: set[str]) -> None:
        """Decide with what is known: to look at a service that is frozen takes seconds."""
        services = tuple(
            msgspec.structs.replace(one, frozen=one.frozen or one.name in names)
            for one in self._seen.services
        )
        seen = StackObservation(services=services, processes=self._seen.processes, agents=self._seen.agents)
        held_by = self.watched.stack.held_by()
        self._tell_lock(held_by)
        self._decide(seen, held_by)

    def _exited(self, key: ProcessKey) -> None:
        self.watched.stack.note_exit(key)
        self.wake()
