"""Everything that the rules of ``why`` look at, as plain data.

``collect`` gathers it from the real thing; tests write it down by hand. Wall-clock
times are seconds since the epoch, as LiveKit and its logs give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from voiceops.model.protocol import AGENT_STARTS
from voiceops.model.rooms import Dispatch, Participant
from voiceops.model.server import ServerFact
from voiceops.model.settings import RoomsSettings
from voiceops.model.states import ServiceState

START_LINES = (AGENT_STARTS, "starting LiveKit server")
"""The first line of a run: of agentkit's runner, and of livekit-server."""
FULL_BYTES = 100_000
"""Of a disk with less free space than that nothing is left: programs write whole blocks."""
START_SLACK_S = 0.2
"""The age of a process and the time in a log line come from two clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One structured line of a log."""

    service: str
    at: float
    level: str
    message: str
    fields: dict[str, object] = field(default_factory=dict)

    @property
    def room(self) -> str:
        """livekit's lines have it in the open, agentkit's under ``pii``."""
        pii = self.fields.get("pii")
        inner = pii.get("room") if isinstance(pii, dict) else ""
        return str(self.fields.get("room") or inner or "")

    @property
    def job_id(self) -> str:
        """``AJ_...``: livekit-server, livekit-agents and agentkit each have a name for it."""
        return str(
            next((self.fields[key] for key in ("jobID", "job_id", "call_id") if self.fields.get(key)), "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFact:
    """One declared agent service and the worker that runs for it."""

    service: str
    agent_name: str
    state: ServiceState
    detail: str = ""
    pid: int | None = None
    url: str = ""
    """The address that the worker itself was given."""
    registered: bool | None = None
    """None: it does not say (no agentkit, or it does not answer)."""
    registered_at: float | None = None
    """When it registered last, from its log."""
    started_at: float | None = None
    answers: bool = False
    """Its health endpoint answered in time."""
    stopped: bool = False
    """The kernel says it is stopped (SIGSTOP, a debugger): state T."""
    draining: bool = False
    calls: int = 0
    rooms: tuple[str, ...] = ()
    load: float | None = None
    load_limit: float | None = None
    refused_for_load: int = 0
    max_jobs: int | None = None
    release_current: bool = True
    pids: tuple[int, ...] = ()
    foreign_owner: str = ""
    """Whose the stray worker is, where that is none of this project's."""
    folder_deleted: bool = False
    """The folder of its health socket was deleted while it ran: nobody can ask it."""
    registered_name: str | None = None
    """The agent name that it has registered; None: it does not say."""
    code_folder: str = ""
    """Files of its code are named from here."""

    @property
    def at_max_jobs(self) -> bool:
        return self.max_jobs is not None and self.calls >= self.max_jobs

    @property
    def over_load(self) -> bool:
        return self.load is not None and self.load_limit is not None and self.load >= self.load_limit

    @property
    def full(self) -> bool:
        """It takes no more calls for now."""
        return self.at_max_jobs or self.over_load


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFact:
    """One room with everybody in it."""

    name: str
    sid: str = ""
    created_at: float
    empty_timeout_s: int = 0
    participants: tuple[Participant, ...] = ()
    dispatches: tuple[Dispatch, ...] | None = ()
    """None: the server could not say (a room that is not live answers 503)."""
    dispatch_error: str = ""

    @property
    def agents(self) -> tuple[Participant, ...]:
        return tuple(one for one in self.participants if one.is_agent)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenService:
    """A service beside LiveKit and the agents, such as a database, that is to run and does not do its job."""

    name: str
    state: ServiceState
    detail: str = ""
    needed_by: tuple[str, ...] = ()
    foreign_owner: str = ""
    """Whose process has its port, where that is none of this project's."""
    stopped: bool = False
    """The kernel has stopped its process (state T)."""
    ended: bool = False
    """Its process is gone, and what supervises it is about to start it again."""
    refused: bool = False
    """It refuses the password that the inventory has."""
    log: tuple[str, ...] = ()
    """The end of its log, where it has no process."""
    oneshot: bool = False
    run_again: bool = True
    """Its ``restart`` is not ``never``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedService:
    """A service beside LiveKit and the agents that runs with an older configuration than the inventory's."""

    name: str
    variables: tuple[str, ...] = ()
    """Names of its variables that have another value now, as far as they can be read."""
    undeployed: bool = False
    """The host that it runs on has the older configuration too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullDisk:
    """A file system on which nothing can be written any more."""

    folder: str
    data: tuple[str, ...] = ()
    """Services whose data are on it."""
    logs: tuple[str, ...] = ()
    """Services whose logs are on it."""
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFact:
    """The certificate that a service shows to browsers."""

    service: str
    domain: str
    not_before: float = 0.0
    not_after: float = 0.0
    error: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFact:
    cpu_share: float = 0.0
    """Of all cores, 0 to 1."""
    disk_free_bytes: int = 1 << 40
    broken_services: tuple[BrokenService, ...] = ()
    changed_services: tuple[ChangedService, ...] = ()
    full_disks: tuple[FullDisk, ...] = ()
    dead_monitors: tuple[str, ...] = ()
    """Monitors that somebody has started and that do not run any more: nothing is repaired by itself."""
    certificates: tuple[CertificateFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFacts:
    """One look at the whole stack."""

    now: float
    server: ServerFact
    workers: tuple[WorkerFact, ...] = ()
    rooms: tuple[RoomFact, ...] = ()
    events: tuple[LogEvent, ...] = ()
    """Recent lines of server and workers, oldest first."""
    host: HostFact = HostFact()
    problems: tuple[str, ...] = ()
    """What could not be observed, and why, and what was left out: said, never hidden."""
    incomplete: bool = False
    """Something could not be observed: that nothing was found proves nothing then."""
    settings: RoomsSettings = field(default_factory=RoomsSettings)
    """Its ``idle_identities`` tell monitors and bots from callers."""
    wanted_room: str = ""
    """The room that was asked for, if any."""
    room_is_missing: bool = False
    """LiveKit was asked for that room, and has none of this name."""
    events_by_room: Mapping[str, Sequence[LogEvent]] = field(init=False, repr=False, compare=False)
    """Joined once: every rule asks for the lines of one room, and thousands of rooms may stand."""
    services_with_log: frozenset[str] = field(init=False, repr=False, compare=False)
    history: bool = False
    """Failed calls of earlier starts were asked for too."""
    _by_service: Mapping[str, Sequence[LogEvent]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_room: dict[str, list[LogEvent]] = {}
        for event in self.events:
            if event.room:
                by_room.setdefault(event.room, []).append(event)
        object.__setattr__(self, "events_by_room", by_room)
        by_service: dict[str, list[LogEvent]] = {}
        for event in self.events:
            by_service.setdefault(event.service, []).append(event)
        object.__setattr__(self, "_by_service", by_service)
        object.__setattr__(self, "services_with_log", frozenset(by_service))

    def events_of(self, service: str) -> Sequence[LogEvent]:
        """The lines of one service, oldest first."""
        return self._by_service.get(service, ())

    def since_start(self, service: str) -> Sequence[LogEvent]:
        """The lines of one service since it was started last: an earlier run's say nothing of this one."""
        events = self.events_of(service)
        began = self._started_at(service)
        if began is not None:
            return [event for event in events if event.at >= began - START_SLACK_S]
        first = max((index for index, one in enumerate(events) if _begins(one)), default=0)
        return events[first:]

    def _started_at(self, service: str) -> float | None:
        """When the process that runs now was started; None when none runs."""
        if service == self.server.service:
            return self.server.started_at
        return max(
            (w.started_at for w in self.workers if w.service == service and w.started_at is not None),
            default=None,
        )

    def worker_for(self, agent_name: str) -> WorkerFact | None:
        return next((w for w in self.workers if w.agent_name == agent_name), None)


def _begins(event: LogEvent) -> bool:
    return event.message.startswith(START_LINES)


def misnamed(worker: WorkerFact) -> bool:
    """Whether the worker has registered another name than the one that is declared."""
    if worker.draining:
        return False  # it registered before the name was changed
    return worker.registered_name is not None and worker.registered_name != worker.agent_name
