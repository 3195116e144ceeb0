"""Start an agent that callers reach only once it is proved: the run before it takes all of them meanwhile."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from voiceops.deadline import Deadline
from voiceops.errors import ServiceError, VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.stack.backend import StopForce
from voiceops.stack.model import Instance, Observed
from voiceops.stack.stack import Canary, Prove
from voiceops.stack.systemd.backend import Gate, SystemdBackend

_OPEN_S = 20.0
"""How long one that is proved may take to register its own name; its loop may be blocked by the very call."""
_END_S = 30.0
"""A machine under load takes its time to kill, too."""


def gated_start(
    backend: SystemdBackend, service: Declared, limit: Deadline, prove: Prove, canary: Canary | None = None
) -> Instance:
    """Start a run, prove it, let callers reach it. What fails before that is ended, and no caller has met it.

    A ``canary`` takes a share of them for a time first; one that does not stand it drains. Where it can't be known
    whether callers reach it, as when the connection is cut while its gate is opened, it goes on.
    """
    proof_name = f"proof-{secrets.token_hex(8)}"
    started = backend.start(service, proof_name=proof_name)
    opened = False

    def observe() -> Observed:
        return backend.observe((service,)).get(service.name, Observed())

    def ended() -> bool:
        return observe().has_ended(new)

    try:
        new = backend.wait_ready(service, started, limit, gate=Gate.CLOSED)
        if not new.proving:
            # An agentkit that knows of no gates: it takes calls already.
            return backend.wait_ready(service, new, limit)
        _prove(backend, service, new, lambda: prove(service, proof_name, ended))
        opened = True
        opening = Deadline(min(backend.settle_s + _OPEN_S, limit.remaining_s), "registering its own name")
        reached = backend.wait_ready(
            service,
            new,
            opening,
            not_worker_id=new.worker_id,
            gate=Gate.OPEN,
            pid=new.pid,
            share=canary.share if canary else 1.0,
        )
    except BaseException as error:
        # A ServiceError is the host's own answer: it has not registered its name, so nobody was sent to it.
        if opened and not isinstance(error, ServiceError):
            raise
        try:
            backend.end(started, Deadline(_END_S, "ending the new one"), StopForce.KILL)
        except VoiceopsError as left:
            # Why it was to end says more than that it did not.
            if isinstance(error, VoiceopsError):
                error.add_context(after=f"; {left.message}")
        raise
    return _share_calls(backend, service, reached, limit, canary, observe) if canary else reached


def _share_calls(
    backend: SystemdBackend,
    service: Declared,
    new: Instance,
    limit: Deadline,
    canary: Canary,
    observe: Callable[[], Observed],
) -> Instance:
    """Let the run take its share of new calls for a time, then all; where it does not stand that, it drains."""
    try:
        canary.watch(service, new, observe)
        opening = Deadline(min(_OPEN_S, limit.remaining_s), "taking all new calls")
        return backend.wait_ready(service, new, opening, gate=Gate.OPEN, pid=new.pid)
    except ServiceError as error:
        try:
            backend.end(new, Deadline(_END_S, "draining the canary"), StopForce.BEGIN)
        except VoiceopsError as left:
            error.add_context(after=f"; {left.message}")
        raise


def _prove(backend: SystemdBackend, service: Declared, new: Instance, prove: Callable[[], None]) -> None:
    """Have the run proved; to the failure of its call add what the host knows: that it has ended, or is blocked."""
    try:
        prove()
    except ServiceError as error:
        if error.data.get("service") == service.name and not error.data.get("raised"):
            try:
                backend.wait_ready(service, new, Deadline(0.0, "its call"), gate=Gate.CLOSED, pid=new.pid)
            except ServiceError as ended:
                error.add_context(after=f"; {ended.message}")
                # Of the run that was called; the next one may have written the last lines of the release's log.
                error.log_tail = ended.log_tail or error.log_tail
        raise
