"""What the service of kind ``web`` is started with; its kind writes it, its process reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

import msgspec

SETTINGS_ENV = "VOICEOPS_WEB"
"""Variable with ``WebSettings`` as JSON. Keys are variables of their own: ``LIVEKIT_API_KEY``, ``LIVEKIT_API_SECRET``."""
OPERATORS_TOKEN_ENV = "VOICEOPS_WEB_OPERATORS_TOKEN"

AUDIT_LOG = "audit.log"
"""In ``.voiceops``."""


class DashboardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the dashboard runs on this machine, as the user who started the stack or the dashboard."""

    feed: tuple[str, ...]
    """Prints what the dashboard shows, one line of JSON for each change."""
    program: tuple[str, ...]
    """What runs this project's commands; a command and its flags follow."""
    inventory: str
    audit_log: str
    """The file that gets a line before and after each command of an operator."""
    hosts: Mapping[str, str] = {}
    """The hosts that it shows and acts on, and what ``--host`` takes for each; empty: this machine."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server of pages listens, and whom it believes what."""

    address: str = "127.0.0.1"
    port: int
    cors_port: Union[int, None] = None
    """A second port for pages of ``origins``, with the API and the library only; None: none."""
    origins: tuple[str, ...] = ()
    """Other origins whose pages may use the API, as ``https://example.com``."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose ``X-Forwarded-*`` count."""
    requests_per_minute: float
    """Of one address."""
    requests_per_minute_total: float
    """Of all addresses."""


class WebSettings(ServerSettings, frozen=True, kw_only=True):
    """The server of the page: how it is reached, and which LiveKit it calls."""

    livekit_url: str
    """Where this process asks LiveKit."""
    browser_url: str
    """Where browsers reach it."""
    agent_name: str = ""
    """The agent that a call is dispatched to; empty: the implicit one."""
    client: str
    """Path of livekit-client."""
    why_command: tuple[str, ...] = ()
    """Prints a diagnosis as JSON for the operators; empty: there is none here."""
    dashboard: Union[DashboardSettings, None] = None
    """None: there is none here."""
