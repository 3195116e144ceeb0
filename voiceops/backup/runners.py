"""Run the programs of a backup: beside the service on this machine, or on its server with the unit's variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from voiceops.errors import ConfigError, VoiceopsError
from voiceops.kinds.backup import DataCall
from voiceops.ports import Transport
from voiceops.systemd.names import HostNames

_CHUNK_BYTES = 1 << 18
_SILENCE_S = 300.0
"""A program of a server that neither ends nor says anything for so long hangs."""
_SHOWN_BYTES = 4000


class DataProgramError(VoiceopsError):
    """Raised when a program that reads or writes the data of a service fails."""


class DataRunner(Protocol):
    """Where the programs of a backup run."""

    def run(
        self, service: str, call: DataCall, *, source: Path | None = None, to: IO[bytes] | None = None
    ) -> str:
        """Run it to its end; ``source`` is its input, ``to`` gets its output, which is returned otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalData:
    """Implements ``DataRunner`` on this machine."""

    folder: Callable[[str], Path]
    """Of the data of a service."""
    environment: Callable[[str], Mapping[str, str]]

    def run(
        self, service: str, call: DataCall, *, source: Path | None = None, to: IO[bytes] | None = None
    ) -> str:
        try:
            with source.open("rb") if source else open(os.devnull, "rb") as stdin:
                done = subprocess.run(
                    call.argv,
                    cwd=self.folder(service),
                    env={**os.environ, **self.environment(service)},
                    stdin=stdin,
                    stdout=to or subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=False,
                )
        except FileNotFoundError as error:
            if error.filename == str(self.folder(service)):
                raise VoiceopsError(
                    f"{service} has no data yet", hint=f"inv start --only {service}"
                ) from None
            raise ConfigError(f"{call.argv[0]} is not installed here") from None
        if done.returncode:
            raise _failed(service, call, done.returncode, done.stderr)
        return (done.stdout or b"").decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerData:
    """Implements ``DataRunner`` on a server: as the services' user; systemd gives it the password."""

    transport: Transport
    names: HostNames

    def run(
        self, service: str, call: DataCall, *, source: Path | None = None, to: IO[bytes] | None = None
    ) -> str:
        printed = b""
        with closing(self.transport.start(self._command(service, call), root=True)) as process:
            if source:
                with source.open("rb") as file:
                    while data := file.read(_CHUNK_BYTES):
                        process.write(data)
            process.end_input()
            while data := process.read(_SILENCE_S):
                if to:
                    to.write(data)
                else:
                    printed = (printed + data)[-_SHOWN_BYTES:]
            ended = process.wait()
        if ended.exit_code:
            raise _failed(service, call, ended.exit_code, ended.stderr)
        return printed.decode(errors="replace")

    def _command(self, service: str, call: DataCall) -> list[str]:
        argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={self.names.user}"]
        argv += [f"--property=EnvironmentFile={self.names.environment_file(service)}"]
        argv += [
            f"--property=WorkingDirectory={self.names.data_of(service)}",
            "--property=NoNewPrivileges=yes",
        ]
        return [*argv, "--", "/usr/bin/env", *call.argv]


def _failed(service: str, call: DataCall, code: int, said: bytes) -> DataProgramError:
    tail = tuple(said[-_SHOWN_BYTES:].decode(errors="replace").strip().splitlines()[-5:])
    return DataProgramError(
        f"{service}: {Path(call.argv[0]).name} exits {code}" + (f": {tail[-1]}" if tail else ""),
        hint=f"`inv check-running --only {service}` says whether it runs and answers",
        log_tail=tail,
        data={"service": service, "exit_code": code},
    )
