"""``python -m voiceops.web.audited``: run one command of an operator, and write into the audit log how it ended.

A process of its own, because what began the command may be what it restarts. It holds a lock as long as it runs, by
which others know that the command goes on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from voiceops.errors import StorageError
from voiceops.web.audit import AuditEntry, AuditLog
from voiceops.web.outcome import read_outcome

_NAMES_NO_CALLER = ("restart", "cleanup-rooms")
"""A fix may be a command with the name of a room in it."""


def audited_command(log: Path, entry: AuditEntry, argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs ``argv``, prints what it prints, and ends as it ends."""
    return (
        sys.executable,
        "-m",
        "voiceops.web.audited",
        str(log),
        msgspec.json.encode(entry).decode(),
        *argv,
    )


def main(path: str, encoded: str, *argv: str) -> int:
    """Run the command; its exit code, 127 where it can't be started."""
    entry, log = msgspec.json.decode(encoded, type=AuditEntry), AuditLog(Path(path))
    with log.running(entry), tempfile.TemporaryFile() as output:
        try:
            code = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, check=False
            ).returncode
        except OSError as error:
            code = 127
            output.write(msgspec.json.encode({"error": {"message": str(error)}}))
        output.seek(0)
        said = read_outcome(entry.action, code, output.read()).text
        done = msgspec.structs.replace(
            entry,
            ended_at=time.time(),
            exit_code=code,
            said=said if entry.action in _NAMES_NO_CALLER else "",
        )
        try:
            log.write(done)
        except StorageError as error:
            print(f"the end of a command is not in the audit log: {error.message}", file=sys.stderr)
        output.seek(0)
        shutil.copyfileobj(output, sys.stdout.buffer)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
