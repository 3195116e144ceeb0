"""What the live view shows of calls, incidents and repairs: from this machine's history, and from those of servers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from voiceops.adapters.ssh.transports import transport_to
from voiceops.deploy.host_history import read_host_history
from voiceops.errors import VoiceopsError
from voiceops.history.select import HistoryPart, joined_records
from voiceops.model.history import CallRecord, CheckRecord, IncidentRecord, RepairRecord
from voiceops.model.settings import Host
from voiceops.ports import Transport
from voiceops.wiring.history import open_history
from voiceops.wiring.project import Project

CALLS_SINCE_S = 86_400.0
MOST_CALLS = 200
MOST_REPAIRS = 50
MOST_INCIDENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedHistory:
    """What the history says of the watched hosts, the oldest first."""

    calls: tuple[CallRecord, ...] = ()
    """Ended or answered, of the last day."""
    repairs: tuple[RepairRecord, ...] = ()
    incidents: tuple[IncidentRecord, ...] = ()
    """Those that go on, and where they are asked for the newest that are over."""
    checks: tuple[CheckRecord, ...] = ()
    """The last one."""


def read_history(project: Project, hosts: list[str], *, ended_incidents: int = 0) -> WatchedHistory:
    """The newest records; ``VoiceopsError`` where the history can't be read."""
    now = time.time()
    try:
        store = open_history(project)
    except ImportError as error:
        raise VoiceopsError(str(error)) from None
    with closing(store):
        part = HistoryPart(
            calls=store.read(CallRecord, since=now - CALLS_SINCE_S, hosts=hosts, limit=MOST_CALLS),
            repairs=store.read(RepairRecord, since=now - CALLS_SINCE_S, hosts=hosts, limit=MOST_REPAIRS),
            incidents=joined_records(
                [
                    store.read(IncidentRecord, hosts=hosts, limit=ended_incidents) if ended_incidents else [],
                    store.open_incidents(hosts=hosts, limit=MOST_INCIDENTS),
                ]
            ),
        )
        checks = store.read(CheckRecord, since=now - CALLS_SINCE_S, hosts=hosts, limit=1)
    return _shown(part, checks, ended=bool(ended_incidents))


class HostHistoryReader:
    """Reads the history that a server's monitor keeps; a connection that broke is made anew."""

    def __init__(self, host: Host, *, ended_incidents: int = 0) -> None:
        self._host = host
        self._ended_incidents = ended_incidents
        self._transport: Transport | None = None

    def read(self) -> WatchedHistory:
        """The records of the last day; ``VoiceopsError`` where they can't be read."""
        if self._transport is None:
            self._transport = transport_to(self._host)
        try:
            part = read_host_history(self._host, self._transport, since=time.time() - CALLS_SINCE_S)
        except VoiceopsError:
            self.close()
            raise
        return _shown(part, (), ended=bool(self._ended_incidents))

    def close(self) -> None:
        """End the connection; safe to call again."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


def joined(histories: Iterable[WatchedHistory]) -> WatchedHistory:
    """What several histories say; a record that two of them have is in it once."""
    found = list(histories)
    return WatchedHistory(
        calls=tuple(joined_records([one.calls for one in found])[-MOST_CALLS:]),
        repairs=tuple(joined_records([one.repairs for one in found])[-MOST_REPAIRS:]),
        incidents=tuple(joined_records([one.incidents for one in found])),
        checks=tuple(joined_records([one.checks for one in found])[-1:]),
    )


def _shown(part: HistoryPart, checks: Sequence[CheckRecord], *, ended: bool = False) -> WatchedHistory:
    return WatchedHistory(
        calls=tuple(
            one for one in part.calls if one.answer_s is not None or one.outcome not in (None, "abandoned")
        ),
        repairs=tuple(part.repairs),
        incidents=tuple(one for one in part.incidents if ended or one.ended_at is None),
        checks=tuple(checks),
    )
