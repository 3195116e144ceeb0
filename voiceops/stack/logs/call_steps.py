"""Follow the calls of agents in their logs: agentkit writes a line when a caller joins or leaves and when it is ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Union

import msgspec

from voiceops.history.calls import LoggedCallStep
from voiceops.model import protocol
from voiceops.stack.logs.files import time_of
from voiceops.stack.logs.new_lines import NewLines

_FIRST_BYTES = 2_000_000
_MARK = protocol.CALL_LOGGER.encode()


class _Pii(msgspec.Struct, frozen=True):
    room: str = ""


class _Line(msgspec.Struct, frozen=True):
    """What is read of a line; its time is told as of any line."""

    message: str
    name: str
    call_id: str = ""
    caller_sid: str = ""
    present_s: float = 0.0
    reason: str = ""
    pii: Union[_Pii, None] = None


_decoder = msgspec.json.Decoder(_Line)


class CallStepReader:
    """Reads what was added to the logs of a host's agents since the last time."""

    def __init__(self, host: str, files: Sequence[Path]) -> None:
        self._host = host
        self._logs = [NewLines(file, first_bytes=_FIRST_BYTES) for file in files]

    def read(self, since: float) -> list[LoggedCallStep]:
        """The steps that are new, none from before ``since``; a log that can't be read has none."""
        found = [
            step
            for log in self._logs
            for line in log.read()
            if _MARK in line and (step := self._step(line)) is not None and step.at >= since
        ]
        return sorted(found, key=lambda step: step.at)

    def _step(self, line: bytes) -> LoggedCallStep | None:
        try:
            read = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        at = time_of(line.decode(errors="replace"))
        if read.name != protocol.CALL_LOGGER or read.message not in protocol.CALL_STEPS or at is None:
            return None
        return LoggedCallStep(
            at=at,
            host=self._host,
            kind=read.message,
            call_id=read.call_id,
            room=read.pii.room if read.pii else "",
            caller_sid=read.caller_sid,
            present_s=read.present_s,
            reason=read.reason,
        )
