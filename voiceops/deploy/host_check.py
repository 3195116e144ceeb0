"""One check of a server by its own monitor's program, on the server itself."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Union

import msgspec

from voiceops.adapters.ssh.transports import transport_to
from voiceops.config.shipped import shipped
from voiceops.deploy.desired import host_check
from voiceops.deploy.host_calls import run_in_unit
from voiceops.deploy.host_history import monitor_of
from voiceops.errors import ServiceError, UsageError
from voiceops.model.settings import Host
from voiceops.ports import Transport

if TYPE_CHECKING:
    from voiceops.model.documents.stack import MonitoredHost

_WITHIN_S = 60.0


class _FoundByHost(msgspec.Struct, frozen=True):
    rule: str
    severity: str
    cause: str
    evidence: list[str]
    fix: str
    room: Union[str, msgspec.UnsetType] = msgspec.UNSET


class _CheckedHost(msgspec.Struct, frozen=True):
    """What is read of one host in the document of ``inv monitor --once``."""

    ok: bool
    services: dict[str, str]
    room_count: Union[int, None]
    took_s: float
    held_by: str
    findings: list[_FoundByHost]


class _CheckError(msgspec.Struct, frozen=True):
    message: str = ""


class _CheckDocument(msgspec.Struct, frozen=True):
    hosts: dict[str, _CheckedHost] = {}
    error: _CheckError = _CheckError()


def check_by_monitor(host: Host) -> MonitoredHost:
    """Connect to the host, and have its monitor look once; see ``check_on_host``."""
    with contextlib.closing(transport_to(host)) as transport:
        return check_on_host(host, transport)


def check_on_host(host: Host, transport: Transport) -> MonitoredHost:
    """Have the host's monitor look once, which changes nothing. ``ServiceError`` if it gives no result."""
    monitor = monitor_of(host)
    if not monitor:
        raise UsageError(
            f"{host.name} has no monitor", hint="declare a service of kind monitor for it, and deploy it"
        )
    unit = f"{host.settings.project}-check-{secrets.token_hex(4)}"
    argv = host_check(host.settings, monitor, unit=unit, limit_s=_WITHIN_S, templates=[shipped("templates")])
    ended = run_in_unit(transport, argv, unit=unit, limit_s=_WITHIN_S)
    try:
        return read_check(ended.stdout)
    except ValueError as error:
        why = error
    raise ServiceError(
        f"{host.name}: its monitor can't check it (exit {ended.exit_code}): {why}",
        hint=f"run `inv deploy --host {host.name}`",
        log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-10:]),
        data={"host": host.name},
    )


def read_check(said: bytes) -> MonitoredHost:
    """The one host in a document of ``inv monitor --once``; ``ValueError`` if it has none."""
    try:
        document = msgspec.json.decode(said[said.index(b"{") :], type=_CheckDocument)
    except (ValueError, msgspec.DecodeError):
        raise ValueError("it gave no answer") from None
    if len(document.hosts) != 1:
        raise ValueError(document.error.message or "it gave no answer")
    (checked,) = document.hosts.values()
    found: MonitoredHost = msgspec.to_builtins(checked)
    return found
