"""`inv logs` shows structured lines as sentences, and no token ever."""

from __future__ import annotations

import io
import json
import sys

import pytest

from voiceops.cli.command import CommandRun
from voiceops.cli.flags import LogFlags
from voiceops.commands.logs_query import query_of
from voiceops.commands.logs_view import LogPrinter, readable
from voiceops.errors import UsageError
from voiceops.stack.logs.entry import redacted
from voiceops.stack.logs.files import TimedLine

AT = 1_795_243_637.25


def shown(**fields: object) -> str:
    """Without date and time."""
    return readable(TimedLine(AT, "agent", json.dumps(fields)))[0].split(" ", 2)[2]


def test_a_structured_line_becomes_level_message_and_its_own_fields() -> None:
    line = shown(message="registered worker", level="INFO", name="livekit.agents", id="AW_1", pid=7)
    assert line == "info    registered worker id=AW_1"


def test_a_structured_line_begins_with_its_date() -> None:
    text, level = readable(TimedLine(AT, "agent", json.dumps({"message": "x", "level": "warn"})))
    assert level == "warning"
    assert text[:10].count("-") == 2
    assert text[10:].split()[0].endswith(".250")


def test_a_value_with_blanks_or_control_characters_is_quoted_and_cannot_draw() -> None:
    line = shown(msg="joined", level="info", room="a \x1b[2J b", other="\x1b]0;x\x07")
    assert "\x1b" not in line
    assert 'room="a \\u001b[2J b"' in line


def test_no_json_stands_inside_a_line() -> None:
    line = shown(
        msg="active",
        pii={"room": "r1"},
        client={"sdk": "PYTHON", "os": "", "a": {"b": 1}, "c": [1, 2]},
        init=dict.fromkeys("abcdef", 1),
    )
    assert line == (
        "info    active room=r1 client.sdk=PYTHON client.a.b=1 client.c=1,2"
        " init.a=1 init.b=1 init.c=1 init.d=1 init.more=2"
    )


def test_durations_have_their_unit() -> None:
    line = shown(msg="done", duration=4.2e-05, total_s=1.2815, connectTime=0.209, wait_ms=12, count=3)
    assert line == "info    done duration=42 us total=1.28 s connectTime=209 ms wait=12 ms count=3"


def test_a_traceback_is_shown_line_by_line() -> None:
    line = shown(message="failed", level="ERROR", exc_info="Traceback:\n  x.py\nValueError: no")
    assert line.split("\n") == ["error   failed", "  Traceback:", "    x.py", "  ValueError: no"]


def test_a_line_that_is_no_json_stays_as_it_is() -> None:
    assert readable(TimedLine(0, "web", "{not json"))[0] == "{not json"
    assert readable(TimedLine(0, "web", "plain words"))[0] == "plain words"


def test_a_line_of_a_journal_gets_the_journals_time() -> None:
    assert readable(TimedLine(AT, "web", "plain words", journaled=True))[0].endswith(".250 plain words")
    timed = "2026-01-01 00:00:00 plain words"
    assert readable(TimedLine(AT, "web", timed, journaled=True))[0] == timed


def test_a_token_is_never_shown() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJ2aWRlbyI6e319.c2lnbmF0dXJl"
    assert redacted(f"invalid token: {token}, error: expired") == "invalid token: [token], error: expired"


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_folded_lines_and_levels_in_the_colours_of_all_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = _Terminal(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    printer = LogPrinter(CommandRun(), ["agent", "web"], raw=False)
    printer.show(TimedLine(AT, "agent", json.dumps({"message": "word " * 20, "level": "error"})))
    printer.show(TimedLine(AT, "web", "plain"))
    written = stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
    plain = written
    for code in ("36", "34", "31", "0"):
        plain = plain.replace(f"\033[{code}m", "")
    assert all(len(line) <= 60 for line in plain.splitlines())
    assert all(line.startswith("agent | ") for line in plain.splitlines()[:-1])
    assert "\033[31merror\033[0m" in written
    assert "\033[34mweb  \033[0m | plain" in written


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (LogFlags(since="yesterday"), "--since"),
        (LogFlags(level="loud"), "--level is one of debug, info, warning, error"),
        (LogFlags(grep="("), "--grep '('"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(flags: LogFlags, named: str) -> None:
    with pytest.raises(UsageError) as refused:
        query_of(flags)
    assert named in refused.value.message
    assert refused.value.hint
