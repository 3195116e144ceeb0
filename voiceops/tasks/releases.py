"""rollback, releases, lock, unlock, render."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.cli.flags import RollbackFlags


@command(
    *TARGETS,
    "timeout",
    "yes",
    own_flags=RollbackFlags,
    help={
        "yes": "Go ahead where live calls would be dropped, or to a release that is marked bad and that --to names.",
        "only": "Agents, comma-separated (default: all).",
        "to": "Release to go back to (default: the last good one before the current).",
        "wait": "Seconds to wait for somebody else's deploy.",
        "serial": "Hosts of one batch, as 2 or 25% (default: deploy.serial).",
        "max_fail": "Begin no further batch once more hosts than this have failed (default: deploy.max_fail).",
        "no_call": "Leave out the calls that a release answers before callers reach it.",
    },
)
def rollback(run: CommandRun, flags: RollbackFlags) -> Report:
    """Roll agents back to their last good release, by overlap: calls in progress go on.

    The release that they leave is marked bad, so a second rollback goes further back. Example: inv rollback --host web1
    """
    from voiceops.commands import releases as servers

    return servers.rollback(run, flags)


@command(*TARGETS)
def releases(run: CommandRun) -> Report:
    """List which releases were deployed, when, by whom, and which one serves.

    Example: inv releases --host web1
    """
    from voiceops.commands import releases as servers

    return servers.releases(run)


@command(
    *TARGETS,
    help={
        "reason": "Shown to whoever meets the lock.",
        "minutes": "The lock falls by itself after that long.",
    },
)
def lock(run: CommandRun, reason: str = "", minutes: float = 60.0) -> Report:
    """Keep everybody from deploying to servers, until `inv unlock` or until the time is over.

    Example: inv lock --group voice --reason "load test" --minutes 30
    """
    from voiceops.commands import releases as servers

    return servers.lock(run, reason=reason, minutes=minutes)


@command(*TARGETS)
def unlock(run: CommandRun) -> Report:
    """Release the lock of servers, whoever holds it; a running deploy keeps its own.

    Example: inv unlock --group voice
    """
    from voiceops.commands import releases as servers

    return servers.unlock(run)


@command(*TARGETS, help={"out": "Folder to write the files to, one below it for each host."})
def render(run: CommandRun, out: str = "") -> Report:
    """Print or write every file that a deploy would put on servers; secrets are masked.

    Example: inv render --host web1 --out rendered
    """
    from voiceops.commands import releases as servers

    return servers.render(run, out=out)
