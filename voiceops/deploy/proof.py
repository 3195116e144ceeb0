"""Prove by real calls that the agent which a deploy has just started answers, and judge whose fault a failure is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from voiceops.errors import VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.model.calls import CallResult, FailureKind
from voiceops.ports import Transport
from voiceops.stack.logs.cause import raised_in
from voiceops.stack.logs.files import brief
from voiceops.systemd.names import HostNames

ATTEMPTS = 3
_FAILURES = 2
"""A full machine can keep one caller waiting for longer than a call's timeout; not two in a row."""
_SAYS_NOTHING = {FailureKind.CREDENTIALS, FailureKind.NO_CONNECT, FailureKind.CALLER}
"""Failures before any agent has its turn."""
_LOG_LINES = 400
_TAIL_LINES = 10

PlaceCall = Callable[[str], CallResult]
"""One real call to the agent service of that name; ``VoiceopsError`` where none can be placed."""
ReadLog = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseProof:
    """What the calls to a release have shown."""

    call: CallResult | None = None
    """The last one; None where none could be placed."""
    cause: str = ""
    """Why it is no proof; empty: an agent answered."""
    blames_agent: bool = False
    """The failure is the agent's: the call reached LiveKit, and no agent answered it as it should."""
    raised: bool = False
    """The agent's log shows an exception: no other release's failure can excuse it."""
    log_tail: tuple[str, ...] = ()
    elsewhere: bool = False
    """An agent of another host answered each of the calls."""

    @property
    def ok(self) -> bool:
        return not self.cause


def prove_agent(
    service: str,
    place: PlaceCall,
    read_log: ReadLog,
    *,
    shared: bool,
    ended: Callable[[], bool] = lambda: False,
) -> ReleaseProof:
    """Call until this host's agent has answered, or has failed beyond doubt.

    ``shared``: agents of other hosts get calls of the same LiveKit, so an answer counts only once the
    log of this host's agent names the call's room. A failed call is repeated unless the log shows a
    traceback, that this agent had it, or that its run has ``ended``.
    """
    failures = 0
    proof = ReleaseProof()
    for _ in range(ATTEMPTS):
        try:
            call = place(service)
        except VoiceopsError as error:
            return ReleaseProof(cause=f"no call could be placed: {error.message}", log_tail=error.log_tail)
        if call.failure is None:
            taken = not shared or _names_room(read_log(), call)
            proof = ReleaseProof(call=call, elsewhere=not taken)
            if taken:
                return proof
            continue
        if call.failure.kind in _SAYS_NOTHING:
            return ReleaseProof(call=call, cause=f"the call reached no agent ({call.failure.detail})")
        log = read_log()
        failures += 1
        raised = raised_in(log)
        cause = f"{call.failure.detail}: {raised}" if raised else call.failure.detail
        proof = ReleaseProof(
            call=call, cause=cause, blames_agent=True, raised=bool(raised), log_tail=log_tail(log, raised)
        )
        if raised or (shared and _names_room(log, call)) or failures >= _FAILURES or ended():
            return proof
    return proof


def read_release_log(transport: Transport, names: HostNames, service: Declared) -> tuple[str, ...]:
    """The last lines that the instances of a release wrote to the host's journal."""
    unit = names.unit(service.name, service.release).replace(".service", "*.service")
    journal = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"--lines={_LOG_LINES}",
        f"--unit={unit}",
    ]
    synced = ["sh", "-c", 'journalctl --sync; exec "$@"', "sh", *journal]
    ended = transport.run(synced, root=True, timeout_s=60.0)
    return tuple(ended.stdout.decode(errors="replace").splitlines())


def _names_room(log: Sequence[str], call: CallResult) -> bool:
    return any(call.room in line for line in log)


def log_tail(log: Sequence[str], raised: str) -> tuple[str, ...]:
    """The last lines; with an exception, those that end with it."""
    said = raised.rpartition(" (")[0]
    ends = [number for number, line in enumerate(log, 1) if said and said in brief(line)]
    shown = log[: ends[-1]] if ends else log
    return tuple(brief(line)[:500] for line in shown if line.strip())[-_TAIL_LINES:]
