"""The environment of what the page's server runs: no part of the service itself."""

from __future__ import annotations

import os
from collections.abc import Mapping

from voiceops.model.protocol import SERVICE_ENV
from voiceops.model.web import OPERATORS_TOKEN_ENV, SETTINGS_ENV

_OWN = (SERVICE_ENV, "VOICEOPS_LAUNCH", "NOTIFY_SOCKET", "WATCHDOG_USEC", SETTINGS_ENV, OPERATORS_TOKEN_ENV)


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return ours without what marks this process as the service: its commands outlive it."""
    return {name: value for name, value in environment.items() if name not in _OWN}
