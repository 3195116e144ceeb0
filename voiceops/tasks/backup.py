"""backup, restore."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    "timeout",
    help={
        "only": "Services, comma-separated (default: all that keep data).",
        "out": "Folder for the files (default .voiceops/backups); each host has one in it.",
        "keep": "Remove all but so many of a service's newest backups (default 0: none is removed).",
        "quiet": "Print nothing unless something failed: for cron.",
    },
)
def backup(run: CommandRun, only: str = "", out: str = "", keep: int = 0, quiet: bool = False) -> Report:
    """Write the data of PostgreSQL and Redis to files, and try each by restoring it into an instance of its own.

    Services go on meanwhile. Backups of servers come to this machine. Example: inv backup --only postgres --keep 7
    """
    from voiceops.commands import backup as backups

    return backups.back_up(run, only=only, out=out, keep=keep, quiet=quiet)


@command(
    *TARGETS,
    "timeout",
    "yes",
    help={
        "only": "Services, comma-separated (default: all that keep data).",
        "file": "The backup of one service (default: its newest one).",
        "out": "Folder in which `inv backup` has put its files (default .voiceops/backups).",
    },
)
def restore(run: CommandRun, only: str = "", file: str = "", out: str = "") -> Report:
    """Replace the data of services by a backup, which is tried first; where data would go it needs --yes.

    Redis is stopped and started for it, PostgreSQL goes on until the new data are complete. Example: inv restore --only postgres --yes
    """
    from voiceops.commands import backup as backups

    return backups.restore(run, only=only, file=file, out=out)
