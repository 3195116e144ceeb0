"""The flags of `inv logs`, read: which lines were asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from voiceops.cli.command import CommandRun, names
from voiceops.cli.flags import LogFlags
from voiceops.commands.logs_view import LogPrinter
from voiceops.errors import UsageError
from voiceops.stack.logs import files as log_files
from voiceops.stack.logs.entry import LEVELS
from voiceops.stack.logs.select import LineFilter

DEFAULT_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What was asked for."""

    only: Sequence[str] = ()
    follow: bool = False
    since: float = 0.0
    """Seconds since the epoch; 0: from the beginning."""
    count: int = DEFAULT_LINES
    """At most so many of the last lines; 0: all, each as it is read."""
    raw: bool = False
    filter: LineFilter


def query_of(flags: LogFlags) -> LogQuery:
    """Read the flags; ``UsageError`` names the one that makes no sense."""
    try:
        start = log_files.parse_since(flags.since, time.time()) if flags.since else 0.0
    except ValueError as error:
        raise UsageError(f"--since: {error}", hint="for example --since 10m") from None
    if flags.level and flags.level not in LEVELS:
        raise UsageError(
            f"--level is one of {', '.join(LEVELS)}, not {flags.level!r}", hint="for example --level error"
        )
    try:
        # As in many pagers: capital letters say that the case counts.
        pattern = (
            re.compile(flags.grep, 0 if flags.grep != flags.grep.lower() else re.IGNORECASE)
            if flags.grep
            else None
        )
    except re.error as error:
        raise UsageError(
            f"--grep {flags.grep!r} is no regular expression: {error}",
            hint="write \\( for a parenthesis that is meant",
        ) from None
    return LogQuery(
        only=names(flags.only),
        follow=flags.follow,
        since=start,
        count=flags.lines if flags.lines >= 0 else 0 if flags.since else DEFAULT_LINES,
        raw=flags.raw,
        filter=LineFilter(level=flags.level, pattern=pattern, room=flags.room, everything=flags.raw),
    )


def tell_if_none(run: CommandRun, query: LogQuery, printer: LogPrinter) -> None:
    """Say on stderr that nothing was found: an empty answer to a filter looks like an empty log."""
    if printer.shown_count or not query.filter.asked or query.follow or run.json:
        return
    asked = {
        "--room": query.filter.room,
        "--grep": query.filter.pattern.pattern if query.filter.pattern else "",
        "--level": query.filter.level,
    }
    flags = " ".join(f"{flag} {value}" for flag, value in asked.items() if value)
    run.say(f"no line of the logs matches {flags}")
