"""What the stack decides on, beside ``kinds.model.Declared``: services as observed. Plain data, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from voiceops.model.roles import Role
from voiceops.model.states import ServiceState
from voiceops.util.words import counted

REFUSES = "refuses the password of the inventory"
"""How the detail of an instance begins that is ``refused``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run takes of its machine, with everything that it has started."""

    cpu_s: float
    """Since it was started, of one CPU."""
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One run of a service that was seen on the host."""

    service: str
    role: Role = Role.OTHER
    launch: str
    """Names this run for the backend."""
    pid: int
    digest: str
    state: ServiceState
    """READY, STARTING, DRAINING or UNRESPONSIVE; of a one-shot that has ended COMPLETED or FAILED."""
    detail: str = ""
    age_s: float = 0.0
    release: str = ""
    calls: int | None = 0
    """None: it does not answer, so it may have some."""
    rooms: tuple[str, ...] = ()
    worker_id: str = ""
    """LiveKit's name for this registration; a new one after every reconnect."""
    agent_name: str | None = None
    """The name that an agent has registered; None: it does not say."""
    proving: bool = False
    """A deploy has not proved it yet, so LiveKit does not know it by its own name: it serves nobody."""
    share: float = 1.0
    """Of new calls, which a canary takes beside the run that serves; it is no duplicate of that one."""
    taken: tuple[str, ...] = ()
    """Rooms of the last calls that it has taken, the oldest first."""
    taken_count: int | None = None
    """Calls since its start; None: it does not say."""
    failed_count: int = 0
    """Of those, the ones whose job failed."""
    refused: bool = False
    """It runs, and refuses the password that the inventory has."""
    signalled: bool = False
    """It has been told to stop: a second signal would kill its calls."""
    repeat_signal_s: float = 0.0
    """When the signal is sent again nevertheless, as its kind wants it; 0: never."""
    restart_count: int = 0
    """How often it was started again since it was stopped the last time."""
    usage: Usage | None = None
    """Where the backend learns it with everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A process in the way of a service, which we did not start."""

    service: str
    pid: int
    """0: the owner can't be seen from here."""
    start: str
    """The mark of its start, as the backend writes it: a pid alone may name another process by now."""
    command: str
    age_s: float
    reason: str
    role: Role = Role.OTHER
    """Of the service that it is in the way of."""
    calls: int | None = 0
    """None: it does not say."""
    foreign_owner: str = ""
    """Whose it is, where it has nothing to do with this project: then it is never ended from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What there is of one service."""

    instances: tuple[Instance, ...] = ()
    strays: tuple[Stray, ...] = ()
    leftovers: tuple[Instance, ...] = ()
    """Runs whose main process is gone: what they left running, or no more than a record."""
    ended: Instance | None = None
    """The last run of a one-shot: COMPLETED or FAILED, without a process."""
    stale: str = ""
    """Our record names a process that is gone, or can't be read: says which."""

    @property
    def current(self) -> tuple[Instance, ...]:
        """Those that serve or are about to; draining ones are on their way out."""
        return tuple(
            one for one in self.instances if one.state is not ServiceState.DRAINING and not one.signalled
        )

    def has_ended(self, run: Instance) -> bool:
        """Whether that run has ended since it was seen: it is gone, on its way out, or its process is another one."""
        now = next((one for one in self.current if one.launch == run.launch), None)
        return now is None or now.pid != run.pid or now.restart_count > run.restart_count

    @property
    def draining(self) -> tuple[Instance, ...]:
        current = self.current
        return tuple(one for one in self.instances if one not in current)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceVerdict:
    """What ``check-running`` says of one service."""

    state: ServiceState
    detail: str = ""
    pids: tuple[int, ...] = ()
    instance: Instance | None = None
    foreign_owner: str = ""
    """Of a STRAY: whose it is, where it is none of this project's."""

    @property
    def ok(self) -> bool:
        return self.state.ok


def misnamed(declared_name: str, instance: Instance | None) -> str:
    """Say that an agent has registered another name than the declared one; empty if not, or if it is not known."""
    if instance is None or instance.agent_name is None or instance.agent_name == declared_name:
        return ""
    return f"registered as {instance.agent_name!r}, the inventory declares {declared_name!r}: calls do not reach it"


def _canary(one: Instance) -> str:
    return f"release {one.release} is a canary with {one.share:.0%} of new calls (pid {one.pid})"


def judge(observed: Observed) -> ServiceVerdict:
    """The one word for a service. What is wrong wins over what is right."""
    serving = tuple(one for one in observed.current if one.share == 1)
    canaries = tuple(one for one in observed.current if one.share < 1)
    current = serving or canaries
    pids = tuple(one.pid for one in current)
    first = current[0] if current else None
    if len(current) > 1:
        detail = f"{len(current)} instances run: pids {', '.join(map(str, pids))}"
        return ServiceVerdict(state=ServiceState.DUPLICATE, detail=detail, pids=pids, instance=first)
    if observed.strays:
        stray = observed.strays[0]
        strays = tuple(one.pid for one in observed.strays if one.pid)
        return ServiceVerdict(
            state=ServiceState.STRAY,
            detail=stray.reason,
            pids=(*pids, *strays),
            instance=first,
            foreign_owner=stray.foreign_owner,
        )
    if first is not None:
        detail = "; ".join(filter(None, (first.detail, *map(_canary, canaries))))
        return ServiceVerdict(state=first.state, detail=detail, pids=pids, instance=first)
    if observed.draining:
        last = observed.draining[-1]
        return ServiceVerdict(
            state=ServiceState.DRAINING,
            detail=last.detail or f"told to stop; {counted(last.calls, 'call')} left",
            pids=tuple(one.pid for one in observed.draining),
            instance=last,
        )
    if observed.ended is not None:
        return ServiceVerdict(
            state=observed.ended.state, detail=observed.ended.detail, instance=observed.ended
        )
    if observed.stale:
        return ServiceVerdict(state=ServiceState.STALE, detail=observed.stale)
    return ServiceVerdict(state=ServiceState.MISSING, detail="not running")
