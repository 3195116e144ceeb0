"""token: a way into a room for a browser, the `lk` command or a test."""

from __future__ import annotations

from voiceops.cli.command import TARGETS, CommandRun, Report, command


@command(
    *TARGETS,
    help={
        "room": "Room to join (default: a fresh name).",
        "identity": "Identity of the participant (default: a fresh one).",
        "minutes": "How long it can be used for joining.",
        "service": "Name of the agent service that is to answer, where the inventory declares several.",
        "url": "Print a link that a browser opens (LiveKit's own test page) instead of the bare token.",
    },
)
def token(
    run: CommandRun,
    room: str = "",
    identity: str = "",
    minutes: int = 10,
    service: str = "",
    url: bool = False,
) -> Report:
    """Print a token with which a browser or `lk` joins one room; it is never logged.

    The agent is dispatched when the room is new. Example: inv token --room front-desk --url
    """
    from voiceops.commands.token import make_token

    return make_token(run, room=room, identity=identity, life_s=minutes * 60.0, service=service, as_link=url)
