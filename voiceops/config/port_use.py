"""Ports of services, as reading an inventory compares them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that a service listens on."""

    protocol: str
    """TCP or UDP."""
    port: int
    path: tuple[str, ...]
    """The setting that says so."""
