"""Callers in this very process: enough for a few calls at once, with nothing to start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from voiceops.calls.call import converse
from voiceops.calls.lag import LagMeter
from voiceops.calls.ports import Inquiry, Phone
from voiceops.model.calls import CallJob, CallResult

MakePhone = Callable[[CallJob], Phone]


class LocalCallers:
    """Places calls from the running event loop."""

    def __init__(self, make_phone: MakePhone) -> None:
        self._make_phone = make_phone
        self._lag = LagMeter()
        self._cpu_before = time.process_time()

    async def place(self, job: CallJob, inquire: Inquiry | None = None) -> CallResult:
        self._lag.start()
        return await converse(self._make_phone(job), job, inquire=inquire)

    async def usage(self) -> tuple[int, float, Sequence[float]]:
        """Processes beside this one, CPU seconds, lags."""
        return 0, time.process_time() - self._cpu_before, tuple(self._lag.lags)

    async def aclose(self) -> None:
        await self._lag.stop()
        await asyncio.sleep(0)
