"""start, stop, restart, check-running, status, logs."""

from __future__ import annotations

from voiceops.cli.command import CommandRun, Report, command
from voiceops.cli.flags import LogFlags, RestartFlags

_ONLY = {"only": "Services, comma-separated (default: all)."}
_DRAIN = "Seconds that a livekit-server which has to restart may wait for a moment without calls."
_TARGETS = ("host", "group", "limit")


@command(
    *_TARGETS,
    "timeout",
    "yes",
    aliases=("up",),
    help={
        **_ONLY,
        "drain": _DRAIN,
        "replace": "End strays first, gracefully: processes like those of this project that it did not start.",
        "verify": "End with a real call that must hear the agent.",
    },
)
def start(
    run: CommandRun, only: str = "", replace: bool = False, verify: bool = False, drain: float = -1.0
) -> Report:
    """Make the stack run as declared and wait until each service is ready.

    Starts what is missing, restarts what runs with an old configuration, keeps the rest.
    Safe at any time, twice at once too. Example: inv start --only agent
    """
    from voiceops.commands import stack

    return stack.start(run, only=only, verify=verify, drain=drain, replace=replace)


@command(
    *_TARGETS,
    "timeout",
    "yes",
    own_flags=RestartFlags,
    help={
        **_ONLY,
        "verify": "End with a real call that must hear the agent.",
        "drain": _DRAIN,
        "serial": "Servers of one batch, as 2 or 25%; the first goes ahead alone (default: one after the other).",
        "max_fail": "Begin no further batch once more servers than this have failed.",
        "no_call": "Leave out the calls that a server's new agents answer before callers reach them.",
    },
)
def restart(run: CommandRun, flags: RestartFlags) -> Report:
    """Stop and start what is named; an agent with calls is replaced by overlap, on servers any agent.

    Example: inv restart --only agent
    """
    from voiceops.commands import restart as restarts

    return restarts.restart(run, flags)


@command(
    *_TARGETS,
    "timeout",
    "yes",
    aliases=("down",),
    help={
        **_ONLY,
        "drain": "Seconds that calls in progress may take to end (agents take no new ones).",
        "now": "Kill at once instead of stopping gracefully; with calls it needs --yes.",
    },
)
def stop(run: CommandRun, only: str = "", drain: float = -1.0, now: bool = False) -> Report:
    """Stop in reverse order, agents before the server, and leave nothing behind.

    Names the calls that it would drop, and then needs --yes or --drain. Example: inv stop --drain 600
    """
    from voiceops.commands import stack

    return stack.stop(run, only=only, drain=drain, now=now)


@command(*_TARGETS, name="check-running", help=_ONLY)
def check_running(run: CommandRun, only: str = "") -> Report:
    """Check that exactly one live, ready instance of each service runs; else exit 2 and say what is wrong.

    Changes nothing. Example: inv check-running --json
    """
    from voiceops.commands import stack

    return stack.check_running(run, only=only)


@command(
    *_TARGETS,
    aliases=("ps",),
    help={"watch": "A live view with incidents, calls, answer times and repairs, until q or Ctrl-C."},
)
def status(run: CommandRun, watch: bool = False) -> Report:
    """Show services, releases, rooms and calls, per host.

    Example: inv status --watch
    """
    from voiceops.commands import stack

    return stack.status(run, watch=watch)


@command(
    *_TARGETS,
    own_flags=LogFlags,
    help={
        **_ONLY,
        "follow": "Go on with new lines until Ctrl-C.",
        "since": "Only lines since then: 90s, 10m, 2h, 1d or an ISO time.",
        "lines": "At most this many of the last lines (0: all; by default 200, with --since all).",
        "raw": "The lines as the services wrote them: not shortened, control characters included.",
        "level": "Only this level and above: debug, info, warning or error. debug also shows read requests, such as those of `status`.",
        "grep": "Only lines that match this regular expression; without capital letters it ignores case.",
        "room": "Only lines of this room: of its server, its jobs and its calls.",
    },
)
def logs(run: CommandRun, flags: LogFlags) -> None:
    """Show the logs of all services, merged by time; rotated files included.

    Examples: inv logs agent --follow --since 10m, inv logs --level warning --room front-desk
    """
    from voiceops.commands.logs import show_logs

    show_logs(run, flags)
