"""why and recover: the one sentence that explains the silence, and the least force that ends it."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    "yes",
    aliases=("doctor",),
    help={
        "room": "Only this room.",
        "fix": "Carry out what the findings propose, then look again.",
        "since": "Failed calls since then, those before the last start too: 90s, 10m, 2h, 1d or an ISO time.",
    },
)
def why(run: CommandRun, room: str = "", fix: bool = False, since: str = "") -> Report:
    """Say why a caller hears nothing: the most likely cause first, each with what fixes it.

    Exit 1 when callers hear silence now, or a fix failed. Example: inv why --room front-desk --fix
    """
    from voiceops.commands.doctor import diagnose

    return diagnose(run, room, fix=fix, since=since)


@command(
    *TARGETS,
    "timeout",
    "yes",
    help={"hard": "Restart the whole stack at once, strays and all."},
)
def recover(run: CommandRun, hard: bool = False) -> Report:
    """Bring calls back with the least force that helps; each step is proved by a real call.

    Diagnoses, fixes, cleans rooms, restarts the agents, restarts the stack; stops at the first
    step after which a call is answered, and at a cause that no restart removes. Example: inv recover
    """
    from voiceops.commands import doctor

    return doctor.recover(run, hard=hard)
