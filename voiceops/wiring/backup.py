"""Build what backups of a host are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from voiceops.adapters.ssh.transports import transport_to
from voiceops.backup.operations import Try
from voiceops.backup.runners import DataRunner, LocalData, ServerData
from voiceops.backup.scratch import try_backup
from voiceops.deadline import Deadline
from voiceops.model.settings import Host, ServiceBase
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.results import Progress
from voiceops.stack.stack import Stack
from voiceops.systemd.names import HostNames
from voiceops.wiring.project import Project
from voiceops.wiring.server import server_stack
from voiceops.wiring.stack import build_stack, declaration_context


@dataclass(frozen=True, slots=True)
class BackupParts:
    """What acts on the data of one host."""

    stack: Stack
    data: DataRunner
    attempt: Try


@contextmanager
def backup_parts(
    project: Project, host: Host, progress: Progress, say: Callable[[str], None], timeout_s: float
) -> Iterator[BackupParts]:
    """What acts on the data of one host, closed in the end."""
    context = declaration_context(project, host, ProjectFolder(project.root), progress)

    def attempt(name: str, service: ServiceBase, file: Path) -> int:
        limit = Deadline(timeout_s, "trying the backup")
        return try_backup(context, name, service, file, limit, here=host.local)

    if host.local:
        stack = build_stack(project, host, progress=progress, say=say)
        outline = {one.name: one for one in stack.outline}
        data = LocalData(
            folder=lambda name: outline[name].cwd,
            environment=lambda name: (outline[name].probe_env or dict)(),
        )
        yield BackupParts(stack, data, attempt)
        return
    transport = transport_to(host)
    with closing(server_stack(project, host, progress=progress, say=say, transport=transport)) as there:
        yield BackupParts(
            there, ServerData(transport=transport, names=HostNames(host.settings.project)), attempt
        )
