"""Rooms and agents of a LiveKit server: look, clean, dispatch, wait.

For tasks, the monitor, agents and programs of your own::

    from voiceops.adapters.livekit.api import LivekitApi
    from voiceops.model.secret import Secret
    from voiceops.rooms import bring_agent, cleanup_stale_rooms

    async with LivekitApi(url, Secret(key), Secret(secret)) as api:
        report = await cleanup_stale_rooms(api)
        dispatched, ready = await bring_agent(api, "front-desk", "receptionist")

Every function takes the session first, is safe to call twice, ends under a deadline, and raises
only what stands in ``voiceops.errors``.
"""

from voiceops.rooms.cleanup import CleanupReport, cleanup_stale_rooms
from voiceops.rooms.dispatch import DispatchResult, dispatch_agent
from voiceops.rooms.observations import ObservationFile
from voiceops.rooms.reading import get_room_info, list_participants, list_rooms, remove_participant
from voiceops.rooms.removal import RoomsRemainError, cleanup_room, delete_room, ensure_clean_room
from voiceops.rooms.waiting import AgentNotReadyError, ReadyAgent, bring_agent, wait_for_agent
from voiceops.rooms.watcher import AgentWatcher, WatchReport

__all__ = [
    "AgentNotReadyError",
    "AgentWatcher",
    "CleanupReport",
    "DispatchResult",
    "ObservationFile",
    "ReadyAgent",
    "RoomsRemainError",
    "WatchReport",
    "bring_agent",
    "cleanup_room",
    "cleanup_stale_rooms",
    "delete_room",
    "dispatch_agent",
    "ensure_clean_room",
    "get_room_info",
    "list_participants",
    "list_rooms",
    "remove_participant",
    "wait_for_agent",
]
