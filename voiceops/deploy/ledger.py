"""The releases of a host, as its ledger has them, and which one a rollback goes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from voiceops.deploy import ledger_onhost
from voiceops.errors import HostError, NotFoundError
from voiceops.ports import Transport
from voiceops.stack.model import Declared
from voiceops.systemd.names import Names


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger: what happened to one release."""

    service: str
    release: str
    result: str
    """``ok``: it serves or has served; ``bad``: it did not become ready, or was rolled back from."""
    at: float = 0.0
    by: str = ""
    action: str = ""
    why: str = ""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host remembers of its releases."""

    history: list[Entry] = []
    current: dict[str, dict[str, str]] = {}
    """Service to its release and digest."""
    present: list[str] = []
    """Releases whose files are still on the host."""

    def bad(self) -> set[str]:
        """Releases whose last word is bad."""
        last = {entry.release: entry.result for entry in self.history}
        return {release for release, result in last.items() if result == "bad"}

    def previous(self, service: str, *, to: str = "") -> str:
        """The release to go back to: the last good one before the current, or ``to``."""
        now = self.current.get(service, {}).get("release", "")
        good = [
            entry.release
            for entry in self.history
            if entry.service == service and entry.release in self.present and entry.release != now
        ]
        if to:
            if to not in good:
                raise NotFoundError(
                    f"{service} has no release {to} to go back to", hint="`inv releases` lists them"
                )
            return to
        bad = self.bad()
        for release in reversed(good):
            if release not in bad:
                return release
        raise NotFoundError(
            f"there is no earlier good release of {service} on the host", hint="`inv releases` lists them"
        )


def read_ledger(transport: Transport, names: Names) -> Ledger:
    """Ask the host."""
    answer = ask(transport, names, "releases")
    current = answer["current"].get("services", {})
    return msgspec.convert(
        {"history": answer["history"], "current": current, "present": answer["present"]}, Ledger
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
) -> None:
    """Write down what serves now, and let go of what nobody needs."""
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
    )


def record_only(
    transport: Transport, names: Names, services: Sequence[Declared], *, by: str, action: str
) -> None:
    """Write down what serves now; nothing is let go of."""
    ask(transport, names, "record", services=as_current(services), by=by, action=action, tidy=False)


def mark_bad(transport: Transport, names: Names, entries: Sequence[Entry]) -> None:
    """From now on no rollback chooses these."""
    ask(transport, names, "mark_bad", entries=[msgspec.to_builtins(entry) for entry in entries])


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
        **request,
    }
    program = Path(ledger_onhost.__file__).read_text()
    ended = transport.run(["python3", "-c", program, json.dumps(document)], root=True, timeout_s=120)
    if ended.exit_code != 0:
        raise HostError(
            f"{transport.name}: its releases can't be read or written (exit {ended.exit_code})",
            log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-5:]),
            data={"host": transport.name},
        )
    answer: Mapping[str, Any] = json.loads(ended.last_line)
    return answer
