"""How to reach one host by ssh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voiceops.model.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """How to reach one host. What is None comes from ssh_config, then from ssh's defaults."""

    name: str
    address: str
    user: str | None = None
    port: int | None = None
    key_file: Path | None = None
    password: Secret | None = None
    sudo_password: Secret | None = None
    known_hosts: tuple[Path, ...] = ()
    """Instead of the user's and the system's files."""
    accept_new: bool = False
    """Write the key of a host that is not known yet to known_hosts; a changed one is refused all the same."""
    ssh_config: Path | None = None
    """Instead of the user's and the system's files."""
    options: Mapping[str, str] = field(default_factory=dict)
    """ssh_config options that win over the files."""
    connect_timeout_s: float = 10.0
    keepalive_s: int = 15
