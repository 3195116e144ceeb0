"""Document of monitor --test-alert."""

from __future__ import annotations

from typing import TypedDict


class TestedChannel(TypedDict):
    """One channel that was tried."""

    ok: bool
    detail: str
    """Why it did not take the message."""


class AlertTestHost(TypedDict):
    """The channels of this machine's monitor, by the names that logs call them."""

    ok: bool
    channels: dict[str, TestedChannel]


class AlertTestDocument(TypedDict):
    """``inv monitor --test-alert``."""

    hosts: dict[str, AlertTestHost]
