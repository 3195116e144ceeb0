"""Calls placed by a server itself, whose LiveKit listens on loopback only."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from voiceops.config.shipped import shipped
from voiceops.deploy.desired import host_call, host_outline
from voiceops.errors import ServiceError, UsageError, VoiceopsError
from voiceops.model.calls import CallResult
from voiceops.model.settings import Host
from voiceops.ports import ProgramResult, Transport


def call_from_host(
    host: Host,
    transport: Transport,
    service: str,
    timeout_s: float = 15.0,
    *,
    proof_name: str = "",
    release: str = "",
) -> CallResult:
    """The same call, placed by the host itself: its LiveKit listens on loopback only.

    ``proof_name``: to the agent that registered that name; ``release``: whose voiceops places it, as none may be current yet.
    """
    flags = [f"--timeout={timeout_s:g}", *([f"--agent-name={proof_name}"] if proof_name else [])]
    document, _, code = calls_from_host(host, transport, service, flags, longest_s=timeout_s, release=release)
    try:
        return msgspec.convert(document["calls"][0], CallResult)
    except (KeyError, IndexError, msgspec.ValidationError):
        error = document.get("error", {})
        raise ServiceError(
            f"{host.name}: the call from the host failed (exit {code}): {error.get('message', 'no result')}",
            hint=error.get("hint"),
            data={"host": host.name},
        ) from None


def calls_from_host(
    host: Host,
    transport: Transport,
    service: str,
    flags: Sequence[str],
    *,
    longest_s: float,
    as_text: bool = False,
    release: str = "",
) -> tuple[dict[str, Any], str, int]:
    """`inv call` on the host: its document or its text, and its exit code. Ctrl-C ends it there too.

    ``release``: whose voiceops places them; empty: that of the one which serves.
    """
    agents = [one.name for one in host_outline(host.settings) if one.is_agent and service in ("", one.name)]
    if not agents:
        raise UsageError(f"{host.name} runs no agent to call", hint="`inv status` shows what runs where")
    limit_s = longest_s + 60.0
    unit = f"{host.settings.project}-call-{secrets.token_hex(4)}"
    templates = [shipped("templates")]
    argv = host_call(
        host.settings, agents[0], unit=unit, limit_s=limit_s, templates=templates, release=release
    )
    shown = [] if as_text else ["--json"]
    ended = run_in_unit(transport, [*argv, *flags, *shown], unit=unit, limit_s=limit_s)
    said = ended.stdout.decode(errors="replace")
    try:
        if as_text and said.strip():
            return {}, said.strip(), ended.exit_code
        document: dict[str, object] = json.loads(said[said.index("{") :])
        return document, "", ended.exit_code
    except ValueError:
        raise ServiceError(
            f"{host.name}: the call from the host broke off (exit {ended.exit_code})",
            log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-10:]),
            data={"host": host.name},
        ) from None


def run_in_unit(transport: Transport, argv: Sequence[str], *, unit: str, limit_s: float) -> ProgramResult:
    """Run what systemd makes a unit of; whatever interrupts it here ends it there too."""
    try:
        return transport.run(argv, root=True, timeout_s=limit_s + 15.0)
    except BaseException:
        with contextlib.suppress(VoiceopsError):
            transport.run(["systemctl", "stop", f"{unit}.service"], root=True, timeout_s=10.0)
        raise
