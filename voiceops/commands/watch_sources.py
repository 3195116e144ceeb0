"""What the live view shows, read again and again in threads: whatever hangs or breaks holds nothing else up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from voiceops.adapters.process import processes
from voiceops.commands.status import cpu_share, service_entry, sum_known
from voiceops.commands.watch_history import (
    HostHistoryReader,
    WatchedHistory,
    joined,
    read_history,
)
from voiceops.errors import VoiceopsError
from voiceops.model.history import IncidentRecord
from voiceops.model.roles import Role
from voiceops.model.rooms import Room
from voiceops.model.settings import Host
from voiceops.model.states import ServiceState
from voiceops.monitor.memory import MEMORY_FILE, MemoryFile, open_incidents
from voiceops.stack import operations
from voiceops.stack.livekit_rooms import listed_rooms
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Observed, Usage
from voiceops.stack.stack import Stack
from voiceops.wiring.history import has_own_history
from voiceops.wiring.project import Project
from voiceops.wiring.stack import build_stack

if TYPE_CHECKING:
    from voiceops.model.documents.stack import StatusService

T = TypeVar("T")
EVERY_S = 1.0
USAGE_EVERY_S = 5.0
"""Memory is asked of the kernel page by page: that costs more than all the rest."""
SERVICES_SHARE = 0.012
OTHER_SHARE = 0.004
"""Of one core, for each thread: what takes longer to read is read less often."""
LOCAL_PATIENCE_S = 2.0
REMOTE_PATIENCE_S = 30.0
HOST_HISTORY_EVERY_S = 30.0
"""A server starts Python for it, which costs it half a second of CPU time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPace:
    """How often the sources read, and how much CPU time that may take."""

    every_s: float = EVERY_S
    services_share: float = SERVICES_SHARE
    other_share: float = OTHER_SHARE
    host_history_every_s: float = HOST_HISTORY_EVERY_S
    ended_incidents: int = 0
    """How many of the incidents that are over are read, too."""


DEFAULT_PACE = WatchPace()


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read last: a value, or why there is none; neither before the first time."""

    value: T | None = None
    error: str = ""


class Source(Generic[T]):
    """Reads one thing in a thread of its own until ``close``."""

    def __init__(
        self,
        read: Callable[[], T],
        *,
        news: Callable[[], None],
        end: Callable[[], None] = lambda: None,
        outdated: Callable[[], bool] = lambda: False,
        share: float = OTHER_SHARE,
        look_s: float = 0.0,
        every_s: float = 0.0,
        patience_s: float = LOCAL_PATIENCE_S,
    ) -> None:
        self._read, self._news, self._end, self._share = read, news, end, share
        self._look_s = look_s or EVERY_S
        """The shortest pause between two readings, and how often it is asked whether the last one is over."""
        self._every_s = every_s
        """No more often than that, where it costs somebody else more than this process."""
        self._outdated = outdated
        """Whether what was read last is known to be over; asked all the time, so it has to be cheap."""
        self._patience_s = patience_s
        """The longest pause after errors, which double it: a server may lock out whoever logs in too often."""
        self._closing = threading.Event()
        self._bug: BaseException | None = None
        self._last: Reading[T] = Reading()
        threading.Thread(target=self._run, name="voiceops_watch", daemon=True).start()

    def last(self) -> Reading[T]:
        """What was read last; raises what was no ``VoiceopsError``."""
        if self._bug is not None:
            raise self._bug
        return self._last

    def close(self) -> None:
        """End after the reading that is going on, which may hang and is not waited for."""
        self._closing.set()

    def _run(self) -> None:
        try:
            failures = 0
            while not self._closing.is_set():
                began = time.thread_time()
                try:
                    self._last = Reading(self._read())
                    failures = 0
                except VoiceopsError as error:
                    self._last = Reading(error=error.message)
                    failures += 1
                self._news()
                after_errors_s = (
                    min(self._patience_s, EVERY_S * 2.0 ** min(failures - 1, 10)) if failures else 0.0
                )
                spent_s = time.thread_time() - began
                self._pause(max(self._look_s, self._every_s, after_errors_s, spent_s / self._share))
        except BaseException as error:  # noqa: BLE001 - raised by last(), in the thread that draws
            self._bug = error
            self._news()
        finally:
            self._end()

    def _pause(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while (left_s := ends_at - time.monotonic()) > 0:
            if self._closing.wait(min(self._look_s, left_s)) or self._outdated():
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedServices:
    """The services of one host."""

    at: float
    """When they were read, in seconds since the epoch."""
    services: Mapping[str, StatusService]
    call_count: int | None
    agents: Mapping[str, str]
    """Room -> the service whose agent serves it."""
    knows_agents: bool
    """This host has agents, and each of them that may serve a room says which."""
    incidents: tuple[IncidentRecord, ...] = ()
    """Those that its monitor remembers as going on: known also while the history can't be read."""


class ServicesReader:
    """Observes the services of one host; a connection that broke is made anew."""

    def __init__(
        self,
        open_stack: Callable[[], Stack],
        *,
        host: str,
        memory: MemoryFile | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open_stack
        self._host = host
        self._memory = memory
        """What the monitor of this machine remembers; None: another machine's services."""
        self._clock = clock
        self._stack: Stack | None = None
        self._pids: set[int] = set()
        self._used_at = 0.0
        self._used: dict[str, Usage | None] = {}
        self._shares: dict[str, float | None] = {}

    def read(self) -> WatchedServices:
        """Observe once."""
        if self._stack is None:
            # Whether LiveKit accepts our key says the list of rooms.
            self._stack = replace(self._open(), refusal=lambda: "")
        stack = self._stack
        try:
            observed = stack.backend.observe(stack.outline)
        except VoiceopsError:
            self.close()
            raise
        self._pids = {one.pid for seen in observed.values() for one in seen.instances if one.pid}
        self._measure(stack, observed)
        services: dict[str, StatusService] = {}
        for name, verdict in operations.verdicts(stack, observed).items():
            launch = verdict.instance.launch if verdict.instance else ""
            services[name] = service_entry(
                verdict, observed.get(name), self._used.get(launch), self._shares.get(launch)
            )
        agents = [one for seen in observed.values() for one in seen.instances if one.role is Role.AGENT]
        declared = any(service.role is Role.AGENT for service in stack.outline)
        return WatchedServices(
            at=time.time(),
            services=services,
            call_count=sum_known([service["call_count"] for service in services.values()]),
            agents={room: one.service for one in agents for room in one.rooms},
            knows_agents=declared
            and all(one.calls is not None or one.state is ServiceState.STARTING for one in agents),
            incidents=self._incidents(),
        )

    def outdated(self) -> bool:
        """Whether a process of this machine that was there is gone."""
        return self._memory is not None and any(processes.find(pid) is None for pid in self._pids)

    def _incidents(self) -> tuple[IncidentRecord, ...]:
        if self._memory is None:
            return ()
        return tuple(
            IncidentRecord(
                id=one.incident,
                host=self._host,
                cause=one.cause,
                subject=subject,
                sentence=one.sentence,
                fix=one.fix,
                began_at=one.began_at,
            )
            for subject, one in open_incidents(self._memory.load(processes.boot_id()))
        )

    def close(self) -> None:
        """End the connection; safe to call again."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def _measure(self, stack: Stack, observed: Mapping[str, Observed]) -> None:
        """CPU and memory of all runs, at once where a run is new."""
        now = self._clock()
        runs = {one.launch: one for seen in observed.values() for one in seen.instances}
        passed_s = now - self._used_at
        if passed_s < USAGE_EVERY_S and runs.keys() <= self._used.keys():
            return
        used = {launch: stack.usage(one) for launch, one in runs.items()}
        self._shares = {
            launch: cpu_share(self._used.get(launch), one, passed_s) for launch, one in used.items()
        }
        self._used, self._used_at = used, now


class RoomsReader:
    """Lists the rooms of one host's LiveKit."""

    def __init__(self, open_stack: Callable[[], Stack]) -> None:
        self._open = open_stack
        self._stack: Stack | None = None

    def read(self) -> tuple[Room, ...]:
        """One list; ``VoiceopsError`` within a few seconds where LiveKit does not answer."""
        if self._stack is None:
            self._stack = self._open()
        assert self._stack.livekit is not None, "only hosts with a LiveKit have rooms to list"
        try:
            return listed_rooms(self._stack.livekit)
        except VoiceopsError:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; safe to call again."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReaders:
    """The threads that read of one host."""

    host: Host
    services: Source[WatchedServices]
    rooms: Source[tuple[Room, ...]] | None
    """None: nothing here has to do with a LiveKit."""
    history: Source[WatchedHistory] | None = None
    """What the host's own monitor records there; None: what this machine's history has is all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSources:
    """Everything that the live view reads."""

    hosts: tuple[HostReaders, ...]
    history: Source[WatchedHistory]

    def last_history(self) -> Reading[WatchedHistory]:
        """What all histories say, once each was read; with an error, what the others say."""
        readings = [self.history.last(), *(one.history.last() for one in self.hosts if one.history)]
        if Reading() in readings:
            return Reading()
        found = [one.value for one in readings if one.value is not None]
        errors = [one.error for one in readings if one.error]
        return Reading(joined(found) if found else None, "; ".join(errors))

    def close(self) -> None:
        """End all threads; safe to call again."""
        for one in self.hosts:
            one.services.close()
            for other in (one.rooms, one.history):
                if other is not None:
                    other.close()
        self.history.close()


def open_sources(project: Project, news: Callable[[], None], pace: WatchPace = DEFAULT_PACE) -> WatchSources:
    """Begin to read; ``news`` is called from threads whenever something was read."""
    hosts = [_host_readers(project, host, news, pace) for host in project.hosts]
    read = partial(
        read_history, project, [host.name for host in project.hosts], ended_incidents=pace.ended_incidents
    )
    history = Source(read, news=news, share=pace.other_share, look_s=pace.every_s)
    return WatchSources(hosts=tuple(hosts), history=history)


def _host_readers(project: Project, host: Host, news: Callable[[], None], pace: WatchPace) -> HostReaders:
    open_stack = partial(build_stack, project, host)
    memory = MemoryFile(ProjectFolder(project.root).base / MEMORY_FILE) if host.local else None
    services = ServicesReader(open_stack, host=host.name, memory=memory)
    rooms = RoomsReader(open_stack)
    patience_s = LOCAL_PATIENCE_S if host.local else REMOTE_PATIENCE_S
    look_s = pace.every_s if host.local else max(EVERY_S, pace.every_s)
    livekit = host.settings.runs(Role.SERVER) or host.settings.runs(Role.AGENT)
    history = HostHistoryReader(host, ended_incidents=pace.ended_incidents) if has_own_history(host) else None
    return HostReaders(
        host=host,
        services=Source(
            services.read,
            news=news,
            end=services.close,
            outdated=services.outdated,
            share=pace.services_share,
            look_s=look_s,
            patience_s=patience_s,
        ),
        rooms=Source(
            rooms.read,
            news=news,
            end=rooms.close,
            share=pace.other_share,
            look_s=look_s,
            patience_s=patience_s,
        )
        if livekit
        else None,
        history=Source(
            history.read,
            news=news,
            end=history.close,
            every_s=pace.host_history_every_s,
            patience_s=patience_s,
        )
        if history
        else None,
    )
