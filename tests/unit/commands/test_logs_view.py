"""`inv logs` shows structured lines as sentences, and no token ever."""

from __future__ import annotations

import json

from voiceops.commands.logs_view import readable, redacted
from voiceops.stack.logs.files import Line


def shown(**fields: object) -> str:
    return readable(Line(1_795_243_637.25, "agent", json.dumps(fields))).split(" ", 1)[1]


def test_a_structured_line_becomes_level_message_and_its_own_fields() -> None:
    line = shown(message="registered worker", level="INFO", name="livekit.agents", id="AW_1", pid=7)
    assert line == "info    registered worker id=AW_1"


def test_a_value_with_blanks_or_control_characters_is_quoted_and_cannot_draw() -> None:
    line = shown(msg="joined", level="info", room="a \x1b[2J b", other="\x1b]0;x\x07")
    assert "\x1b" not in line
    assert 'room="a \\u001b[2J b"' in line


def test_a_line_that_is_no_json_stays_as_it_is() -> None:
    assert readable(Line(0, "web", "{not json")) == "{not json"
    assert readable(Line(0, "web", "plain words")) == "plain words"


def test_a_token_is_never_shown() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJ2aWRlbyI6e319.c2lnbmF0dXJl"
    assert redacted(f"invalid token: {token}, error: expired") == "invalid token: [token], error: expired"
