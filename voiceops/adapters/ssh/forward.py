"""Reach the LiveKit of a server through the ssh connection, where it listens on loopback there."""

from __future__ import annotations

import msgspec

from voiceops.adapters.ssh.transport import SshTransport
from voiceops.model.endpoint import reachable
from voiceops.model.settings import Host
from voiceops.ports import Transport


def reachable_endpoint(host: Host, transport: Transport, *, beside_callers: bool = True) -> Host:
    """The host with an address of its LiveKit that is good on this machine, while ``transport`` is open.

    What is on loopback there would otherwise be looked for here, and a LiveKit of this machine be
    taken for the host's. Without ``beside_callers`` its port is reached from within the host wherever that can be
    done: also while callers from elsewhere wait for it.
    """
    encrypted = not host.settings.livekit.url.startswith(("ws:", "http:"))
    if not isinstance(transport, SshTransport) or (reachable(host) and (beside_callers or encrypted)):
        return host
    settings = host.settings
    scheme = settings.livekit.url.partition("://")[0]
    port = transport.forward(settings.livekit.port)
    livekit = msgspec.structs.replace(settings.livekit, url=f"{scheme}://127.0.0.1:{port}")
    return msgspec.structs.replace(host, settings=msgspec.structs.replace(settings, livekit=livekit))


def url_of_port(transport: Transport, port: int) -> str:
    """A URL, good on this machine, for a port of the host's loopback."""
    forwarded = transport.forward(port) if isinstance(transport, SshTransport) else port
    return f"ws://127.0.0.1:{forwarded}"
