"""A caller that is ready before there is anybody to call: its process loads while an agent still starts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

from voiceops.calls.pool import CallerPool
from voiceops.calls.ports import Callers, Why
from voiceops.calls.stats import CallReport
from voiceops.errors import VoiceopsError
from voiceops.model.calls import CallFailure, CallPlan, CallResult, CallTarget, FailureKind

LOOK_AFTER_S = 2.0
"""A good agent is heard before that; from then on it is asked whether it has ended."""
LOOK_EVERY_S = 1.5
_CLOSE_S = 30.0


class RunCalls(Protocol):
    """Places the calls of a plan; what it clears up after them may take longer than they do."""

    def __call__(
        self,
        target: CallTarget,
        plan: CallPlan,
        *,
        callers: Callers,
        why: Why | None,
        on_result: Callable[[CallResult], None] | None,
    ) -> Awaitable[CallReport]: ...


class StandbyCaller:
    """Places one call after the other, from a thread with an event loop of its own.

    A result is there as soon as the call is over; its room is deleted meanwhile, at the latest by ``close``.
    """

    def __init__(self, run: RunCalls, *, make_pool: Callable[[], CallerPool] = CallerPool) -> None:
        self._run = run
        self._make_pool = make_pool
        self._loop = asyncio.new_event_loop()
        # A daemon: a second Ctrl-C leaves at once. Its caller's process ends with the pipe to it.
        self._thread = threading.Thread(target=self._loop.run_forever, name="standby-caller", daemon=True)
        self._pool: CallerPool | None = None
        self._calls: set[asyncio.Future[CallReport]] = set()
        self._thread.start()
        self._warming = asyncio.run_coroutine_threadsafe(self._warm_up(), self._loop)

    def place(
        self,
        target: CallTarget,
        *,
        timeout_s: float,
        why: Why | None = None,
        ended: Callable[[], bool] = lambda: False,
    ) -> CallResult:
        """One call; it fails at once where ``ended`` says that whom it waits for is gone."""
        self._warming.result()
        placing = self._place(target, CallPlan(timeout_s=timeout_s), why, ended)
        placed = asyncio.run_coroutine_threadsafe(placing, self._loop)
        try:
            return placed.result()
        except BaseException:
            placed.cancel()  # Ctrl-C: the caller hangs up
            raise

    def close(self) -> None:
        """Clear up after the calls and end the caller's process. Safe to call again."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _warm_up(self) -> None:
        self._pool = self._make_pool()
        await self._pool.warm_up(CallPlan())

    async def _place(
        self, target: CallTarget, plan: CallPlan, why: Why | None, ended: Callable[[], bool]
    ) -> CallResult:
        assert self._pool is not None
        heard: asyncio.Future[CallResult] = self._loop.create_future()
        calling = asyncio.ensure_future(
            self._run(target, plan, callers=self._pool, why=why, on_result=heard.set_result)
        )
        self._calls.add(calling)
        watching = asyncio.ensure_future(_until(ended))
        try:
            over: set[asyncio.Future[CallResult] | asyncio.Future[CallReport] | asyncio.Future[None]]
            over = {heard, calling, watching}
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            if not heard.done():
                calling.cancel()
        if heard.done():
            return heard.result()
        if calling.done():
            return calling.result().results[0]  # or what it raised
        failure = CallFailure(kind=FailureKind.NO_AGENT, detail="the agent ended before it was heard")
        return CallResult(id=0, ok=False, room="", identity="", failure=failure)

    async def _end(self) -> None:
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=_CLOSE_S)
            for call in late:
                call.cancel()
            # What went wrong while clearing up has been reported, or leaves a room that the server ends by itself.
            await asyncio.gather(*self._calls, return_exceptions=True)
        if self._pool is not None:
            await self._pool.aclose()
        await self._loop.shutdown_default_executor()


async def _until(ended: Callable[[], bool]) -> None:
    """Return once ``ended`` says so; a host that does not answer says nothing."""
    await asyncio.sleep(LOOK_AFTER_S)
    while True:
        try:
            if await asyncio.to_thread(ended):
                return
        except VoiceopsError:
            pass  # the deploy meets it as well, and says it
        await asyncio.sleep(LOOK_EVERY_S)
