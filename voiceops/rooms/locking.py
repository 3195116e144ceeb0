"""One dispatcher per room at a time on this machine."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from voiceops.adapters.runtime_folder import make_private, runtime_folder
from voiceops.deadline import Deadline
from voiceops.errors import StorageError

log = logging.getLogger(__name__)

_STRIPES = 256
"""Lock files are never deleted (that would split the lock), so their number is bounded instead."""
_POLL_S = 0.01


def lock_folder() -> Path:
    """The user's folder for locks, made on first use; the same from a shell and from cron."""
    folder = runtime_folder(outlives_session=False)
    make_private(folder)
    return folder


@asynccontextmanager
async def room_lock(server: str, room: str, *, limit: Deadline) -> AsyncIterator[None]:
    """Hold the room against every other process of this user on this machine.

    A crashed holder frees it. Where no folder can be written, work goes on without: what comes
    from other hosts has to be sorted out afterwards in any case.
    """
    stripe = int.from_bytes(hashlib.sha256(f"{server}\0{room}".encode()).digest()[:2], "big") % _STRIPES
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(lock_folder() / f"room-{stripe}.lock", flags, 0o600)
    except (OSError, StorageError) as error:
        log.warning("no lock folder", extra={"error": str(error)})
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                limit.check("another process dispatches to the same room")
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
