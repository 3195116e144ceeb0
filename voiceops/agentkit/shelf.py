"""The rules of the cache: what is fresh, who fetches, what an error leaves behind.

One ``Shelf`` holds the values of one cached function. It does no I/O: ``cache`` drives it
in the process itself, ``cachehub`` on behalf of all job processes of a worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union


@dataclass(frozen=True)
class ShelfOptions:
    """How long values live."""

    ttl_s: float = 30.0
    retry_after_s: float = 1.0
    """After an error the source is left alone for this long."""
    patience_s: float = 1.0
    """With an old value at hand, a refresh that takes longer counts as an error."""
    max_stale_s: float = 3600.0
    """Older values are not served, not even instead of an error."""
    max_entries: int = 1024


@dataclass(frozen=True)
class Hit:
    """A value; ``stale`` when it is past its time and stands in for an error."""

    value: Any
    stale: bool = False


@dataclass(frozen=True)
class Lead:
    """The asker is to fetch the value, then ``put`` or ``fail`` with this ticket."""

    ticket: int


@dataclass(frozen=True)
class Failed:
    """The source failed, and there is nothing old to serve."""

    message: str


Answer = Union[Hit, Lead, Failed]


@dataclass
class Counters:
    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0


@dataclass
class _Entry:
    value: Any
    stored_at: float


@dataclass
class _Flight:
    key: str
    generation: int
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Hit | Failed | None = None
    """None after landing: the leader vanished, and the next asker leads."""


class Shelf:
    """The values of one function, by key."""

    def __init__(self, options: ShelfOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.counters = Counters()
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._flights: dict[str, int] = {}
        self._tickets: dict[int, _Flight] = {}
        self._failures: dict[str, tuple[float, str]] = {}
        self._generation = 0
        self._last_ticket = 0

    async def claim(self, key: str) -> Answer:
        """The value, an order to fetch it, or why there is none. Waits for a fetch under way."""
        while True:
            answer = self._at_hand(key)
            if answer is not None:
                return self._count(answer)
            ticket = self._flights.get(key)
            if ticket is None:
                return self._count(self._begin(key))
            flight = self._tickets[ticket]
            if not await self._landed(flight, key):
                stale = self._stale(key)
                if stale is not None:
                    return self._count(stale)
                await flight.landed.wait()
            if flight.outcome is not None:
                return self._count(flight.outcome)

    def put(self, ticket: int, value: Any) -> None:
        """The fetch succeeded. Not kept when ``invalidate`` came in between."""
        flight = self._land(ticket, Hit(value))
        if flight is None or flight.generation != self._generation:
            return
        self._failures.pop(flight.key, None)
        self._entries[flight.key] = _Entry(value, self._clock())
        self._entries.move_to_end(flight.key)
        while len(self._entries) > self.options.max_entries:
            self._entries.popitem(last=False)

    def fail(self, ticket: int, message: str) -> Hit | None:
        """The fetch failed; the old value to serve instead, if there is one."""
        flight = self._tickets.get(ticket)
        if flight is None:
            return None
        self.counters.errors += 1
        stale = self._stale(flight.key)
        if flight.generation == self._generation:
            self._failures[flight.key] = (self._clock(), message)
            while len(self._failures) > self.options.max_entries:
                self._failures.pop(next(iter(self._failures)))
        self._land(ticket, stale or Failed(message))
        if stale is not None:
            self._count(stale)
        return stale

    def abandon(self, ticket: int) -> None:
        """The leader vanished without a word; whoever waits or asks next leads."""
        self._land(ticket, None)

    def stale(self, key: str) -> Hit | None:
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

    def _at_hand(self, key: str) -> Hit | Failed | None:
        entry = self._entries.get(key)
        now = self._clock()
        if entry is not None and now - entry.stored_at < self.options.ttl_s:
            return Hit(entry.value)
        failure = self._failures.get(key)
        if failure is not None and now - failure[0] < self.options.retry_after_s:
            return self._stale(key) or Failed(failure[1])
        return None

    def _stale(self, key: str) -> Hit | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() - entry.stored_at > self.options.max_stale_s:
            return None
        return Hit(entry.value, stale=True)

    def _begin(self, key: str) -> Lead:
        self._last_ticket += 1
        self._flights[key] = self._last_ticket
        self._tickets[self._last_ticket] = _Flight(key, self._generation)
        return Lead(self._last_ticket)

    async def _landed(self, flight: _Flight, key: str) -> bool:
        """Wait for a fetch; False when patience ended first and an old value is at hand."""
        if self._stale(key) is None:
            await flight.landed.wait()
            return True
        waiting = asyncio.ensure_future(flight.landed.wait())
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self.options.patience_s)
        finally:
            waiting.cancel()
        return bool(done)

    def _land(self, ticket: int, outcome: Hit | Failed | None) -> _Flight | None:
        flight = self._tickets.pop(ticket, None)
        if flight is None:
            return None
        if self._flights.get(flight.key) == ticket:
            del self._flights[flight.key]
        flight.outcome = outcome
        flight.landed.set()
        return flight

    def _count(self, answer: Answer) -> Answer:
        if isinstance(answer, Lead):
            self.counters.misses += 1
        elif isinstance(answer, Hit):
            if answer.stale:
                self.counters.stale += 1
            else:
                self.counters.hits += 1
        return answer
