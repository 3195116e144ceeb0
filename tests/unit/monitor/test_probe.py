"""What a probe call makes of the command that places it."""

from __future__ import annotations

import json
import sys

import pytest

from voiceops.monitor.probe import place_probe


async def place(program: str) -> tuple[bool, str, float | None]:
    call = await place_probe("here", [sys.executable, "-S", "-c", program])
    return call.ok, call.error, call.audio_s


def printing(document: object) -> str:
    return f"print({json.dumps(document)!r})"


@pytest.mark.parametrize(
    ("document", "result"),
    [
        ({"ok": True, "calls": [{"ok": True, "connect_s": 0.1, "audio_s": 0.4}]}, (True, "", 0.4)),
        (
            {
                "ok": False,
                "calls": [{"ok": False, "failure": {"kind": "no-agent", "detail": "no agent came"}}],
            },
            (False, "no agent came", None),
        ),
        (
            {"ok": False, "error": {"message": "LiveKit can't be reached"}},
            (False, "LiveKit can't be reached", None),
        ),
    ],
)
async def test_the_document_of_call_becomes_an_event(
    document: object, result: tuple[bool, str, float | None]
) -> None:
    assert await place(printing(document)) == result


async def test_a_command_that_dies_is_a_call_that_failed() -> None:
    assert await place("raise SystemExit(1)") == (False, "the call ended without a result", None)


async def test_the_command_is_told_that_somebody_else_records_its_call() -> None:
    program = "import os, json; print(json.dumps({'error': {'message': os.environ['VOICEOPS_PROBE_CALL']}}))"
    assert await place(program) == (False, "1", None)
