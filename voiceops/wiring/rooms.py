"""Build the session on a LiveKit server."""

from __future__ import annotations

from voiceops.adapters.livekit.api import LivekitApi
from voiceops.adapters.ssh.forward import reachable_endpoint
from voiceops.adapters.ssh.transports import transport_to
from voiceops.model.endpoint import reachable
from voiceops.rooms.servers import RoomServer


def room_api(server: RoomServer) -> LivekitApi:
    """A session on the server; use it in ``async with``. What is on a host's loopback is asked through ssh."""
    keys, concurrency = (server.livekit.api_key, server.livekit.api_secret), server.rooms.concurrency
    if reachable(server.host):
        return LivekitApi(server.url, *keys, concurrency=concurrency)
    transport = transport_to(server.host)
    transport.open()
    url = reachable_endpoint(server.host, transport).settings.livekit.url
    return LivekitApi(url, *keys, concurrency=concurrency, server_id=server.url, on_close=transport.close)
