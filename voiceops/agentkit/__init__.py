"""What runs inside an agent's own process, so that calls are picked up every time.

Each name stands alone: take one, leave the rest. Nothing here is imported before it is
used, so ``import voiceops.agentkit`` costs milliseconds and never imports livekit-agents::

    guarded_entrypoint   deadlines and clean ends for a job's entrypoint
    cached               async TTL cache, shared by all calls of a worker; raises CacheError
    prepare_room         removes dead agents from a room before a job is accepted
    LettaClient          Letta's answers within deadlines
    LogLimiter           a token bucket for log lines
    LoopWatch            names the line that blocks the event loop
    Notifier             sd_notify
    subscribe            lifecycle events of calls
    speech_from_environment   STT, LLM and TTS: the cloud's where keys are set

``python -m voiceops.agentkit start ENTRY`` runs any livekit-agents worker with readiness,
watchdog, ``/health``, ``/metrics`` and ``MAX_CONCURRENT_JOBS`` around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.agentkit.cache.api import CacheError, cached
    from voiceops.agentkit.call import Call
    from voiceops.agentkit.guard import guarded_entrypoint
    from voiceops.agentkit.letta import LettaClient, LettaConversation, LettaError
    from voiceops.agentkit.lifecycle import CallEvent, subscribe
    from voiceops.agentkit.loglimit import LogLimiter
    from voiceops.agentkit.loopwatch import LoopWatch
    from voiceops.agentkit.notify import Notifier
    from voiceops.agentkit.prepare import prepare_room
    from voiceops.agentkit.speech.select import (
        MissingPackageError,
        Speech,
        heard,
        speech_from_environment,
    )

__all__ = [
    "CacheError",
    "Call",
    "CallEvent",
    "LettaClient",
    "LettaConversation",
    "LettaError",
    "LogLimiter",
    "LoopWatch",
    "MissingPackageError",
    "Notifier",
    "Speech",
    "cached",
    "guarded_entrypoint",
    "heard",
    "prepare_room",
    "speech_from_environment",
    "subscribe",
]

_HOMES = {
    "CacheError": "cache.api",
    "Call": "call",
    "CallEvent": "lifecycle",
    "LettaClient": "letta",
    "LettaConversation": "letta",
    "LettaError": "letta",
    "LogLimiter": "loglimit",
    "LoopWatch": "loopwatch",
    "Notifier": "notify",
    "cached": "cache.api",
    "guarded_entrypoint": "guard",
    "prepare_room": "prepare",
    "MissingPackageError": "speech.select",
    "Speech": "speech.select",
    "heard": "speech.select",
    "speech_from_environment": "speech.select",
    "subscribe": "lifecycle",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names: they are there before they are imported."""
    return [*globals(), *__all__]
