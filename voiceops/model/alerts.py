"""Alerts: what holds now, and what is told of it."""

from __future__ import annotations

from typing import Literal, Union

import msgspec

AlertSeverity = Literal["error", "warning"]
"""error: callers hear silence, or the monitor has given up; warning: they may soon."""


class ActiveCondition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that holds now and that a person should know of."""

    alert: str
    """What it is about in one word, such as ``no-worker``."""
    subject: str = ""
    """The service, host or address; empty: the whole stack."""
    sentence: str
    fix: str = ""
    """The command that a person would type."""
    severity: AlertSeverity = "error"

    @property
    def key(self) -> str:
        """What tells it from others."""
        return f"{self.alert} {self.subject}"


DeployState = Literal["started", "succeeded", "failed", "rolled-back"]


class AlertMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message: an alert begins, lasts or is over; or a deploy has come so far."""

    alert: str
    subject: str
    resolved: bool
    repeated: bool
    began_at: float
    at: float
    sentence: str
    fix: str
    severity: AlertSeverity
    deploy_state: Union[DeployState, None] = None
    """Of messages about deploys."""
