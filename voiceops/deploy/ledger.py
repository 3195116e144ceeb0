"""The releases of a host, as its ledger has them, and which one a rollback goes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from voiceops.errors import HostError, NotFoundError, StorageError, UsageError
from voiceops.kinds.model import Declared
from voiceops.model.decoding import prepare
from voiceops.ports import Transport
from voiceops.remote.onhost import ledger
from voiceops.resources.report import DISK_HINT
from voiceops.systemd.names import Names
from voiceops.systemd.programs import isolated_python


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


def read_ledger(transport: Transport, names: Names, *, will_record: bool = False) -> Ledger:
    """Ask the host. ``will_record``: ``StorageError`` where its disk has no room to write the ledger."""
    answer = ask(transport, names, "releases", will_record=will_record)
    found = {"history": answer["history"], "present": answer["present"]}
    current = answer["current"]
    return msgspec.convert(
        found | {"current": current.get("services", {}), "unproved": str(current.get("unproved", ""))}, Ledger
    )


def record(
    transport: Transport,
    names: Names,
    services: Sequence[Declared],
    *,
    units: Sequence[str],
    venv: str,
    keep: int,
    by: str,
    action: str = "deploy",
    unproved: str = "",
) -> None:
    """Write down what serves now, and let go of what nobody needs.

    ``unproved``: why nobody knows that it answers calls; the next deploy proves it again.
    """
    ask(
        transport,
        names,
        "record",
        services=as_current(services),
        units=list(units),
        venv=venv,
        keep=keep,
        by=by,
        action=action,
        unproved=unproved,
    )


def record_only(
    transport: Transport,
    names: Names,
    services: Sequence[Declared],
    *,
    by: str,
    action: str,
    unproved: str = "",
) -> None:
    """Write down what serves now; nothing is let go of."""
    request = {"services": as_current(services), "by": by, "action": action, "unproved": unproved}
    ask(transport, names, "record", **request, tidy=False)


def note(transport: Transport, names: Names, entries: Sequence[LedgerEntry]) -> None:
    """Add to the history; from now on no rollback chooses a release whose entry is bad."""
    ask(transport, names, "note", entries=[msgspec.to_builtins(entry) for entry in entries])


def as_current(services: Sequence[Declared]) -> dict[str, dict[str, str]]:
    """As ``current.json`` on the host has it."""
    return {one.name: {"release": one.release, "digest": one.digest} for one in services}


def ask(transport: Transport, names: Names, verb: str, **request: Any) -> Mapping[str, Any]:
    """One run of the ledger's program on the host."""
    document = {
        "do": verb,
        "project": names.project,
        "opt": names.opt,
        "etc": names.etc,
        "state": names.state,
        "group": names.user,
        **request,
    }
    program = Path(ledger.__file__).read_text()
    ended = transport.run(isolated_python(program, json.dumps(document)), root=True, timeout_s=120)
    if ended.exit_code != 0:
        raise HostError(
            f"{transport.name}: its releases can't be read or written (exit {ended.exit_code})",
            log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-5:]),
            data={"host": transport.name},
        )
    answer: Mapping[str, Any] = json.loads(ended.last_line)
    if "error" in answer:
        kind = StorageError if answer["full"] else HostError
        raise kind(
            f"{transport.name}: {answer['error']}",
            hint=DISK_HINT if answer["full"] else None,
            data={"host": transport.name},
        )
    return answer
