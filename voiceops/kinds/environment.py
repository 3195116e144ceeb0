"""The variables that a service gets, and the digest by which it counts as changed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from voiceops.errors import ConfigError
from voiceops.model.environment import selected_variables
from voiceops.model.secret import Secret
from voiceops.model.settings import ServiceBase


def service_environment(service: ServiceBase, dotenv: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ``env_from`` and ``env`` of a service name, in the clear; ``env`` wins."""
    try:
        selected = selected_variables(service.env_from, dotenv)
    except KeyError as error:
        missing = error.args[0]
        raise ConfigError(
            f"env_from names {missing}, which is set neither in the environment nor in .env",
            hint=f"add a line {missing}=... to .env, or take it out of env_from",
        ) from None
    return selected | {
        name: value.reveal() if isinstance(value, Secret) else str(value)
        for name, value in service.env.items()
    }


def withheld_names(env: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of ``.env`` that are not in a service's environment."""
    return tuple(name for name in dotenv if name not in env)


def digest_of(*parts: object) -> str:
    """Return a short hash that differs for other values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def importable(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with a PYTHONPATH by which voiceops is found, also where it runs from a checkout."""
    package = Path(__file__).resolve().parents[2]
    if package.is_relative_to(sys.prefix):
        return dict(env)
    paths = env.get("PYTHONPATH") or os.environ.get("PYTHONPATH", "")
    return {**env, "PYTHONPATH": os.pathsep.join([*filter(None, paths.split(os.pathsep)), str(package)])}
