"""The kinds of service. Each is one module, listed in ``MODULES``; its ``KIND`` is imported when it is asked for.

The last part of a module's name is what an inventory writes as ``kind``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from voiceops.kinds.model import Kind, StopBehaviour
from voiceops.model.roles import Role
from voiceops.model.settings import ServiceBase

MODULES = (
    "voiceops.kinds.livekit",
    "voiceops.kinds.agent",
    "voiceops.kinds.command",
    "voiceops.kinds.monitor",
    "voiceops.kinds.redis",
    "voiceops.kinds.postgres",
    "voiceops.kinds.letta",
    "voiceops.kinds.web",
    "voiceops.kinds.caddy",
)


def names() -> tuple[str, ...]:
    """Return every kind that an inventory can name."""
    return tuple(module.rpartition(".")[2] for module in MODULES)


def find(name: str) -> Kind[Any] | None:
    """Return the kind of this name; None where there is none."""
    return next((_load(module) for module in MODULES if module.rpartition(".")[2] == name), None)


def kind_of(service: ServiceBase) -> Kind[Any]:
    """Return the kind of a service of the inventory."""
    kind = find(service.kind)
    if kind is None:
        raise LookupError(f"no module of voiceops.kinds is named {service.kind}")
    return kind


def role_of(name: str) -> Role:
    """Return the role of a kind; ``OTHER`` for a name that is unknown here, as another version may have recorded."""
    kind = find(name)
    return kind.settings.role if kind else Role.OTHER


def stop_behaviour(name: str) -> StopBehaviour:
    """Return what a kind's programs do with a stop signal; the default for a name that is unknown here."""
    kind = find(name)
    return kind.stop if kind else StopBehaviour()


@cache
def _load(module: str) -> Kind[Any]:
    kind: Kind[Any] = import_module(module).KIND
    return kind
