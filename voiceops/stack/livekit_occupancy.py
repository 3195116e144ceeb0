"""Asks a LiveKit who is in a call: with the keys and on the port that its running process was started with.

After a secret was rotated in the inventory, the running server still knows only the old one; after the port
was changed, it still listens on the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import yaml

from voiceops.errors import CredentialsError, NotListeningError, VoiceopsError
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, RoomsSettings
from voiceops.stack.model import Instance
from voiceops.stack.occupancy import NO_SERVER, CallKnowledge, OccupiedRooms

if TYPE_CHECKING:
    from voiceops.rooms.live_calls import LiveRooms

T = TypeVar("T")


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
        # asyncio and LiveKit's API: a command that puts no call at risk needs neither.
        from voiceops.stack.livekit_rooms import occupied_rooms

        try:
            return self._ask(servers, lambda livekit: occupied_rooms(livekit, self.rooms))
        except NotListeningError:
            return NO_SERVER
        except VoiceopsError as error:
            return OccupiedRooms(knowledge=CallKnowledge.UNKNOWN, cause=error)

    def hang_up(self, rooms: Sequence[str], servers: Sequence[Instance]) -> None:
        """Delete the rooms; one that can't be deleted ends with its agent."""
        from voiceops.stack.livekit_rooms import delete_rooms

        try:
            self._ask(servers, lambda livekit: delete_rooms(livekit, rooms))
        except VoiceopsError:
            return  # what follows ends the calls as well, only later

    def _ask(self, servers: Sequence[Instance], act: Callable[[LivekitSettings], T]) -> T:
        """The answer to the first pair of keys that is accepted, else the first refusal."""
        refusal: VoiceopsError | None = None
        for endpoint in self._endpoints(servers):
            try:
                return act(endpoint)
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
    try:
        document: object = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    if not isinstance(document, dict):
        return None
    port, keys = document.get("port"), document.get("keys")
    if not isinstance(port, int) or not isinstance(keys, dict) or not keys:
        return None
    key, secret = next(iter(keys.items()))
    return port, Secret(str(key)), Secret(str(secret))


def read_live_rooms(livekit: LivekitSettings, rooms: RoomsSettings) -> LiveRooms | None:
    """The rooms of the LiveKit and who is in a call; None when it does not say."""
    from voiceops.stack.livekit_rooms import rooms_and_calls

    try:
        return rooms_and_calls(livekit, rooms)
    except VoiceopsError:
        return None
