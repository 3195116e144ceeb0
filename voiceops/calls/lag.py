"""How late an event loop wakes up: the measure of a caller that is too slow for its calls."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_EVERY_S = 0.05
_KEEP = 2000


class LagMeter:
    """Sleeps a little, again and again, and notes by how much each sleep was too long."""

    def __init__(self) -> None:
        self.lags: deque[float] = deque(maxlen=_KEEP)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the loop that runs now; a second start does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_EVERY_S)
            self.lags.append(max(0.0, time.monotonic() - before - _EVERY_S))
