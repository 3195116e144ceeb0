"""The rules of the cache: what is fresh, who fetches, what an error leaves behind.

One ``FunctionCache`` holds the values of one cached function. It does no I/O: ``cache`` drives it
in the process itself, ``cachehub`` on behalf of all job processes of a worker.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class CacheOptions:
    """How long values live."""

    ttl_s: float = 30.0
    timeout_s: float = 3.0
    """A fetch that takes longer counts as failed: nobody waits for it any more. It may go on for
    another ``retry_after_s``, so that a slow source fills the cache after all."""
    retry_after_s: float = 5.0
    """After a failure the source is left alone for this long."""
    patience_s: float = 1.0
    """With an old value at hand, nobody waits longer than this for a new one."""
    max_stale_s: float = 3600.0
    """Older values are not served, not even instead of an error."""
    max_entries: int = 1024


@dataclass(frozen=True)
class CacheHit:
    """A value; ``stale`` when it is past its time and stands in for an error."""

    value: Any
    stale: bool = False


@dataclass(frozen=True)
class FetchLease:
    """The asker is to fetch the value, then ``put`` or ``fail`` with this ticket."""

    ticket: int


@dataclass(frozen=True)
class FetchFailed:
    """The source failed, and there is nothing old to serve."""

    message: str


Answer = Union[CacheHit, FetchLease, FetchFailed]


@dataclass
class Counters:
    hits: int = 0
    misses: int = 0
    stale: int = 0
    """Old values that stood in for what the source did not give."""
    errors: int = 0
    """Fetches that failed or took too long."""
    failed: int = 0
    """Askers who got no value because a fetch of somebody else failed or takes too long."""


@dataclass
class _Entry:
    value: object
    stored_at: float


@dataclass
class _PendingFetch:
    key: str
    generation: int
    began_at: float
    retry: bool = False
    """The source failed a moment ago, and one asker tries whether it is back."""
    overdue: bool = False
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: CacheHit | FetchFailed | None = None
    """None after landing: the leader vanished, and the next asker leads."""


class FunctionCache:
    """The values of one function, by key."""

    def __init__(self, options: CacheOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.counters = Counters()
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._flights: dict[str, int] = {}
        self._tickets: dict[int, _PendingFetch] = {}
        self._failures: dict[str, tuple[float, str]] = {}
        self._generation = 0
        self._last_ticket = 0

    async def claim(self, key: str) -> Answer:
        """The value, an order to fetch it, or why there is none. Waits for a fetch under way.

        However many fetches hang one after the other: only who asks within ``timeout_s`` of the
        begin of one waits, and behind a source that failed a moment ago only who fetches.
        """
        while True:
            flight = self._under_way(key)
            answer = self._at_hand(key)
            if answer is not None:
                return self._count(answer)
            if flight is None:
                return self._count(self._begin(key))
            if flight.retry:
                return self._count(self._instead(key))
            await self._landing(flight)
            if flight.outcome is not None:
                return self._count(flight.outcome)
            if not flight.landed.is_set():
                # Overdue, which is a failure by now; or out of patience, with an old value.
                self._under_way(key)
                return self._count(self._instead(key))

    def put(self, ticket: int, value: object) -> None:
        """The fetch succeeded. Not kept when ``invalidate`` came in between."""
        flight = self._land(ticket, CacheHit(value))
        if flight is None or flight.generation != self._generation:
            return
        self._failures.pop(flight.key, None)
        self._entries[flight.key] = _Entry(value, self._clock())
        self._entries.move_to_end(flight.key)
        while len(self._entries) > self.options.max_entries:
            self._entries.popitem(last=False)

    def fail(self, ticket: int, message: str) -> CacheHit | None:
        """The fetch failed; the old value to serve instead, if there is one."""
        flight = self._tickets.get(ticket)
        if flight is None:
            return None
        stale = self._stale(flight.key)
        if not self._is_overdue(flight):
            self._note_failure(flight, self._clock(), message)
        self._land(ticket, stale or FetchFailed(message))
        if stale is not None:
            self._count(stale)
        return stale

    def abandon(self, ticket: int) -> None:
        """The leader vanished without a word; whoever waits or asks next leads.

        Unless the fetch had taken too long already: then the pause of a failed source holds.
        """
        flight = self._tickets.get(ticket)
        if flight is not None:
            self._is_overdue(flight)
            self._land(ticket, None)

    def stale(self, key: str) -> CacheHit | None:
        """The old value, for a leader whose fetch exceeds ``patience_s``."""
        found = self._stale(key)
        if found is not None:
            self._count(found)
        return found

    def invalidate(self, key: str | None = None) -> None:
        """Forget one value or all; a fetch under way is not kept, later askers fetch anew."""
        self._generation += 1
        self._flights.clear()
        if key is None:
            self._entries.clear()
            self._failures.clear()
        else:
            self._entries.pop(key, None)
            self._failures.pop(key, None)

    def _at_hand(self, key: str) -> CacheHit | FetchFailed | None:
        entry = self._entries.get(key)
        now = self._clock()
        if entry is not None and now - entry.stored_at < self.options.ttl_s:
            return CacheHit(entry.value)
        failure = self._failures.get(key)
        if failure is not None and now - failure[0] < self.options.retry_after_s:
            return self._stale(key) or FetchFailed(failure[1])
        return None

    def _stale(self, key: str) -> CacheHit | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.stored_at > self.options.max_stale_s:
            return None
        return CacheHit(entry.value, stale=True)

    def _instead(self, key: str) -> CacheHit | FetchFailed:
        """What there is without the source."""
        _, message = self._failures.get(key, (0.0, "the source takes too long"))
        return self._stale(key) or FetchFailed(message)

    def _begin(self, key: str) -> FetchLease:
        now = self._clock()
        failed_at, _ = self._failures.get(key, (-math.inf, ""))
        # A failure of long ago says nothing: askers share this fetch like any other.
        retry = now - failed_at < 2 * self.options.retry_after_s
        self._last_ticket += 1
        self._flights[key] = self._last_ticket
        self._tickets[self._last_ticket] = _PendingFetch(key, self._generation, now, retry)
        return FetchLease(self._last_ticket)

    def _under_way(self, key: str) -> _PendingFetch | None:
        """The fetch that still counts; one that hangs past its pause is given up for the next."""
        ticket = self._flights.get(key)
        if ticket is None:
            return None
        flight = self._tickets[ticket]
        if self._is_overdue(flight) and self._age(flight) >= self._longest_s:
            del self._flights[key]
            return None
        return flight

    def _is_overdue(self, flight: _PendingFetch) -> bool:
        """Whether a fetch has taken too long; the first time that it has, this is a failure."""
        if not flight.overdue and self._age(flight) >= self.options.timeout_s:
            flight.overdue = True
            text = f"the source did not answer within {self.options.timeout_s:g} s"
            self._note_failure(flight, flight.began_at + self.options.timeout_s, text)
        return flight.overdue

    def _note_failure(self, flight: _PendingFetch, at: float, message: str) -> None:
        self.counters.errors += 1
        if flight.generation != self._generation:
            return
        self._failures[flight.key] = (at, message)
        while len(self._failures) > self.options.max_entries:
            self._failures.pop(next(iter(self._failures)))

    @property
    def _longest_s(self) -> float:
        return self.options.timeout_s + self.options.retry_after_s

    def _age(self, flight: _PendingFetch) -> float:
        return self._clock() - flight.began_at

    async def _landing(self, flight: _PendingFetch) -> None:
        """Wait for a fetch, at most until it is overdue, or patience ends and an old value is at hand."""
        limit_s = self.options.timeout_s
        if self._stale(flight.key) is not None:
            limit_s = min(limit_s, self.options.patience_s)
        waiting = asyncio.ensure_future(flight.landed.wait())
        try:
            await asyncio.wait({waiting}, timeout=max(0.0, limit_s - self._age(flight)))
        finally:
            waiting.cancel()

    def _land(self, ticket: int, outcome: CacheHit | FetchFailed | None) -> _PendingFetch | None:
        flight = self._tickets.pop(ticket, None)
        if flight is None:
            return None
        if self._flights.get(flight.key) == ticket:
            del self._flights[flight.key]
        flight.outcome = outcome
        flight.landed.set()
        return flight

    def _count(self, answer: Answer) -> Answer:
        if isinstance(answer, FetchLease):
            self.counters.misses += 1
        elif isinstance(answer, CacheHit):
            if answer.stale:
                self.counters.stale += 1
            else:
                self.counters.hits += 1
        else:
            self.counters.failed += 1
        return answer
