"""The releases of a host, as its ledger has them, and which one a rollback goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from voiceops.errors import HostError, NotFoundError, UsageError
from voiceops.kinds.model import Declared
from voiceops.model.decoding import prepare
from voiceops.model.history import DeployRecord, record_id
from voiceops.model.settings import Settings
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.messages import ListReleases, NoteReleases, RecordReleases, ReleasesRequest, TidyOptions
from voiceops.systemd.names import HostNames

_CLOCKS_S = 60.0
"""By how much the clocks of a host and of this machine may differ."""
_TIMEOUT_S = 120.0
"""Removing old releases and environments takes a slow disk a while."""


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger: what happened to one release."""

    service: str
    release: str
    result: str
    """``ok``: it serves or has served; ``bad``: it did not become ready, did not answer its call, or was
    rolled back from; ``unproved``: it failed, and the one before it as well."""
    at: float = 0.0
    by: str = ""
    action: str = ""
    why: str = ""


def deploys_in(history: Sequence[LedgerEntry], *, host: str, since: float) -> list[DeployRecord]:
    """What the ledger of a host has of deploys and rollbacks, by whomever, as the history has its own."""
    together: dict[tuple[str, str, int], list[LedgerEntry]] = {}
    for entry in history:
        left = entry.action == "rollback" and entry.result == "bad"  # what it went away from
        if entry.at >= since and not left:
            together.setdefault((entry.action, entry.by, round(entry.at)), []).append(entry)
    return [
        DeployRecord(
            id=record_id("ledger", host, *key),
            host=host,
            at=entries[0].at,
            action=entries[0].action or "deploy",
            ok=all(one.result == "ok" for one in entries),
            release=",".join(dict.fromkeys(one.release for one in entries)),
            changed_count=len(entries),
            by=entries[0].by,
            detail="; ".join(dict.fromkeys(one.why for one in entries if one.why)),
        )
        for key, entries in together.items()
    ]


def from_elsewhere(found: Sequence[DeployRecord], known: Sequence[DeployRecord]) -> list[DeployRecord]:
    """Those of a ledger that no record of this machine is about: other machines brought them."""

    def same(one: DeployRecord, other: DeployRecord) -> bool:
        during = other.at - _CLOCKS_S <= one.at <= other.at + other.took_s + _CLOCKS_S
        return during and one.by == other.by

    return [one for one in found if not any(same(one, other) for other in known)]


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host remembers of its releases."""

    history: list[LedgerEntry] = []
    current: dict[str, dict[str, str]] = {}
    """Service to its release and digest."""
    present: list[str] = []
    """Releases whose files are still on the host."""
    unproved: str = ""
    """Why nobody has proved that the current ones answer calls; empty: they do."""

    def last_entries(self, service: str) -> dict[str, LedgerEntry]:
        """The last word on each release of a service, the oldest word first."""
        found: dict[str, LedgerEntry] = {}
        for entry in self.history:
            if entry.service == service:
                found.pop(entry.release, None)
                found[entry.release] = entry
        return found

    def previous(self, service: str, *, to: str = "", even_bad: bool = False) -> str:
        """The release to go back to: the last good one before the current, or ``to``.

        A release that is marked bad is never chosen; ``to`` names one only with ``even_bad``.
        """
        now = self.current.get(service, {}).get("release", "")
        last = self.last_entries(service)
        kept = [release for release in last if release in self.present and release != now]
        if to:
            if to not in kept:
                raise NotFoundError(
                    f"{service} has no release {to} to go back to", hint="`inv releases` lists them"
                )
            if last[to].result == "bad" and not even_bad:
                raise UsageError(
                    marked_bad(service, last[to]), hint="give --yes to go back to it nevertheless"
                )
            return to
        for release in reversed(kept):
            if last[release].result == "ok":
                return release
        raise NotFoundError(
            f"there is no earlier good release of {service} on the host", hint="`inv releases` lists them"
        )

    def before(self, service: str, release: str) -> str:
        """The release that served before ``release``; empty when none is left that was good."""
        current = self.current.get(service, {}).get("release", "")
        last = self.last_entries(service).get(current)
        proved = last is not None and last.result == "ok"
        if current and current != release and current in self.present and proved:
            return current
        left = msgspec.structs.replace(self, current={service: {"release": release}})
        try:
            return left.previous(service)
        except NotFoundError:
            return ""


prepare(LedgerEntry, Ledger)  # hosts are asked side by side


def marked_bad(service: str, entry: LedgerEntry) -> str:
    """Which release is bad, since when, by whose command and why."""
    at = datetime.fromtimestamp(entry.at).astimezone().isoformat(sep=" ", timespec="seconds")
    by = f" by {entry.action} of {entry.by}" if entry.by else ""
    return (
        f"release {entry.release} of {service} was marked bad at {at}{by}: {entry.why or 'no cause is known'}"
    )


def read_ledger(transport: Transport, names: HostNames, *, will_record: bool = False) -> Ledger:
    """Ask the host. ``will_record``: ``StorageError`` where its disk has no room to write the ledger."""
    request: ListReleases = {**_request(names), "will_record": will_record}
    answer = call(transport, verbs.LIST_RELEASES, request, timeout_s=_TIMEOUT_S)
    current = answer["current"]
    found = {
        "history": answer["history"],
        "present": answer["present"],
        "current": current.get("services", {}),
        "unproved": str(current.get("unproved", "")),
    }
    return msgspec.convert(found, Ledger)


def record(
    transport: Transport,
    names: HostNames,
    services: Sequence[Declared],
    *,
    by: str,
    action: str = "deploy",
    unproved: str = "",
    tidy: TidyOptions | None = None,
) -> None:
    """Record what serves now; with ``tidy``, remove what nobody needs.

    ``unproved``: why nobody knows that it answers calls; the next deploy proves it again.
    """
    request: RecordReleases = {
        **_request(names),
        "services": as_current(services),
        "by": by,
        "action": action,
        "unproved": unproved,
        "tidy": tidy,
    }
    call(transport, verbs.RECORD_RELEASES, request, timeout_s=_TIMEOUT_S)


def note(transport: Transport, names: HostNames, entries: Sequence[LedgerEntry]) -> None:
    """Add to the history; from now on no rollback chooses a release whose entry is bad."""
    request: NoteReleases = {
        **_request(names),
        "entries": [msgspec.to_builtins(entry) for entry in entries],
    }
    call(transport, verbs.NOTE_RELEASES, request, timeout_s=_TIMEOUT_S)


def as_current(services: Sequence[Declared]) -> dict[str, dict[str, str]]:
    """As ``current.json`` on the host has it."""
    return {one.name: {"release": one.release, "digest": one.digest} for one in services}


def _request(names: HostNames) -> ReleasesRequest:
    return {
        "state_dir": names.state,
        "project": names.project,
        "opt": names.opt,
        "etc": names.etc,
        "group": names.user,
    }


def deployed_services(
    transport: Transport, settings: Settings, outline: Sequence[Declared]
) -> tuple[Declared, ...]:
    """The declared services with the release and digest that the host was deployed with.

    Nothing newer is brought along: that is what ``deploy`` is for. ``HostError`` for a service
    that no deploy has brought there to its end.
    """
    current = read_ledger(transport, HostNames(settings.project)).current
    missing = [service.name for service in outline if service.name not in current]
    if missing:
        raise HostError(
            f"{transport.name}: no deploy of {', '.join(missing)} has come to its end there",
            hint=f"`inv deploy --host {transport.name}` does it",
            data={"host": transport.name, "services": missing},
        )
    return tuple(
        replace(service, release=current[service.name]["release"], digest=current[service.name]["digest"])
        for service in outline
    )
