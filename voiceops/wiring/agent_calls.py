"""Build the calls to agents, placed from here or by a host."""

from __future__ import annotations

from voiceops.deploy.agent_calls import AgentCalls, PreparedCaller, Why
from voiceops.model import timeouts
from voiceops.model.calls import CallResult, CallTarget


def agent_calls() -> AgentCalls:
    """Calls whose callers run on this machine where LiveKit can be reached from it."""
    return AgentCalls(_place, _prepared)


def _prepared() -> PreparedCaller:
    # As below; the thread and the caller's process are for calls that follow for sure.
    from voiceops.wiring.calls import standby_caller

    return standby_caller()


def _place(target: CallTarget, *, timeout_s: float = timeouts.CALL_S, why: Why | None = None) -> CallResult:
    # asyncio and the pool of callers: a deploy that changes nothing places no call.
    from voiceops.wiring.calls import place_call

    return place_call(target, timeout_s=timeout_s, why=why)
