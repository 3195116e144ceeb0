"""Reach the LiveKit of a server through the ssh connection, where it listens on loopback there."""

from __future__ import annotations

import msgspec

from voiceops.adapters.ssh.transport import SshTransport
from voiceops.model.endpoint import reachable
from voiceops.model.settings import Host
from voiceops.ports import Transport


def reachable_endpoint(host: Host, transport: Transport) -> Host:
    """The host with an address of its LiveKit that is good on this machine, while ``transport`` is open.

    What is on loopback there would otherwise be looked for here, and a LiveKit of this machine be
    taken for the host's.
    """
    return host if reachable(host) else endpoint_within(host, transport)


def endpoint_within(host: Host, transport: Transport) -> Host:
    """The same, reached from within the host: also while callers from elsewhere wait for it."""
    if not isinstance(transport, SshTransport):
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
