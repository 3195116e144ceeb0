"""Back up and restore one service: the order of the steps, and what must hold before each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from voiceops.backup.files import BackupFolder, refuse_changed
from voiceops.backup.runners import DataRunner
from voiceops.deadline import Deadline
from voiceops.errors import UsageError, VoiceopsError
from voiceops.kinds import kind_of
from voiceops.kinds.backup import BackupMethod
from voiceops.model.settings import ServiceBase, Settings
from voiceops.stack import operations
from voiceops.stack.stack import Stack
from voiceops.util.words import counted

_HEAD_BYTES = 1 << 16
Try = Callable[[str, ServiceBase, Path], int]
"""Restores a backup into a scratch instance and counts what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """What was backed up or restored of one service."""

    service: str
    file: Path
    size_bytes: int
    count: int
    """How much the backup holds, in the unit of its kind."""
    counted: str
    took_s: float
    removed: tuple[Path, ...] = ()
    replaced_count: int = 0


def method_of(service: ServiceBase) -> BackupMethod[ServiceBase] | None:
    """Return how the data of a service are backed up; None where it keeps none."""
    return kind_of(service).backup


def chosen(settings: Settings, only: tuple[str, ...]) -> list[str]:
    """Return the services that are meant; ``UsageError`` for one without data, or where there is none with."""
    able = [name for name, one in settings.running.items() if method_of(one)]
    for name in only:
        if name not in able:
            raise UsageError(
                f"{name} keeps no data that could be backed up", hint=f"these do: {_listed(able)}"
            )
    if not able:
        raise UsageError("no service here keeps data", hint="services of kind postgres and redis do")
    return list(only) or able


def back_up(
    name: str, service: ServiceBase, data: DataRunner, folder: BackupFolder, attempt: Try, *, keep: int
) -> DataFacts:
    """Write a backup, try it, give it its name, and remove what is older than the newest ``keep`` (0: nothing)."""
    method = method_of(service)
    assert method is not None
    began = time.monotonic()
    with folder.writing(name, method.suffix) as part:
        data.run(name, method.dump(service), to=part.stream)
        part.stream.flush()
        size = _trimmed(name, part.file, method.magic)
        count = attempt(name, service, part.file)
    removed = folder.keep(name, method.suffix, keep) if keep else []
    return DataFacts(
        service=name,
        file=part.target,
        size_bytes=size,
        count=count,
        counted=method.counted,
        took_s=time.monotonic() - began,
        removed=tuple(removed),
    )


def restore(
    name: str,
    service: ServiceBase,
    stack: Stack,
    data: DataRunner,
    file: Path,
    attempt: Try,
    *,
    replace: bool,
    limit: Deadline,
) -> DataFacts:
    """Replace the data of a service by a backup that has just been tried; ``replace``: also where there are some."""
    method = method_of(service)
    assert method is not None
    began = time.monotonic()
    refuse_changed(file)
    there = method.count_of(data.run(name, method.count(service)))
    if there and not replace:
        raise UsageError(
            f"{name} holds {counted(there, method.counted)}, which {file.name} would replace",
            hint="`inv backup` keeps them; run this again with --yes then",
        )
    count = attempt(name, service, file)
    placing = method.place(service)
    if placing:
        operations.stop(stack, only=[name], final=True, timeout_s=limit.remaining_s)
        for call in placing:
            data.run(name, call, source=file)
        operations.start(stack, only=[name], timeout_s=limit.remaining_s)
    else:
        with stack.lock(limit):
            for call in method.load(service):
                data.run(name, call, source=file if call.takes_backup else None)
    return DataFacts(
        service=name,
        file=file,
        size_bytes=file.stat().st_size,
        count=count,
        counted=method.counted,
        took_s=time.monotonic() - began,
        replaced_count=there,
    )


def _trimmed(name: str, file: Path, magic: bytes) -> int:
    """Remove what a login shell has printed before the backup; returns its size."""
    with file.open("r+b") as stream:
        at = stream.read(_HEAD_BYTES).find(magic)
        if at < 0:
            raise VoiceopsError(f"what was written of {name} is no backup", hint=f"inv logs --only {name}")
        if at:
            stream.seek(at)
            rest = stream.read()
            stream.seek(0)
            stream.write(rest)
            stream.truncate()
        return os.fstat(stream.fileno()).st_size


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
