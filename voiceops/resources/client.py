"""Bring a host to its desired state, or compare it with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import SILENCE_S, Event, call, held_call
from voiceops.remote.lease import Lease, state_folder
from voiceops.remote.messages import ApplyRequest, CheckRequest, HostFacts, HostProbe, HostRequest
from voiceops.resources.model import State
from voiceops.resources.report import HostReport, read_report


def apply(
    transport: Transport,
    state: State,
    *,
    lease: Lease | None = None,
    diff: bool = False,
    on_event: Event | None = None,
    silence_s: float = SILENCE_S,
) -> HostReport:
    """Bring the host to ``state``. Safe to call again at any time, also after a run that was cut off.

    A resource that fails is in the report, not raised. Raises ``LockedError`` (somebody else is at
    it), ``UnreachableError``, ``HostError`` (no usable Python, newer state), ``StorageError``.
    """
    with applied(
        transport,
        state,
        lease=lease or Lease(),
        stay_s=0.0,
        diff=diff,
        on_event=on_event,
        silence_s=silence_s,
    ) as report:
        return report


@contextlib.contextmanager
def applied(
    transport: Transport,
    state: State,
    *,
    lease: Lease,
    stay_s: float,
    diff: bool = False,
    on_event: Event | None = None,
    silence_s: float = SILENCE_S,
) -> Iterator[HostReport]:
    """``apply``, and the host stays locked until the block ends, this process dies, or ``stay_s`` is over."""
    request: ApplyRequest = {
        "state_dir": state.folder,
        "resources": state.specs,
        "diff": diff,
        "lock": lease.request(),
        "stay_s": stay_s,
    }
    with held_call(
        transport,
        verbs.APPLY,
        request,
        timeout_s=silence_s,
        contents=state.contents,
        on_event=on_event,
    ) as answer:
        yield read_report(transport.name, state, answer)


def check(
    transport: Transport,
    state: State,
    *,
    diff: bool = False,
    probe: HostProbe | None = None,
    silence_s: float = SILENCE_S,
) -> HostReport:
    """Return what ``apply`` would do, as far as the host can know without doing it. Changes nothing.

    ``probe``: observe the services as well, in the same exec, unless a resource fails.
    """
    request: CheckRequest = {
        "state_dir": state.folder,
        "resources": state.specs,
        "diff": diff,
        "probe": probe,
    }
    answer = call(transport, verbs.CHECK, request, timeout_s=silence_s)
    return read_report(transport.name, state, answer)


def read_facts(transport: Transport, project: str) -> HostFacts:
    """Return Python, architecture and system of the host, and under ``lease`` who holds its lock."""
    return call(transport, verbs.FACTS, HostRequest(state_dir=state_folder(project)))
