"""Does a livekit-server accept our key and secret? One GET, without aiohttp: `check-running` asks each time."""

from __future__ import annotations

from urllib.parse import urlencode

from voiceops.adapters import http
from voiceops.adapters.livekit.endpoint import http_base
from voiceops.adapters.livekit.token import sign_token
from voiceops.errors import ConfigError, UnreachableError
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings

CHECK_TTL_S = 60.0
CHECK_GRANTS = {"roomJoin": True, "room": "voiceops-check"}
"""For a room that nobody joins: no room comes of the check."""
CHECK_IDENTITY = "voiceops-check"


def refusal(livekit: LivekitSettings, *, timeout_s: float = 2.0) -> str:
    """Why this server refuses this project; empty where it does not, or can't be asked.

    A secret that a command prints is not fetched for this: the command may ask a person.
    """
    if "command" in (livekit.api_key.form, livekit.api_secret.form):
        return ""
    try:
        query = urlencode({"access_token": check_token(livekit.api_key, livekit.api_secret)})
        answer = http.get(f"{http_base(livekit.url)}/rtc/validate?{query}", timeout_s=timeout_s)
    except ConfigError as error:
        return f"runs, and this project has no key for it: {error.bare}"
    except UnreachableError:
        return ""
    credentials, detail = judge_answer(answer.status, answer.body.decode(errors="replace"))
    return f"refuses this project's API key or secret: {detail}" if credentials == "refused" else ""


def check_token(api_key: Secret, api_secret: Secret) -> str:
    """Return the token of a check."""
    return sign_token(api_key, api_secret, CHECK_GRANTS, ttl_s=CHECK_TTL_S, sub=CHECK_IDENTITY)


def judge_answer(status: int, body: str) -> tuple[str, str]:
    """Return what ``/rtc/validate`` says of the credentials: ok, refused or unknown, and why.

    A plain 401 may repeat the token, so only the words behind its last ``error:`` are kept.
    """
    if status == 200:
        return "ok", ""
    if status == 401:
        return "refused", body.rsplit("error: ", 1)[-1].strip() if "error: " in body else "invalid API key"
    return "unknown", f"/rtc/validate answered {status}"
