"""How a worker is run, as its command line and its environment say."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass
from pathlib import Path

from voiceops.model.protocol import (
    CALL_STEPS_ENV,
    HEALTH_PORT_ENV,
    HEALTH_SOCKET_ENV,
    LOAD_LIMIT_ENV,
    MAX_JOBS_ENV,
)

DRAIN_TIMEOUT_ENV = "VOICEOPS_DRAIN_TIMEOUT_S"
DEFAULT_DRAIN_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class WorkerOptions:
    """How to run a worker: the command line, else the environment."""

    entry: Path
    agent_name: str | None = None
    drain_timeout_s: float = DEFAULT_DRAIN_TIMEOUT_S
    health_socket: str | None = None
    health_port: int | None = None
    max_jobs: int | None = None
    load_limit: float | None = None
    """Load from which calls are refused; infinite: never; None: what the agent's code says, else 0.7."""
    call_steps: str | None = None
    """File for the lines by which calls can be followed."""
    log_level: str = "INFO"
    log_format: str = "json"

    @classmethod
    def resolve(cls, arguments: argparse.Namespace) -> WorkerOptions:
        """``ValueError`` with a sentence when something makes no sense."""
        entry = Path(arguments.entry)
        if not entry.is_file():
            raise ValueError(f"{entry} is no file")
        drain = arguments.drain_timeout
        max_jobs = arguments.max_jobs
        port = arguments.health_port
        options = cls(
            entry=entry,
            agent_name=arguments.agent_name,
            drain_timeout_s=drain
            if drain is not None
            else _number(DRAIN_TIMEOUT_ENV, DEFAULT_DRAIN_TIMEOUT_S),
            health_socket=os.environ.get(HEALTH_SOCKET_ENV) or None,
            health_port=port if port is not None else _optional_int(HEALTH_PORT_ENV),
            max_jobs=max_jobs if max_jobs is not None else _optional_int(MAX_JOBS_ENV),
            load_limit=_load_limit(LOAD_LIMIT_ENV),
            call_steps=os.environ.get(CALL_STEPS_ENV) or None,
            log_level=os.environ.get("LIVEKIT_LOG_LEVEL", arguments.log_level).upper(),
            log_format=arguments.log_format,
        )
        if options.max_jobs is not None and options.max_jobs < 1:
            raise ValueError(f"{MAX_JOBS_ENV} must be at least 1, not {options.max_jobs}")
        if options.drain_timeout_s < 0:
            raise ValueError(f"the drain timeout must not be negative, but is {options.drain_timeout_s:g}")
        return options


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, not {text!r}") from None


def _optional_int(name: str) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {text!r}") from None


def _load_limit(name: str) -> float | None:
    text = os.environ.get(name, "").strip().lower()
    if text in ("", "off"):
        return math.inf if text else None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit <= 1:
        raise ValueError(f"{name} must be a share of CPU above 0 up to 1, or off, not {text!r}")
    return limit
