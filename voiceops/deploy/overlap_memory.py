"""Whether a host has the memory for two generations of an agent at once."""

from __future__ import annotations

from collections.abc import Sequence

from voiceops.errors import ServiceError
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.messages import MemoryAnswer, MemoryRequest
from voiceops.stack.reconcile import Action, Verb
from voiceops.systemd.names import HostNames

MARGIN = 0.05
"""Of all memory, which stays free: below that Linux begins to kill."""
_TIMEOUT_S = 30.0


def overlapped(actions: Sequence[Action]) -> list[str]:
    """Return the units that are replaced while they serve."""
    return [one.instance.launch for one in actions if one.verb is Verb.OVERLAP and one.instance is not None]


def refuse_without_memory(transport: Transport, names: HostNames, actions: Sequence[Action]) -> None:
    """``ServiceError`` if the new generation would not fit beside the old one. Changes nothing."""
    units = overlapped(actions)
    if not units:
        return
    request = MemoryRequest(state_dir=names.state, units=units)
    missing = missing_memory(call(transport, verbs.MEMORY, request, timeout_s=_TIMEOUT_S))
    if missing:
        raise ServiceError(
            f"{transport.name}: {missing}; nothing was changed",
            hint="`deploy.overlap: never` drains the old one first: callers then wait until the new one is ready; "
            "`always` overlaps nevertheless",
            data={"host": transport.name},
        )


def missing_memory(memory: MemoryAnswer) -> str:
    """Say by how much it does not fit, empty where it does: a new one takes what the old one takes now."""
    needed = sum(memory["units"].values())
    spare = memory["available_bytes"] - round(MARGIN * memory["total_bytes"])
    if needed <= spare:
        return ""
    return (
        f"old and new agent do not fit beside each other: the old one takes {_shown(needed)}, "
        f"{_shown(memory['available_bytes'])} of {_shown(memory['total_bytes'])} are available and "
        f"{MARGIN:.0%} stay free"
    )


def _shown(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
