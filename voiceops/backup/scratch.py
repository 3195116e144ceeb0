"""Try a backup: restore it into an instance that lives for a moment, on a port and in a folder of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

import msgspec

from voiceops.backup.files import BackupUnusableError
from voiceops.backup.runners import DataProgramError, LocalData
from voiceops.deadline import Deadline
from voiceops.errors import ServiceError
from voiceops.kinds import kind_of
from voiceops.kinds.model import DeclarationContext
from voiceops.model.secret import Secret
from voiceops.model.settings import ServiceBase
from voiceops.stack import declare
from voiceops.stack.backend import StopForce
from voiceops.stack.local.backend import ProcessBackend
from voiceops.stack.local.folder import ProjectFolder
from voiceops.util.atomic_write import write_error

_NAME = "scratch"
_LOCK = ".lock"
_END_S = 30.0
_REMOVALS, _AGAIN_S = 10, 0.1


def try_backup(
    context: DeclarationContext, name: str, service: ServiceBase, backup: Path, limit: Deadline, *, here: bool
) -> int:
    """Restore ``backup`` into a scratch instance; returns how much it holds. The service itself is not touched.

    ``here``: the service runs on this machine.
    """
    kind = kind_of(service)
    assert kind.backup is not None
    tried = kind.backup.scratch(service, port=_free_port(), password=Secret(token_urlsafe(24)), here=here)
    kind.fetch(tried, context.on_fetch(name))
    with scratch_folder(context.config_folder / _NAME) as folder:
        settings = msgspec.structs.replace(context.settings, services={_NAME: tried}, run=None)
        place = ProjectFolder(folder)
        own = replace(
            context, settings=settings, root=folder, config_folder=place.base, dotenv=dict[str, str]
        )
        place.create()
        (declared,) = declare.declare(own)
        declared.cwd.mkdir(parents=True, mode=0o700)
        data = LocalData(
            folder=lambda _: declared.cwd,
            environment=lambda _: declared.probe_env() if declared.probe_env else {},
        )
        backend = ProcessBackend(place)
        try:
            for call in kind.backup.place(tried):
                data.run(_NAME, call, source=backup if call.takes_backup else None)
            backend.wait_ready(declared, backend.start(declared), limit)
            for call in kind.backup.load(tried):
                data.run(_NAME, call, source=backup if call.takes_backup else None)
            return kind.backup.count_of(data.run(_NAME, kind.backup.count(tried)))
        except (ServiceError, DataProgramError) as error:
            raise BackupUnusableError(
                f"the backup {backup.name} of {name} can't be restored",
                hint="what it was to replace is as it was; `inv restore --file` takes another one",
                log_tail=error.log_tail or (error.message,),
            ) from error
        finally:
            _end(place)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give a folder that goes with the block; what killed commands have left goes first, their servers too.

    What can't go yet, as a process is still writing, is left to the next call: how the block ended counts.
    """
    try:
        parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        _sweep(parent)
        # Beside the folder, and the first that is there and the last that goes: while it is held, the folder is in use.
        descriptor, lock = tempfile.mkstemp(prefix="try-", suffix=_LOCK, dir=parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = Path(lock.removesuffix(_LOCK))
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            if _removed(folder):
                os.unlink(lock)
            os.close(descriptor)
    except OSError as error:
        raise write_error(parent, error) from error


def _sweep(parent: Path) -> None:
    for lock in parent.glob(f"try-*{_LOCK}"):
        with suppress(BlockingIOError, FileNotFoundError), lock.open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = Path(str(lock).removesuffix(_LOCK))
            _end(ProjectFolder(folder))
            if _removed(folder):
                lock.unlink()


def _removed(folder: Path) -> bool:
    """Remove a folder; False if something was still written there for a second."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return True
        time.sleep(_AGAIN_S)
    return False


def _end(place: ProjectFolder) -> None:
    """End whatever runs there: nothing in it is needed any more."""
    backend = ProcessBackend(place)
    for seen in backend.observe([]).values():
        for one in (*seen.instances, *seen.leftovers):
            backend.end(one, Deadline(_END_S, "ending the scratch instance"), StopForce.STOP)
    backend.close()
    place.tidy()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
