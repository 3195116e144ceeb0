"""The HTTP side of a LiveKit URL: its base address, and the server's clock as its answers tell it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from voiceops.errors import ConfigError


def http_base(url: str) -> str:
    """The address of the API for a server URL; LiveKit serves both on one port."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = urlsplit(""), ""
    scheme = {"ws": "http", "wss": "https", "http": "http", "https": "https"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ConfigError(
            f"{url!r} is no URL of a LiveKit server",
            path="livekit.url",
            hint="write ws://HOST:PORT or wss://HOST",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}{port}{parts.path.rstrip('/')}"


def clock_skew_s(date: str | None, received_at: float) -> float:
    """Seconds that the server's clock was ahead of ours, from a ``Date`` header received at ``received_at``.

    The header has whole seconds: a difference of up to one second is none.
    """
    try:
        skew = parsedate_to_datetime(date or "").timestamp() + 0.5 - received_at
    except (TypeError, ValueError):
        return 0.0
    return skew if abs(skew) > 1.0 else 0.0
