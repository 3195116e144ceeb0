"""Declarations of three services, one of each kind, as the stack makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from voiceops.config.shipped import find_template
from voiceops.kinds.agent import AgentService
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.model import DeclarationContext, Declared
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, Settings
from voiceops.stack import declare as stack_declare

SETTINGS = Settings(
    project="test",
    livekit=LivekitSettings(url="ws://127.0.0.1:7890", api_key=Secret("key"), api_secret=Secret("s" * 32)),
    services={
        "livekit": LivekitService(binary="/bin/true"),
        "agent": AgentService(entry="agent/agent.py", agent_name="bob", max_concurrent_jobs=3),
        "web": CommandService(command=["web"], env={"TOKEN": Secret("hidden")}),
    },
)


def declaration_context(folder: Path) -> DeclarationContext:
    """A project in ``folder`` with an agent, and with variables in its .env."""
    (folder / "agent").mkdir()
    (folder / "agent" / "agent.py").write_text("print()\n")
    templates = Path(__file__).resolve().parents[2] / "templates"
    return DeclarationContext(
        settings=SETTINGS,
        root=folder,
        config_folder=folder / ".voiceops",
        dotenv=lambda: {"OPENAI_API_KEY": "from-dotenv", "CRM_TOKEN": "crm", "SUDO_PASSWORD": "root"},
        template=lambda name: find_template(name, [folder / "templates", templates]),
    )


def declare(settings: Settings, context: DeclarationContext) -> tuple[Declared, ...]:
    return stack_declare.declare(replace(context, settings=settings))


def named(services: tuple[Declared, ...], name: str) -> Declared:
    return next(service for service in services if service.name == name)


def with_service(name: str, **changes: Any) -> Settings:
    changed = msgspec.structs.replace(SETTINGS.services[name], **changes)
    return msgspec.structs.replace(SETTINGS, services={**SETTINGS.services, name: changed})
