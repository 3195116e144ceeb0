"""What fixing and recovering do on one machine, this one or a server: one reconcile, one library for rooms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.deadline import Deadline, deadline
from voiceops.doctor.collect import FactSources, collect
from voiceops.doctor.diagnose import diagnose
from voiceops.doctor.facts import StackFacts
from voiceops.doctor.fix import carry_out, for_test_call, on_host, steps
from voiceops.doctor.recover import ProofCallResult, RecoveryLevel
from voiceops.doctor.room_evidence import served_rooms
from voiceops.model import timeouts
from voiceops.model.calls import CallResult
from voiceops.model.findings import Finding
from voiceops.model.settings import Settings
from voiceops.ports import AgentRoomApi
from voiceops.rooms.cleanup import cleanup_stale_rooms
from voiceops.rooms.dispatch import dispatch_agent
from voiceops.rooms.reading import remove_participant
from voiceops.rooms.removal import cleanup_room
from voiceops.rooms.waiting import wait_for_agent
from voiceops.stack import operations
from voiceops.stack.stack import Stack
from voiceops.util import aio
from voiceops.util.words import counted

T = TypeVar("T")
DISPATCH_WAIT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRooms:
    """``doctor.fix.RoomActions`` on the configured server."""

    settings: Settings
    server_id: str = ""
    """What locks call the server, where its address changes from run to run."""
    limit: Deadline | None = None
    """Bounds each thing that is done; None: it has its own deadlines only."""

    def run(self, act: Callable[[AgentRoomApi], Awaitable[T]]) -> T:
        """Do one thing with a session of its own."""

        async def main() -> T:
            livekit = self.settings.livekit
            async with LivekitApi(
                livekit.url, livekit.api_key, livekit.api_secret, server_id=self.server_id
            ) as api:
                return await act(api)

        async def bounded(limit: Deadline) -> T:
            async with deadline(limit.remaining_s, limit.what):
                return await main()

        return aio.run(main() if self.limit is None else bounded(self.limit))

    def dispatch(self, room: str, agent_name: str) -> None:
        """Send one agent and wait until it serves. The diagnosis has found the last one lost."""

        async def act(api: AgentRoomApi) -> None:
            await dispatch_agent(api, room, agent_name, lost_after_s=0.0)
            await wait_for_agent(api, room, agent_name, timeout_s=DISPATCH_WAIT_S)

        self.run(act)

    def remove(self, room: str, identity: str) -> None:
        async def act(api: AgentRoomApi) -> None:
            await remove_participant(api, room, identity)

        self.run(act)

    def delete(self, room: str, sid: str) -> None:
        async def act(api: AgentRoomApi) -> None:
            await cleanup_room(api, room, sid=sid, settings=self.settings.rooms)

        self.run(act)

    def clean(self) -> str:
        """One cleanup by the usual rules; says how many rooms went."""

        async def act(api: AgentRoomApi) -> str:
            report = await cleanup_stale_rooms(api, self.settings.rooms)
            return f"deleted {counted(len(report.deleted), 'room')}, removed {counted(len(report.removed), 'participant')}"

        return self.run(act)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStack:
    """``doctor.fix.StackActions`` on the machine's services."""

    stack: Stack
    drop_calls: bool = False
    limit: Deadline | None = None

    @property
    def timeout_s(self) -> float:
        """What is left for one operation."""
        return timeouts.START_S if self.limit is None else self.limit.remaining_s

    def start(self, only: Sequence[str], *, replace: bool) -> None:
        operations.start(
            self.stack,
            only=only,
            replace_strays=replace,
            drop_calls=self.drop_calls,
            timeout_s=self.timeout_s,
        )

    def stop_now(self, only: Sequence[str] = ()) -> None:
        """Without a drain; whoever calls it has asked about the calls."""
        operations.stop(self.stack, only=only, now=True, drop_calls=True, timeout_s=self.timeout_s)

    def restart(self, only: Sequence[str], *, now: bool) -> None:
        if now:
            # A stopped process can't drain, and its callers hear nothing. It may have been let go on since.
            verdicts = operations.check(self.stack)
            if all(verdicts[name].ok for name in only):
                return
            self.stop_now(only)
            operations.start(self.stack, only=only, timeout_s=self.timeout_s)
        else:
            operations.start(
                self.stack, only=only, renew=True, drop_calls=self.drop_calls, timeout_s=self.timeout_s
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRecoveryActions:
    """Implements ``doctor.recover.RecoveryActions`` for one host."""

    settings: Settings
    sources: FactSources
    stack: LocalStack
    rooms: LocalRooms
    call: Callable[[], CallResult]
    host: str = ""
    """The server's name, for commands that people type; empty: this machine."""
    prepare: Callable[[float | None], None] = lambda _since: None
    """Read what can't be asked within the deadlines of single observations."""

    def facts(self, wanted_room: str = "", *, since: float | None = None) -> StackFacts:
        """Observe everything once; see ``collect``."""

        async def observe(api: AgentRoomApi) -> StackFacts:
            return await collect(self.sources, api, self.settings.rooms, wanted_room=wanted_room, since=since)

        self.prepare(since)
        return self.rooms.run(observe)

    def diagnose(self) -> Sequence[Finding]:
        return self.findings(self.facts())

    def findings(self, facts: StackFacts) -> tuple[Finding, ...]:
        """What the rules say of these facts, with commands that act on this host."""
        found = tuple(for_test_call(one, facts.wanted_room) for one in diagnose(facts))
        return tuple(on_host(one, self.host) for one in found) if self.host else found

    def fix(self, findings: Sequence[Finding]) -> str:
        results = carry_out(steps(findings), self.stack, self.rooms)
        done = [_quoted(result.fix.command) for result in results if result.done]
        failed = [f"{_quoted(result.fix.command)}: {result.error}" for result in results if not result.done]
        return "; ".join([*done, *(f"not done: {line}" for line in failed)])

    def clean_rooms(self) -> str:
        return self.rooms.clean()

    def restart(self, level: RecoveryLevel) -> str:
        """Restart the agents, each by overlap where it has calls, or everything, strays included."""
        if level is RecoveryLevel.AGENTS:
            agents = [service.name for service in self.stack.stack.outline if service.is_agent]
            self.stack.restart(agents, now=False)
            return f"restarted {', '.join(agents)}"
        self.stack.stop_now()
        self.stack.start((), replace=True)
        return "stopped everything and started it again"

    def prove(self) -> ProofCallResult:
        result = self.call()
        if result.ok:
            return ProofCallResult(
                answered=True, detail=f"audio after {result.audio_s:.2f} s", audio_s=result.audio_s
            )
        failure = result.failure
        return ProofCallResult(answered=False, detail=failure.detail if failure else "no audio")

    def live_rooms(self) -> Sequence[str]:
        """Rooms in which an agent serves a person right now; ``CallsUnknownError`` when LiveKit does not say."""
        operations.require_known_calls(self.stack.stack)
        return [room.name for room in served_rooms(self.facts())]


def _quoted(command: str) -> str:
    """A command between backquotes, inside a sentence; a sentence has its commands so already."""
    return command if "`" in command else f"`{command}`"
