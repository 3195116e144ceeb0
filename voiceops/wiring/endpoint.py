"""How the LiveKit of a server is asked from here: by its address, or through ssh where it is loopback there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.model.settings import Host
    from voiceops.ports import Transport
    from voiceops.stack.livekit_occupancy import LivekitOccupancy
    from voiceops.stack.model import Instance


def reachable(host: Host) -> bool:
    """Whether the host's LiveKit can be asked from here: an address of loopback means another machine there."""
    from urllib.parse import urlsplit

    name = urlsplit(host.settings.livekit.url).hostname or ""
    return host.local or not (name in ("localhost", "::1") or name.startswith("127."))


def known_as(host: Host) -> str:
    """What its LiveKit is called in locks and observations: two hosts may have one on the same loopback address."""
    url = host.settings.livekit.url
    return url if reachable(host) else f"{url} on {host.name}"


def near(host: Host, transport: Transport) -> Host:
    """The host with an address of its LiveKit that is good on this machine, while ``transport`` is open.

    What is on loopback there would otherwise be looked for here, and a LiveKit of this machine be
    taken for the host's.
    """
    from voiceops.adapters.ssh.transport import SshTransport

    if reachable(host) or not isinstance(transport, SshTransport):
        return host
    import msgspec

    settings = host.settings
    scheme = settings.livekit.url.partition("://")[0]
    port = transport.forward(settings.livekit.port)
    livekit = msgspec.structs.replace(settings.livekit, url=f"{scheme}://127.0.0.1:{port}")
    return msgspec.structs.replace(host, settings=msgspec.structs.replace(settings, livekit=livekit))


_READ_FILE = 'echo; head -c 1000000 "$1" | base64 -w0'
"""One line, so that what login shells print before it is told apart."""


def server_occupancy(host: Host, asked: Host, transport: Transport) -> LivekitOccupancy:
    """Who is in a call on the LiveKit of a server. ``asked``: the host as ``near`` returns it.

    systemd keeps the configuration that a unit was started with, as one of its credentials, until it ends.
    """
    import base64

    from voiceops.adapters.ssh.transport import SshTransport
    from voiceops.errors import VoiceopsError
    from voiceops.stack.livekit_occupancy import LivekitOccupancy

    def started_with(server: Instance) -> str:
        path = f"/run/credentials/{server.launch}/livekit.yaml"
        try:
            ended = transport.run(["sh", "-c", _READ_FILE, "sh", path], root=True, timeout_s=10.0)
            return base64.b64decode(ended.last_line).decode()
        except (VoiceopsError, ValueError):
            return ""  # then only the configured keys are left

    def url_of_port(port: int) -> str:
        near_port = transport.forward(port) if isinstance(transport, SshTransport) else port
        return f"ws://127.0.0.1:{near_port}"

    return LivekitOccupancy(
        livekit=asked.settings.livekit,
        rooms=host.settings.rooms,
        port=host.settings.livekit.port,
        started_with=started_with,
        url_of_port=url_of_port,
    )
