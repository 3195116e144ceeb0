"""Clean rooms before an agent takes calls, and count them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.deadline import deadline
from voiceops.errors import VoiceopsError
from voiceops.model.quoting import printable
from voiceops.model.settings import Host
from voiceops.rooms.cleanup import CleanupReport, cleanup_stale_rooms
from voiceops.rooms.observations import ObservationFile
from voiceops.util import aio
from voiceops.util.words import counted


def clean_rooms(host: Host, memory: Path, say: Callable[[str], None], *, server_id: str = "") -> None:
    """Delete what can be proved to be unused; no start fails for it.

    ``memory``: the file of what earlier cleanups observed.
    """
    livekit = host.settings.livekit

    async def clean() -> CleanupReport:
        async with (
            deadline(15.0, "cleaning up rooms"),
            LivekitApi(livekit.url, livekit.api_key, livekit.api_secret, server_id=server_id) as api,
        ):
            return await cleanup_stale_rooms(
                api, host.settings.rooms, memory=ObservationFile(memory), confirm_within_s=0.0
            )

    try:
        report = aio.run(clean())
    except VoiceopsError as error:
        say(f"rooms were not cleaned: {error.message}")
        return
    if report.deleted:
        say(f"rooms cleaned: {len(report.deleted)} deleted")
    if report.failed:
        count = counted(len(report.failed), "room")
        say(f"{count} not cleaned: {printable(report.failed[0][1].message)}")
