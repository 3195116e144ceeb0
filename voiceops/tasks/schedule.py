"""Room cleanup and log rotation, without anybody thinking of them."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    "check",
    "diff",
    help={
        "systemd": "Use systemd's timers instead of cron; servers always do.",
        "boot": "Also start the stack at boot; with --systemd as a user: at login, or at boot with linger.",
        "backup": "Also back up what services keep each night at 3:17, the last 7 of each.",
        "remove": "Take the entries out again, wherever they are.",
        "every": "Minutes between two cleanups of rooms (default 5; of servers: deploy.cleanup_every_min).",
    },
)
def schedule(
    run: CommandRun,
    systemd: bool = False,
    boot: bool = False,
    backup: bool = False,
    remove: bool = False,
    every: int = 0,
) -> Report:
    """Let cron or systemd run `cleanup-rooms` and `rotate-logs` for this project, here or on servers.

    On servers: the timer of `inv deploy`; the journal rotates its logs by itself. Example: inv schedule --check
    """
    from voiceops.commands import schedule as entries

    return entries.schedule(run, systemd=systemd, remove=remove, every=every, boot=boot, backup=backup)


@command(*TARGETS, name="rotate-logs", help={"quiet": "Print nothing unless something failed: for cron."})
def rotate_logs(run: CommandRun, quiet: bool = False) -> Report:
    """Rotate the services' logs that have grown over their `log_max_bytes`; safe while they write.

    Logs of servers are in their journals, which rotate by themselves. Example: inv rotate-logs
    """
    from voiceops.commands import schedule as entries

    return entries.rotate_logs(run, quiet=quiet)
