from __future__ import annotations

import logging

import jwt
import pytest
from livekit import rtc

from voiceops.adapters.livekit.rtc import keep_tokens_out_of_logs, translated
from voiceops.adapters.livekit.token import caller_token
from voiceops.errors import ConfigError, CredentialsError, NotListeningError, UnreachableError
from voiceops.model.calls import CallTarget
from voiceops.model.secret import Secret

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ2aWRlbyI6e319.d5PQ8fV_cyIg"
SECRET = "a-secret-for-tests-only-32-characters-long"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            f"engine: signal failure: client error: 401 Unauthorized - invalid token: {TOKEN}, bad",
            CredentialsError,
        ),
        ("engine: signal failure: client error: 401 Unauthorized - invalid API key: other", CredentialsError),
        (
            "engine: signal failure: transport connection error: IO error: Connection refused",
            NotListeningError,
        ),
    ],
)
def test_the_engines_errors_are_told_apart_and_show_no_token(text: str, kind: type[UnreachableError]) -> None:
    error = translated(rtc.ConnectError(text), "ws://x")
    assert type(error) is kind
    assert "eyJ" not in error.message
    assert error.hint


def test_the_engines_log_shows_no_token(caplog: pytest.LogCaptureFixture) -> None:
    keep_tokens_out_of_logs()
    keep_tokens_out_of_logs()
    logging.getLogger("livekit").warning("refused: %s", f"invalid token: {TOKEN}")
    assert "refused: invalid token: [token]" in caplog.text
    assert "eyJ" not in caplog.text


def test_a_token_opens_one_room_and_asks_for_a_named_agent() -> None:
    target = CallTarget(url="ws://x", api_key=Secret("k"), api_secret=Secret(SECRET), agent_name="clerk")
    claims = jwt.decode(caller_token(target)("room", "me", 60.0), SECRET, algorithms=["HS256"])
    assert (claims["iss"], claims["sub"], claims["video"]["room"]) == ("k", "me", "room")
    assert claims["roomConfig"] == {"agents": [{"agentName": "clerk"}]}
    assert "roomAdmin" not in claims["video"]


def test_missing_keys_are_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="no LiveKit API key"):
        caller_token(CallTarget(url="ws://x", api_key=Secret(""), api_secret=Secret("")))
