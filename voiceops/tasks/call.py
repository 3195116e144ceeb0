"""``inv call``: synthetic callers over real WebRTC."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command
from voiceops.cli.flags import CallFlags


@command(
    *TARGETS,
    "timeout",
    own_flags=CallFlags,
    help={
        "count": "How many calls (default 1).",
        "concurrency": "Calls at once (default: 1, or what --rate needs).",
        "rate": "Calls started per second (0: as soon as a caller is free).",
        "duration": "Call for that many seconds instead of --count times.",
        "hold": "Seconds that a caller stays after it has heard the agent, measuring gaps, loss, jitter and round trip.",
        "min-quality": "With --hold: a call that was worse than this mean opinion score (1 to 4.4) for 5 s counts as failed.",
        "script": "WAV file to play after the greeting; the agent must answer it.",
        "hangup": "clean, abrupt (the caller vanishes) or mid-greeting; several as a,b are taken in turn.",
        "redial": "Hang up and call again at once, as the same caller.",
        "room": "Call into this room instead of a fresh one, and leave it standing.",
        "service": "The agent service to call, where there are several.",
        "agent-name": "Call the agent that registered this name with LiveKit, instead of the declared one.",
        "report": "Write an HTML report to this file.",
        "plot": "Write a picture of all calls to this file (.png or .svg).",
        "expect-success": "Smallest share of answered calls for exit code 0 (default 0.95).",
        "timeout": "Seconds from dialling to hearing the agent, per call (default 15).",
    },
)
def call(run: CommandRun, flags: CallFlags) -> Report:
    """Call the agent as a caller does: times to connect, to agent, to first audio.

    Example: inv call --count 100 --concurrency 5 --hangup clean,abrupt --plot calls.png
    """
    from voiceops.commands.call import place_calls

    return place_calls(run, flags)
