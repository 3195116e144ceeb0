"""Build the callers that place calls from this machine."""

from __future__ import annotations

from collections.abc import Callable

from voiceops.adapters.wav import read_wav
from voiceops.calls.pool import CallerPool
from voiceops.calls.ports import Callers, Why
from voiceops.calls.standby import StandbyCaller
from voiceops.calls.stats import CallReport
from voiceops.model.calls import CallPlan, CallResult, CallTarget
from voiceops.util import aio


async def run_calls(
    target: CallTarget,
    plan: CallPlan,
    *,
    why: Why | None = None,
    on_result: Callable[[CallResult], None] | None = None,
) -> CallReport:
    """Place synthetic calls and delete the rooms they made; see ``voiceops.calls.run``."""
    if plan.script:
        read_wav(plan.script)  # refused here, not once per call
    pool = CallerPool()
    try:
        # The caller process imports LiveKit's engine while this one imports the API.
        await pool.warm_up(plan)
        return await _run_on_livekit(target, plan, callers=pool, why=why, on_result=on_result)
    finally:
        await pool.aclose()


def place_call(target: CallTarget, *, timeout_s: float = 15.0, why: Why | None = None) -> CallResult:
    """One synthetic call, from synchronous code: the proof that an agent answers."""
    return aio.run(run_calls(target, CallPlan(timeout_s=timeout_s), why=why)).results[0]


def standby_caller() -> StandbyCaller:
    """A caller whose process loads now, for calls that follow."""
    return StandbyCaller(_run_on_livekit)


async def _run_on_livekit(
    target: CallTarget,
    plan: CallPlan,
    *,
    callers: Callers,
    why: Why | None,
    on_result: Callable[[CallResult], None] | None,
) -> CallReport:
    # While the caller process imports LiveKit's engine.
    from voiceops.wiring.livekit_calls import run_on_livekit

    return await run_on_livekit(target, plan, callers=callers, why=why, on_result=on_result)
