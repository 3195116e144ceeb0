"""Build the calls to agents, placed from here or by a host."""

from __future__ import annotations

from collections.abc import Callable

from voiceops.deploy.agent_calls import AgentCalls, PlaceCall, PreparedCaller
from voiceops.model import timeouts


def agent_calls() -> AgentCalls:
    """Calls whose callers run on this machine where LiveKit can be reached from it."""
    return AgentCalls(
        lambda target, *, timeout_s=timeouts.CALL_S, why=None: _calls()[0](
            target, timeout_s=timeout_s, why=why
        ),
        lambda: _calls()[1](),
    )


def _calls() -> tuple[PlaceCall, Callable[[], PreparedCaller]]:
    # asyncio and the pool of callers: a deploy that changes nothing places no call.
    from voiceops.wiring.calls import place_call, standby_caller

    return place_call, standby_caller
