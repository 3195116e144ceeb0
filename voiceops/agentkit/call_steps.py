"""Write who joined and left a call to a file: a server's monitor, which may not read the journal, keeps its history by it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path

from voiceops.model import protocol

LIMIT_BYTES = 1_000_000
"""Beyond that the file begins anew; the one before it stays until the next time."""
_FIELDS = ("call_id", "caller_sid", "present_s", "reason")


class CallStepFile(logging.Handler):
    """Adds the lines by which a call can be followed, without its room; calls of `inv call` are left out.

    Instances that overlap share the file. A line that can't be written is lost: no call waits for a disk.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__(logging.INFO)
        self._path = path
        self._limit_bytes = limit_bytes
        self._failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Called with each line of the worker and of its jobs."""
        message = record.getMessage()
        if record.name != protocol.CALL_LOGGER or message not in protocol.CALL_STEPS:
            return
        pii = getattr(record, "pii", None) or {}
        if str(pii.get("room", "")).startswith(protocol.CALL_ROOM_PREFIX):
            return
        line: dict[str, object] = {"timestamp": record.created, "name": record.name, "message": message}
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        try:
            self._append(json.dumps(line).encode() + b"\n")
            self._failing = False
        except (OSError, TypeError, ValueError) as error:
            if not self._failing:
                self._failing = True
                logging.getLogger("voiceops.agentkit").warning(
                    "calls can't be told to the monitor", extra={"error": repr(error)}
                )

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = self._open()
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """The file, locked until it is closed, so that of several instances one begins it anew."""
        while True:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                opened = os.fstat(descriptor)
                if not os.path.samestat(opened, os.stat(self._path)):
                    raise FileNotFoundError  # another instance has begun it anew
                if opened.st_size < self._limit_bytes:
                    return descriptor
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
