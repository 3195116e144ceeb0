"""Make a project in the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voiceops import kinds
from voiceops.cli.command import Report
from voiceops.config import scaffold
from voiceops.config.local_keys import ensure_local_keys
from voiceops.config.project_ports import choose_ports, remember, services_of
from voiceops.config.source.dotenv import Environment

if TYPE_CHECKING:
    from voiceops.model.documents.project import InitDocument


def make_project(*, profile: str, force: bool) -> Report:
    """Write the files that are missing, with keys and ports of its own; safe to call again."""
    folder = Path.cwd()
    sample = scaffold.sample_inventory(profile)
    ports = choose_ports(folder, sample, kinds)
    files = scaffold.plan(scaffold.project_name(folder), ports, profile)
    made = scaffold.write(folder, files, force=force)
    remember(folder)
    # Of .env alone: what this shell has set would be missing in the next one, and in cron.
    passwords = [
        f"{name}_{setting}".upper()
        for name, service in services_of(sample, kinds).items()
        for setting in service.passwords
    ]
    secrets = ["LIVEKIT_API_SECRET", *passwords]
    keys = ensure_local_keys(Environment(folder, {}), key="LIVEKIT_API_KEY", secrets=secrets)
    made[".env"] = bool(keys)
    created = [name for name, new in made.items() if new]
    text = "\n".join([*(f"created {name}" for name in created), "next: ./inv start"]) if created else ""
    document: InitDocument = {
        "changed_count": len(created),
        "files": {name: {"changed": new} for name, new in made.items()},
    }
    return Report(document, text or "nothing to do: the project is complete")
