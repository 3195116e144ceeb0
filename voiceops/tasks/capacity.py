"""``inv capacity``: how many calls at once a host carries."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.cli.flags import CapacityFlags


@command(
    *TARGETS,
    "timeout",
    "yes",
    own_flags=CapacityFlags,
    help={
        "most": "Try no more calls at once than this (default 50).",
        "hold": "Seconds for which all of them are there (default 10).",
        "service": "The agent service to call, where there are several.",
        "report": "Write an HTML report to this file.",
        "plot": "Write a picture of what was heard, by the number of calls, to this file (.png or .svg).",
        "timeout": "Seconds that the whole test may take (default 900).",
        "yes": "Go ahead where other people are in a call.",
    },
)
def capacity(run: CommandRun, flags: CapacityFlags) -> Report:
    """Find out how many calls at once a host carries: p95 answer below 2 s, gaps up to 100 ms, no loss.

    Says what gave in first, and the agent's settings that follow. Example: inv capacity --host web1 --most 20
    """
    from voiceops.commands.capacity import measure_capacity

    return measure_capacity(run, flags)
