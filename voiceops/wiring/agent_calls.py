"""Build the calls to agents, placed from here or by a host."""

from __future__ import annotations

from voiceops.deploy.agent_calls import AgentCalls, Why
from voiceops.model import timeouts
from voiceops.model.calls import CallResult, CallTarget


def agent_calls() -> AgentCalls:
    """Calls whose callers run on this machine where LiveKit can be reached from it."""
    return AgentCalls(_place)


def _place(target: CallTarget, *, timeout_s: float = timeouts.CALL_S, why: Why | None = None) -> CallResult:
    # asyncio and the pool of callers: a deploy that changes nothing places no call.
    from voiceops.wiring.calls import place_call

    return place_call(target, timeout_s=timeout_s, why=why)
