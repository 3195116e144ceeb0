"""`inv logs` of servers: their journals as one stream."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voiceops.cli.command import Run
    from voiceops.model.settings import Host
    from voiceops.ports import Transport
    from voiceops.stack.log_files import Line
    from voiceops.tasks.stack_logs import Printer

_SILENCE_S = 86_400.0
_LINES_OF_A_SPAN = 5_000
"""Without --lines, of each host: an answer has its bounds."""


def show_server_logs(
    run: Run,
    *,
    only: Sequence[str],
    follow: bool,
    since: str,
    count: int,
    printer: Callable[..., Printer],
    raw: bool,
) -> None:
    """As for this machine; a host that can't be reached is told on stderr, and the last thing is its error."""
    from voiceops.adapters.transports import transport_to
    from voiceops.cli.command import show_error
    from voiceops.errors import UsageError, VoiceopsError
    from voiceops.stack import log_files
    from voiceops.tasks.hosts import named_on, side_by_side

    try:
        start = log_files.parse_since(since, time.time()) if since else 0.0
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
    several = len(run.project.hosts) > 1
    own = named_on(run.project.hosts, only)
    hosts = [host for host in run.project.hosts if host.name in own]
    transports = {host.name: transport_to(host) for host in hosts}
    found: list[Line] = []
    names: set[str] = set()
    errors: list[VoiceopsError] = []
    limit = count if count > 0 and not since else _LINES_OF_A_SPAN

    def read(host: Host) -> None:
        try:
            argv = _argv(host, own[host.name], start, limit, follow=False)
            ended = transports[host.name].run(argv, root=True)
            found.extend(_parsed(ended.stdout.split(b"\n"), host, several=several))
        except VoiceopsError as error:
            errors.append(error)

    try:
        side_by_side(read, hosts)
        lines = sorted(found, key=lambda line: line.at)[-limit:]
        names.update(line.service for line in lines)
        shown = printer(run, sorted(names), raw=raw)
        if run.json and not follow:
            document = [shown.fields(line) for line in lines]
            print(json.dumps({"lines": document}, ensure_ascii=False, indent=2))
        else:
            for line in lines:
                shown.show(line)
        if follow and len(errors) < len(transports):
            _follow(run, hosts, transports, own, several, shown)
    except KeyboardInterrupt:
        return
    finally:
        for transport in transports.values():
            transport.close()
    for other in errors[1:]:
        show_error(other, as_json=False)
    if errors:
        raise errors[0]


def _argv(host: Host, only: Sequence[str], start: float, limit: int, *, follow: bool) -> list[str]:
    from voiceops.deploy.desired import host_outline
    from voiceops.stack.journal import journal_argv
    from voiceops.stack.reconcile import choose
    from voiceops.systemd.names import Names

    chosen = choose(host_outline(host.settings), only)
    since = f"@{start:.6f}" if start else ""
    return journal_argv(Names(host.settings.project), chosen, since=since, lines=limit, follow=follow)


def _parsed(lines: Iterable[bytes], host: Host, *, several: bool) -> Iterator[Line]:
    from voiceops.stack.journal import parsed
    from voiceops.systemd.names import Names

    texts = (line.decode(errors="replace") for line in lines)
    return parsed(texts, Names(host.settings.project), host=host.name if several else "")


def _follow(
    run: Run,
    hosts: Sequence[Host],
    transports: dict[str, Transport],
    own: Mapping[str, Sequence[str]],
    several: bool,
    shown: Printer,
) -> None:
    """New lines of all hosts as they come."""
    from voiceops.errors import VoiceopsError

    lines: queue.Queue[Line | None] = queue.Queue()

    def tail(host: Host) -> None:
        try:
            argv = _argv(host, own[host.name], time.time(), 0, follow=True)
            process = transports[host.name].start(argv, root=True)
            rest = b""
            while data := process.read(_SILENCE_S):
                *whole, rest = (rest + data).split(b"\n")
                for line in _parsed(whole, host, several=several):
                    lines.put(line)
        except VoiceopsError as error:
            run.say(f"{host.name}: {error.message}")
        lines.put(None)

    left = len(hosts)
    for host in hosts:
        threading.Thread(target=tail, args=(host,), daemon=True).start()
    while left:
        line = lines.get()
        if line is None:
            left -= 1
            continue
        shown.show(line)
        sys.stdout.flush()
