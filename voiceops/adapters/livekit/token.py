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

from voiceops.errors import ConfigError, CredentialsError
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


def verified_claims(
    token: str, api_key: Secret, api_secret: Secret, now: float, *, leeway_s: float = 60.0
) -> dict[str, object]:
    """Return the claims of a JWT; ``CredentialsError`` unless this key has signed it for a time that includes ``now``."""
    try:
        head, body, signature = token.split(".")
        signed = hmac.digest(api_secret.reveal().encode(), f"{head}.{body}".encode(), "sha256")
        if not hmac.compare_digest(signed, _unbase64(signature)):
            raise CredentialsError("the signature is wrong")
        header, claims = json.loads(_unbase64(head)), json.loads(_unbase64(body))
        expires, begins = float(claims["exp"]), float(claims.get("nbf", 0.0))
        issuer = str(claims["iss"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CredentialsError("this is no token") from None
    if not isinstance(header, dict) or header.get("alg") != "HS256" or issuer != api_key.reveal():
        raise CredentialsError("it is signed by another key")
    if not begins - leeway_s <= now <= expires + leeway_s:
        raise CredentialsError("the token is not valid now")
    return dict(claims)


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def room_token(
    api_key: Secret, api_secret: Secret, room: str, identity: str, *, ttl_s: float, **claims: object
) -> str:
    """Return a token by which ``identity`` joins this one room, speaks, listens and sends data."""
    grants = {
        "room": room,
        "roomJoin": True,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
    }
    return sign_token(api_key, api_secret, grants, ttl_s=ttl_s, sub=identity, **claims)


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
    claims: dict[str, object] = {}
    if target.agent_name:
        # Ignored for a room that exists (livekit issue 4390): those get an explicit dispatch.
        claims["roomConfig"] = {"agents": [{"agentName": target.agent_name}]}
    return room_token(target.api_key, target.api_secret, room, identity, ttl_s=ttl_s, **claims)
