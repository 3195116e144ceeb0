"""Build the caller's side of a LiveKit: rooms and tokens for synthetic calls."""

from __future__ import annotations

from collections.abc import Callable

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.adapters.livekit.token import caller_token
from voiceops.calls.call_rooms import LivekitCallRooms
from voiceops.calls.ports import Callers, Why
from voiceops.calls.run import run_calls
from voiceops.calls.stats import CallReport
from voiceops.model.calls import CallPlan, CallResult, CallTarget


async def run_on_livekit(
    target: CallTarget,
    plan: CallPlan,
    *,
    callers: Callers,
    why: Why | None,
    on_result: Callable[[CallResult], None] | None,
) -> CallReport:
    """Place the calls of ``plan`` with a session of their own on the server."""
    async with LivekitApi(target.url, target.api_key, target.api_secret) as api:
        call_rooms = LivekitCallRooms(api, caller_token(target), agent_name=target.agent_name)
        return await run_calls(
            plan, target, callers=callers, call_rooms=call_rooms, why=why, on_result=on_result
        )
