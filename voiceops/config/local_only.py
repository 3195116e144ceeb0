"""Refuse settings that only this shell knows, for what runs without it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from voiceops.config.source.dotenv import Environment
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret


def refuse_shell_only(environment: Environment, secrets: Iterable[Secret]) -> None:
    """``ConfigError`` for a secret that is a variable of this shell alone: every run of cron would fail."""
    known = environment.dotenv()
    for secret in secrets:
        name = secret.reference
        if secret.form == "env" and name not in known and name in os.environ:
            raise ConfigError(
                f"{name} is set in this shell only: cron and systemd will not know it",
                hint=f"write {name}=... into {environment.folder / '.env'}",
            )
