"""Tokens with which a synthetic caller joins one room.

Made with PyJWT, which livekit-api uses as well: importing that package to sign one token
takes 0.3 s, a third of a whole `inv call`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt

from voiceops.errors import ConfigError
from voiceops.model.calls import CallTarget


def caller_token(target: CallTarget) -> Callable[[str, str, float], str]:
    """A function (room, identity, seconds of life) -> token for callers of ``target``."""
    if not target.api_key or not target.api_secret:
        raise ConfigError(
            "no LiveKit API key and secret are configured",
            path="livekit.api_key",
            hint="set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or livekit.api_key and api_secret",
        )
    return partial(_mint, target)


def _mint(target: CallTarget, room: str, identity: str, ttl_s: float) -> str:
    claims: dict[str, Any] = {
        "iss": target.api_key.reveal(),
        "sub": identity,
        "exp": int(time.time() + ttl_s),
        "video": {
            "room": room,
            "roomJoin": True,
            "canPublish": True,
            "canSubscribe": True,
            "canPublishData": True,
        },
    }
    if target.agent_name:
        # Ignored for a room that exists (livekit issue 4390): those get an explicit dispatch.
        claims["roomConfig"] = {"agents": [{"agentName": target.agent_name}]}
    return jwt.encode(claims, target.api_secret.reveal(), algorithm="HS256")
