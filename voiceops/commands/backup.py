"""Back up and restore the data of services."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.backup import operations
from voiceops.backup.files import BackupFolder
from voiceops.backup.operations import DataFacts, method_of
from voiceops.cli.command import CommandRun, Report, names
from voiceops.commands.hosts import chosen_hosts, named_on, values_of, with_problems
from voiceops.commands.stack_view import live_progress
from voiceops.deadline import Deadline
from voiceops.errors import UsageError
from voiceops.fleet.run import run_on
from voiceops.model.settings import Host
from voiceops.util.words import counted
from voiceops.wiring.backup import backup_parts

if TYPE_CHECKING:
    from voiceops.model.documents.backup import BackupDocument, RestoreDocument, RestoreEntry

TIMEOUT_S = 3600.0


def back_up(run: CommandRun, *, only: str, out: str, keep: int, quiet: bool) -> Report:
    """Write and try a backup of each service that keeps data."""
    if keep < 0:
        raise UsageError("--keep is a number of backups", hint="0 keeps all")
    chosen = _chosen(run, only)
    with live_progress(run) as progress:

        def back_up_on(host: Host) -> list[DataFacts]:
            with backup_parts(run.project, host, progress, run.say, run.timeout or TIMEOUT_S) as parts:
                folder = _folder(run, host, out)
                services = host.settings.running
                return [
                    operations.back_up(name, services[name], parts.data, folder, parts.attempt, keep=keep)
                    for name in chosen[host.name]
                ]

        done = run_on([chosen_hosts(run, chosen)], back_up_on)
    found = values_of(run, done)
    document: BackupDocument = {
        "changed_count": sum(len(made) for made in found.values()),
        "hosts": {
            host: {
                "ok": True,
                "backups": [
                    {
                        "service": one.service,
                        "file": str(one.file),
                        "byte_count": one.size_bytes,
                        "object_count": one.count,
                        "took_s": round(one.took_s, 3),
                        "removed": [str(old) for old in one.removed],
                    }
                    for one in made
                ],
            }
            for host, made in found.items()
        },
    }
    lines = [f"{one.service}: {_said(one)}{_gone(one)}" for made in found.values() for one in made]
    return with_problems(run, done, Report(document, "" if quiet else "\n".join(lines)))


def restore(run: CommandRun, *, only: str, file: str, out: str) -> Report:
    """Replace the data of services by their newest backup, or by the one that is named."""
    chosen = _chosen(run, only)
    meant = [(host, name) for host, own in chosen.items() for name in own]
    if file and len(meant) != 1:
        raise UsageError(
            f"--file is a backup of one service, and {len(meant)} are meant", hint="name it by --only"
        )
    if file and not Path(file).is_file():
        raise UsageError(f"there is no file {file}", hint="`inv backup` says where its files are")
    with live_progress(run) as progress:

        def restore_on(host: Host) -> list[DataFacts]:
            services = host.settings.running
            folder = _folder(run, host, out)
            sources = {
                name: Path(file) if file else folder.newest(name, _suffix(host, name))
                for name in chosen[host.name]
            }
            limit = Deadline(run.timeout or TIMEOUT_S, "restore")
            with backup_parts(run.project, host, progress, run.say, limit.remaining_s) as parts:
                return [
                    operations.restore(
                        name,
                        services[name],
                        parts.stack,
                        parts.data,
                        source,
                        parts.attempt,
                        replace=run.yes,
                        limit=limit,
                    )
                    for name, source in sources.items()
                ]

        done = run_on([chosen_hosts(run, chosen)], restore_on)
    found = values_of(run, done)
    document: RestoreDocument = {
        "changed_count": sum(len(made) for made in found.values()),
        "hosts": {
            host: {
                "ok": True,
                "restored": [_restored(one) for one in made],
            }
            for host, made in found.items()
        },
    }
    lines = [
        f"{one.service}: {counted(one.replaced_count, one.counted)} replaced by {_said(one)}"
        for made in found.values()
        for one in made
    ]
    return with_problems(run, done, Report(document, "\n".join(lines)))


def _restored(one: DataFacts) -> RestoreEntry:
    return {
        "service": one.service,
        "file": str(one.file),
        "object_count": one.count,
        "replaced_count": one.replaced_count,
        "took_s": round(one.took_s, 3),
    }


def _chosen(run: CommandRun, only: str) -> dict[str, Sequence[str]]:
    hosts = {host.name: host for host in run.project.hosts}
    wanted = named_on(run.project.hosts, names(only))
    return {name: operations.chosen(hosts[name].settings, tuple(own)) for name, own in wanted.items()}


def _folder(run: CommandRun, host: Host, out: str) -> BackupFolder:
    return BackupFolder((Path(out) if out else run.project.root / ".voiceops" / "backups") / host.name)


def _suffix(host: Host, name: str) -> str:
    method = method_of(host.settings.running[name])
    assert method is not None
    return method.suffix


def _said(one: DataFacts) -> str:
    size = f"{one.size_bytes / 1e6:.1f} MB" if one.size_bytes >= 100_000 else f"{one.size_bytes / 1e3:.1f} kB"
    return f"{one.file} ({size}, {counted(one.count, one.counted)}, {one.took_s:.1f} s)"


def _gone(one: DataFacts) -> str:
    return f"; {counted(len(one.removed), 'older one')} removed" if one.removed else ""
