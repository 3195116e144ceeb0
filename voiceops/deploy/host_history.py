"""Read the history that the monitor of a server keeps, on the server itself."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar, Union

import msgspec

from voiceops.config.shipped import shipped
from voiceops.deploy.desired import host_history
from voiceops.deploy.host_calls import run_in_unit
from voiceops.deploy.ledger import deploys_in, read_ledger
from voiceops.errors import ServiceError
from voiceops.history.select import HistoryPart, merged
from voiceops.history.store import MostRooms
from voiceops.model.history import CallRecord, IncidentRecord, RepairRecord, StoredRecord
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.systemd.names import HostNames
from voiceops.util.times import iso_time

T = TypeVar("T", bound=StoredRecord)
_WITHIN_S = 60.0
_Entries = list[dict[str, object]]
_COLUMNS = {"detail": "error", "attempt_count": "attempt"}
"""Of repairs: the document's names for what the record calls otherwise."""


class _HostError(msgspec.Struct, frozen=True):
    message: str = ""


class _HostPart(msgspec.Struct, frozen=True):
    calls: _Entries = []
    incidents: _Entries = []
    repairs: _Entries = []
    most_room_count: Union[int, None] = None
    most_waiting_count: Union[int, None] = None
    most_stuck_count: Union[int, None] = None


class _HostDocument(msgspec.Struct, frozen=True):
    """What is read of the document of ``inv history``."""

    hosts: dict[str, _HostPart] = {}
    error: _HostError = _HostError()


def monitor_of(host: Host) -> str:
    """The name of the host's monitor; empty where it has none."""
    return next((name for name, one in host.settings.running.items() if one.watches), "")


def read_host_history(host: Host, transport: Transport, *, since: float) -> HistoryPart:
    """What the host's monitor has recorded since then, to the second; ``ServiceError`` if that can't be read."""
    unit = f"{host.settings.project}-history-{secrets.token_hex(4)}"
    argv = host_history(
        host.settings,
        monitor_of(host),
        unit=unit,
        limit_s=_WITHIN_S,
        templates=[shipped("templates")],
        since=iso_time(since),
    )
    ended = run_in_unit(transport, argv, unit=unit, limit_s=_WITHIN_S)
    try:
        return read_history(host.name, ended.stdout)
    except ValueError as error:
        why = error
    raise ServiceError(
        f"{host.name}: the history of its monitor can't be read (exit {ended.exit_code}): {why}",
        hint=f"run `inv deploy --host {host.name}`",
        log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-10:]),
        data={"host": host.name},
    )


def read_host_deploys(host: Host, transport: Transport, *, since: float) -> HistoryPart:
    """Deploys and rollbacks in the ledger of the host, whichever machine began them."""
    history = read_ledger(transport, HostNames(host.settings.project)).history
    return HistoryPart(deploys=deploys_in(history, host=host.name, since=since))


def read_history(host: str, said: bytes) -> HistoryPart:
    """The records in a document of ``inv history``, all of this host; ``ValueError`` if it has none."""
    try:
        document = msgspec.json.decode(said[said.index(b"{") :], type=_HostDocument)
    except (ValueError, msgspec.DecodeError):
        raise ValueError("it gave no answer") from None
    if not document.hosts:
        raise ValueError(document.error.message or "it gave no answer")
    return merged([_part(host, one) for one in document.hosts.values()])


def _part(host: str, found: _HostPart) -> HistoryPart:
    renamed = [{_COLUMNS.get(name, name): value for name, value in one.items()} for one in found.repairs]
    return HistoryPart(
        calls=_records(CallRecord, found.calls, host),
        incidents=_records(IncidentRecord, found.incidents, host),
        repairs=_records(RepairRecord, renamed, host),
        most=MostRooms(found.most_room_count, found.most_waiting_count, found.most_stuck_count),
    )


def _records(kind: type[T], entries: Sequence[dict[str, object]], host: str) -> list[T]:
    return [
        msgspec.convert({**{name: _value(name, one[name]) for name in one}, "host": host}, kind)
        for one in entries
    ]


def _value(name: str, value: object) -> object:
    is_time = name == "at" or name.endswith("_at")
    return datetime.fromisoformat(value).timestamp() if is_time and isinstance(value, str) else value
