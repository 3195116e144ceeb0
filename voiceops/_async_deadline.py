"""The asyncio half of ``voiceops.deadline``, apart so that fast commands don't import asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from voiceops.deadline import Deadline


@asynccontextmanager
async def bounded(limit: Deadline) -> AsyncIterator[Deadline]:
    """Cancel the block when the deadline passes and raise its error instead.

    Python 3.10 has no ``asyncio.timeout``: this is its core. Only a cancel that the
    timer itself asked for becomes a ``DeadlineError``.
    """
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
