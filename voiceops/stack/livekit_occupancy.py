"""Asks a LiveKit who is in a call: with the keys and on the port that its running process was started with.

After a secret was rotated in the inventory, the running server still knows only the old one; after the port
was changed, it still listens on the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from voiceops.deadline import deadline
from voiceops.errors import CredentialsError, NotListeningError, VoiceopsError
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, RoomsSettings
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import NO_SERVER, CallKnowledge, OccupiedRooms
from voiceops.util import aio

if TYPE_CHECKING:
    from voiceops.adapters.livekit.api import LivekitApi

T = TypeVar("T")
ASK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LivekitOccupancy:
    """Implements ``stack.occupancy.Occupancy`` on the LiveKit of one host."""

    livekit: LivekitSettings
    """With a URL that is good on this machine."""
    rooms: RoomsSettings
    port: int
    """The server's own, as the inventory has it."""
    started_with: Callable[[Instance], str]
    """The configuration file that a running server was started with; empty where it is not at hand."""
    url_of_port: Callable[[int], str]
    """A URL, good on this machine, for a port of the host's loopback."""

    def occupied(self, servers: Sequence[Instance]) -> OccupiedRooms:
        """Within 5 s for each pair of keys, of which there are rarely two."""

        async def look(api: LivekitApi) -> OccupiedRooms:
            from voiceops.rooms.presence import live_agents, persons

            listed = await api.list_rooms()
            everybody = await asyncio.gather(*(api.list_participants(room.name) for room in listed))
            held = {
                room.name: live_agents(all_in)
                for room, all_in in zip(listed, everybody, strict=True)
                if persons(all_in, self.rooms)
            }
            return OccupiedRooms(
                rooms=frozenset(held), served=frozenset(room for room, agents in held.items() if agents)
            )

        try:
            return self._ask(servers, look, "looking who is in a call")
        except NotListeningError:
            return NO_SERVER
        except VoiceopsError as error:
            return OccupiedRooms(knowledge=CallKnowledge.UNKNOWN, cause=error)

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        """Delete the rooms; one that can't be deleted ends with its agent."""

        async def delete(api: LivekitApi) -> None:
            from voiceops.rooms.removal import delete_room

            for room in rooms:
                await delete_room(api, room)

        try:
            self._ask(servers, delete, "hanging up")
        except VoiceopsError:
            return  # what follows ends the calls as well, only later

    def _ask(self, servers: Sequence[Instance], act: Callable[[LivekitApi], Awaitable[T]], what: str) -> T:
        """The answer to the first pair of keys that is accepted, else the first refusal."""
        refusal: VoiceopsError | None = None
        for endpoint in self._endpoints(servers):
            try:
                return ask(endpoint, act, what, timeout_s=ASK_TIMEOUT_S)
            except (CredentialsError, NotListeningError) as error:
                # A refusal outweighs a port where nobody listens: somebody is there.
                if refusal is None or isinstance(refusal, NotListeningError):
                    refusal = error
        assert refusal is not None
        raise refusal

    def _endpoints(self, servers: Sequence[Instance]) -> list[LivekitSettings]:
        found: list[LivekitSettings] = []
        for server in servers:
            running = running_endpoint(self.started_with(server))
            if running is None:
                continue
            port, key, secret = running
            url = self.livekit.url if port == self.port else self.url_of_port(port)
            found.append(LivekitSettings(url=url, api_key=key, api_secret=secret))
            # Its file may have been changed by hand since it was started.
            found.append(msgspec.structs.replace(self.livekit, url=url))
        distinct: list[LivekitSettings] = []
        for endpoint in [*found, self.livekit]:
            if endpoint not in distinct:
                distinct.append(endpoint)
        return distinct


def running_endpoint(text: str) -> tuple[int, Secret, Secret] | None:
    """Port, key and secret of a livekit.yaml; None when it does not have them."""
    import yaml

    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if not isinstance(document, dict):
        return None
    port, keys = document.get("port"), document.get("keys")
    if not isinstance(port, int) or not isinstance(keys, dict) or not keys:
        return None
    key, secret = next(iter(keys.items()))
    return port, Secret(str(key)), Secret(str(secret))


def ask(
    livekit: LivekitSettings, act: Callable[[LivekitApi], Awaitable[T]], what: str, *, timeout_s: float
) -> T:
    """One conversation with a LiveKit."""
    from voiceops.adapters.livekit.api import LivekitApi

    async def main() -> T:
        async with (
            deadline(timeout_s, what),
            LivekitApi(livekit.url, livekit.api_key, livekit.api_secret) as api,
        ):
            return await act(api)

    return aio.run(main())


def count_rooms(livekit: LivekitSettings) -> int | None:
    """How many rooms the LiveKit has; None when it does not say."""

    async def count(api: LivekitApi) -> int:
        return len(await api.list_rooms())

    try:
        return ask(livekit, count, "counting rooms", timeout_s=3.0)
    except VoiceopsError:
        return None
