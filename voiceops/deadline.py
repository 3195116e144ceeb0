"""Waiting under a deadline that says what it waited for.

Monotonic time only: a wall clock that jumps must not end a wait. The clock is
injected where a test needs it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voiceops.errors import DeadlineError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic time, and the name of what has to happen before it."""

    timeout_s: float
    what: str
    clock: Clock = time.monotonic
    _ends_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends_at", self.clock() + self.timeout_s)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._ends_at - self.clock())

    @property
    def expired(self) -> bool:
        return self.clock() >= self._ends_at

    def error(self, seen: str = "") -> DeadlineError:
        """The error that says what was waited for, how long, and what was seen instead."""
        return DeadlineError(
            f"{self.what} took longer than {self.timeout_s:g} s" + (f"; {seen}" if seen else ""),
            data={"timeout_s": self.timeout_s, "waited_for": self.what},
        )

    def check(self, seen: str = "") -> None:
        """Raise ``DeadlineError`` once the time is up."""
        if self.expired:
            raise self.error(seen)


def deadline(timeout_s: float, what: str) -> AbstractAsyncContextManager[Deadline]:
    """``async with deadline(10, "waiting for the agent"):`` bounds the block.

    Raises ``DeadlineError`` naming ``what`` when the block takes longer. A
    cancellation from outside passes through untouched.
    """
    return _bounded(Deadline(timeout_s, what))


@asynccontextmanager
async def _bounded(limit: Deadline) -> AsyncIterator[Deadline]:
    """Cancel the block when the deadline passes and raise its error instead.

    Python 3.10 has no ``asyncio.timeout``: this is its core. Only a cancel that the
    timer itself asked for becomes a ``DeadlineError``.
    """
    import asyncio  # costs 40 ms that most commands don't need

    task = asyncio.current_task()
    assert task is not None, "deadline() works inside a task"
    fired = False

    def expire() -> None:
        nonlocal fired
        fired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(limit.remaining_s, expire)
    try:
        yield limit
    except asyncio.CancelledError:
        if not fired:
            raise
        uncancel = getattr(task, "uncancel", None)
        if uncancel is not None and uncancel() > 0:
            raise  # somebody else cancelled as well: theirs wins
        raise limit.error() from None
    finally:
        timer.cancel()
