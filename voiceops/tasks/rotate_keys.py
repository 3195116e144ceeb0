"""rotate-keys: new LiveKit keys for a stack that goes on answering calls."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    "timeout",
    "yes",
    "check",
    name="rotate-keys",
    help={
        "drain": "Seconds that a livekit-server which has to restart may wait for a moment without calls.",
        "keep_previous": "Stop before the previous key is refused; run again without this to end it.",
        "check": "Change nothing; exit 2 and say which step is next.",
    },
)
def rotate_keys(run: CommandRun, drain: float = -1.0, keep_previous: bool = False) -> Report:
    """Replace the LiveKit key and secret in three steps, each of which can be cut off and is gone on with.

    livekit-server accepts the next pair beside the present one, everything moves to it by overlap, then the
    previous one goes. Example: inv rotate-keys --group voice --drain 600
    """
    from voiceops.commands import rotate_keys as rotation

    return rotation.rotate_keys(run, drain=drain, keep_previous=keep_previous)
