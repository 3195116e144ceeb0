"""Make a join token for one room."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from voiceops.adapters.livekit.token import caller_token
from voiceops.cli.command import CommandRun, Report
from voiceops.errors import UsageError
from voiceops.fleet.call_target import call_target
from voiceops.util.times import iso_time

if TYPE_CHECKING:
    from voiceops.model.documents.project import TokenDocument

LINK = "https://meet.livekit.io/custom"
"""LiveKit's own test page for a server of one's own: it takes URL and token from the link."""
MAX_LIFE_S = 24 * 3600.0


def make_token(
    run: CommandRun, *, room: str, identity: str, life_s: float, service: str, as_link: bool
) -> Report:
    """A token for ``room``, usable for ``life_s`` seconds, as text or as a link.

    ``UsageError`` for a life of 0 or more than a day; ``ConfigError`` without keys.
    """
    if not 0 < life_s <= MAX_LIFE_S:
        raise UsageError(
            "--minutes takes 1 to 1440", hint="a token is for one call: `inv token --minutes 10`"
        )
    run.project.ensure_local_keys(run.say)
    target = call_target(run.project.hosts, service=service, room=room)
    room = room or f"room-{secrets.token_hex(4)}"
    identity = identity or f"caller-{secrets.token_hex(4)}"
    token = caller_token(target)(room, identity, life_s)
    expires_at = iso_time(time.time() + life_s)
    link = f"{LINK}?{urlencode({'liveKitUrl': target.url, 'token': token})}"
    run.say(f"joins room {room} as {identity} at {target.url}; valid until {expires_at}")
    document: TokenDocument = {
        "url": target.url,
        "room": room,
        "identity": identity,
        "token": token,
        "link": link,
        "expires_at": expires_at,
        "expires_in_s": life_s,
    }
    return Report(document, link if as_link else token)
