"""``inv history``: what happened to calls, services and hosts."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.cli.flags import HistoryFlags


@command(
    *TARGETS,
    own_flags=HistoryFlags,
    help={
        "calls": "List the calls.",
        "incidents": "List the incidents: what was wrong, from when to when.",
        "repairs": "List what the monitor repaired by itself.",
        "deploys": "List the deploys, setups and rollbacks.",
        "since": "Since then: 90s, 10m, 2h, 7d or an ISO time (default 7d).",
        "csv": "Write one list (default: the calls) to this file.",
        "plot": "Write a picture of answer times and incidents to this file (.png or .svg).",
    },
)
def history(run: CommandRun, flags: HistoryFlags) -> Report:
    """Show what happened: calls, incidents, repairs by the monitor, deploys.

    Without a list that is named, a summary and the last of each. Example: inv history --incidents --since 2d
    """
    from voiceops.commands.history import show_history

    return show_history(run, flags)
