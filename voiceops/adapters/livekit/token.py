"""Access tokens: the one place that signs them.

Signed with the standard library: importing PyJWT, and with it cryptography, or livekit-api costs each command
more than its whole request. LiveKit checks HS256 over the claims, issued by the API key.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from voiceops.errors import ConfigError
from voiceops.model.secret import Secret

if TYPE_CHECKING:
    from voiceops.model.calls import CallTarget


def sign_token(
    api_key: Secret, api_secret: Secret, video: Mapping[str, object], *, ttl_s: float, **claims: object
) -> str:
    """Return a JWT with the grants of ``video`` that expires in ``ttl_s`` seconds; ``claims`` go in as they are."""
    body = {"iss": api_key.reveal(), "exp": int(time.time() + ttl_s), "video": video, **claims}
    signed = _base64url(b'{"alg":"HS256","typ":"JWT"}') + b"." + _base64url(json.dumps(body).encode())
    digest = hmac.digest(api_secret.reveal().encode(), signed, "sha256")
    return (signed + b"." + _base64url(digest)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def caller_token(target: CallTarget) -> Callable[[str, str, float], str]:
    """A function (room, identity, seconds of life) -> token for callers of ``target``."""
    if not target.api_key or not target.api_secret:
        raise ConfigError(
            "no LiveKit API key and secret are configured",
            path="livekit.api_key",
            hint="set LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or livekit.api_key and api_secret",
        )
    return partial(_caller_token, target)


def _caller_token(target: CallTarget, room: str, identity: str, ttl_s: float) -> str:
    grants = {
        "room": room,
        "roomJoin": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
    }
    claims: dict[str, object] = {"sub": identity}
    if target.agent_name:
        # Ignored for a room that exists (livekit issue 4390): those get an explicit dispatch.
        claims["roomConfig"] = {"agents": [{"agentName": target.agent_name}]}
    return sign_token(target.api_key, target.api_secret, grants, ttl_s=ttl_s, **claims)
