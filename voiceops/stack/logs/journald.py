"""The journal of a host as logs of services."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from voiceops.kinds.model import Declared
from voiceops.stack.logs.files import TimedLine
from voiceops.systemd.names import HostNames


def journal_argv(
    names: HostNames, services: Sequence[Declared], *, since: str = "", lines: int = 0, follow: bool = False
) -> list[str]:
    """The ``journalctl`` call whose JSON lines are the logs of these services, of all their instances."""
    argv = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json"]
    argv += ["--output-fields=MESSAGE,_SYSTEMD_UNIT,__REALTIME_TIMESTAMP"]
    for service in services:
        unit = names.unit(service.name)
        argv.append("--unit=" + (unit.replace(".service", "@*.service") if service.is_agent else unit))
    argv += [f"--since={since}"] if since else []
    argv += [f"--lines={lines}"] if lines else []
    return argv + (["--follow"] if follow else [])


def parsed(lines: Iterable[str], names: HostNames, *, host: str = "") -> Iterator[TimedLine]:
    """journalctl's JSON as lines; with ``host`` each service carries it."""
    for text in lines:
        try:
            entry = json.loads(text)
        except ValueError:
            continue  # the first one of a bounded answer may be cut
        message = entry.get("MESSAGE", "")
        if isinstance(message, list):  # bytes that are no text
            message = bytes(message).decode(errors="surrogateescape")
        unit = str(entry.get("_SYSTEMD_UNIT", ""))
        at = int(entry.get("__REALTIME_TIMESTAMP", 0)) / 1e6
        if unit.startswith(f"{names.project}-"):
            service = names.split(unit)[0]
            yield TimedLine(at, f"{host} {service}" if host else service, str(message or ""), journaled=True)
