"""Which rooms hold a person: what makes a job of an agent a call.

An agent lists a room as long as its job lives, up to 20 s after the caller has left; a
caller who waits for an agent is in no agent's list. Only the server knows who is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from voiceops.model.calls import ROOM_PREFIX
from voiceops.stack.model import Instance
from voiceops.stack.results import Progress, calls_error

_POLL_S = 1.0


class Occupancy(Protocol):
    """The server of a stack, asked about people."""

    def occupied(self) -> frozenset[str] | None:
        """Names of the rooms with a person in them; None when the server does not answer in time.

        Raises ``CallsInProgressError`` when it answers and can't say.
        """

    def hang_up(self, rooms: Sequence[str]) -> None:
        """End these calls: callers are told at once instead of hearing silence for 20 s."""


def calls_of(rooms: Sequence[str], occupied: frozenset[str] | None, *, whole_server: bool) -> tuple[str, ...]:
    """The calls among the agents' ``rooms``, and all others of the server when that ends too.

    What an agent could not name (it starts with a parenthesis) counts: better one question too many.
    """
    if occupied is None:
        # The jobs of our own synthetic calls outlive them by seconds, and nobody would be cut off.
        return tuple(room for room in rooms if not room.startswith(ROOM_PREFIX))
    own = [room for room in rooms if room in occupied or room.startswith("(")]
    return tuple(dict.fromkeys([*own, *(sorted(occupied) if whole_server else ())]))


def forsaken(instances: Iterable[Instance], occupied: frozenset[str] | None) -> frozenset[str]:
    """Launches of agents whose jobs all lie in rooms that people have left: nothing to wait for."""
    if occupied is None:
        return frozenset()
    return frozenset(
        one.launch
        for one in instances
        if one.calls and len(one.rooms) >= one.calls and not occupied.intersection(one.rooms)
    )


def wait_for_people(occupancy: Occupancy, drain_s: float, progress: Progress) -> None:
    """A server whose agents run on other hosts drains like this: it waits until its callers have left.

    ``CallsInProgressError`` when they stay longer than ``drain_s``.
    """
    ends_at = time.monotonic() + drain_s
    while rooms := occupancy.occupied():
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            raise calls_error(
                sorted(rooms), f"they did not end within {drain_s:g} s; nothing was stopped here"
            )
        progress("calls", "draining", f"{len(rooms)} in progress, up to {drain_s:g} s")
        time.sleep(min(_POLL_S, left_s))
