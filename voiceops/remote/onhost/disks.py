"""Read how much room is on the disks of a project."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.diagnosis_messages import DiskState

JOURNALS = ("/var/log/journal", "/run/log/journal")
"""On disk, where it is kept; in memory else."""


def disk_states(state_dir: str, folders: dict[str, str]) -> list[DiskState]:
    """The file systems of the project's data and of the journal, each once."""
    journal = next((path for path in JOURNALS if os.path.isdir(path)), "")
    found: dict[int, DiskState] = {}
    for path in filter(os.path.isdir, (state_dir, *folders, journal)):
        disk = os.statvfs(path)
        free = disk.f_bavail * disk.f_frsize
        one = found.setdefault(
            os.stat(path).st_dev, {"folder": path, "free_bytes": free, "data": [], "logs": False}
        )
        one["data"] += filter(None, [folders.get(path, "")])
        one["logs"] = one["logs"] or path == journal
    return list(found.values())
