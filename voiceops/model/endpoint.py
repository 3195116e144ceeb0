"""Where the LiveKit of a host can be asked: by its address, or only from the host itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from voiceops.model.settings import Host


def reachable(host: Host) -> bool:
    """Whether the host's LiveKit can be asked from here: an address of loopback means another machine there."""
    return host.local or not on_loopback(host.settings.livekit.url)


def on_loopback(url: str) -> bool:
    """Whether only the machine itself can reach this address."""
    name = urlsplit(url).hostname or ""
    return name in ("localhost", "::1") or name.startswith("127.")


def server_id(host: Host) -> str:
    """What its LiveKit is called in locks and observations: two hosts may have one on the same loopback address."""
    url = host.settings.livekit.url
    return url if reachable(host) else f"{url} on {host.name}"
