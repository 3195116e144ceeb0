"""Say that a LiveKit secret is too short to be safe."""

from __future__ import annotations

from collections.abc import Iterable

from voiceops.cli.command import CommandRun
from voiceops.model.roles import Role
from voiceops.model.settings import MIN_SECRET_BYTES, Host


def warn_of_short_secrets(run: CommandRun, hosts: Iterable[Host], *, then: str) -> None:
    """Say which LiveKit secret is too short, of hosts whose services use it, and what to do; once for each."""
    short: dict[tuple[str, int], None] = {}
    for host in hosts:
        secret = host.settings.livekit.api_secret
        if host.settings.runs(Role.SERVER) or host.settings.runs(Role.AGENT):
            size = len(secret.reveal().encode())
            if size < MIN_SECRET_BYTES:
                short[secret.reference if secret.form == "env" else "livekit.api_secret", size] = None
    for name, size in short:
        run.say(
            f"warning: {name} has {size} characters: LiveKit wants {MIN_SECRET_BYTES} or more, "
            f"and a short one can be guessed; set a new one (`openssl rand -hex 32`), then `inv {then}`"
        )
