"""`inv logs` of servers: their journals as one stream."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge

from invoke import Exit

from voiceops.adapters.ssh.transports import transport_to
from voiceops.cli.command import CommandRun, show_error
from voiceops.commands.hosts import named_on
from voiceops.commands.logs_query import LogQuery, tell_if_none
from voiceops.commands.logs_view import LogPrinter, last
from voiceops.deploy.desired import host_outline
from voiceops.errors import HostError, VoiceopsError
from voiceops.fleet.run import run_on
from voiceops.model.settings import Host
from voiceops.ports import ProgramResult, RemoteProcess, Transport
from voiceops.stack.logs.files import TimedLine
from voiceops.stack.logs.journald import journal_argv, parsed
from voiceops.stack.logs.select import LineFilter
from voiceops.stack.reconcile import choose
from voiceops.systemd.names import HostNames

_SILENCE_S = 86_400.0
_READ_S = 60.0
"""A journal that is read to its end is not silent for so long."""


def show_server_logs(run: CommandRun, query: LogQuery) -> None:
    """As for this machine; a host that can't be reached does not keep back the lines of the others."""
    several = len(run.project.hosts) > 1
    own = named_on(run.project.hosts, query.only)
    hosts = [host for host in run.project.hosts if host.name in own]
    transports = {host.name: transport_to(host) for host in hosts}
    errors: dict[str, VoiceopsError] = {}

    def lines_of(host: Host, process: RemoteProcess) -> Iterator[TimedLine]:
        try:
            yield from _parsed(_raw_lines(process, _READ_S), host, several=several)
            _check(host, process.wait())
        except VoiceopsError as error:
            errors[host.name] = error
        finally:
            process.close()

    try:
        count = 0 if query.filter.narrows else query.count
        reading = _begin(
            hosts, transports, errors, lambda host: _argv(host, own[host.name], query.since, count)
        )
        lines = merge(*(lines_of(host, process) for host, process in reading), key=lambda line: line.at)
        services = [name for host in hosts for name in _services(host, own[host.name], several=several)]
        shown = LogPrinter(run, services, raw=query.raw)
        chosen = last(query.filter.select(lines), query.count)
        shown.show_all(chosen, document=not query.follow, errors=errors)
        sys.stdout.flush()
        if not errors:
            tell_if_none(run, query, shown)
        if query.follow and len(errors) < len(transports):
            _follow(run, hosts, transports, own, several, query.filter, shown)
    except KeyboardInterrupt:
        return
    finally:
        for transport in transports.values():
            transport.close()
    if not run.json:
        for one in errors.values():
            show_error(one, as_json=False)
    if errors:
        raise Exit(code=max(one.exit_code for one in errors.values()))


def _begin(
    hosts: Sequence[Host],
    transports: Mapping[str, Transport],
    errors: dict[str, VoiceopsError],
    argv: Callable[[Host], Sequence[str]],
) -> list[tuple[Host, RemoteProcess]]:
    """Start to read all journals, side by side; a host that can't be reached is one of the ``errors``."""

    def begin(host: Host) -> RemoteProcess:
        return transports[host.name].start(argv(host), root=True)

    begun = run_on([hosts], begin)
    errors |= {name: result.error for name, result in begun.items() if result.error is not None}
    return [(host, begun[host.name].get()) for host in hosts if begun[host.name].ok]


def _raw_lines(process: RemoteProcess, silence_s: float) -> Iterator[bytes]:
    rest = b""
    while data := process.read(silence_s):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _check(host: Host, ended: ProgramResult) -> None:
    if ended.exit_code and ended.stderr.strip():
        raise HostError(
            f"{host.name}: its journal can't be read (exit {ended.exit_code})",
            log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-5:]),
        )


def _services(host: Host, only: Sequence[str], *, several: bool) -> list[str]:
    names = [service.name for service in choose(host_outline(host.settings), only)]
    return [f"{host.name} {name}" for name in names] if several else names


def _argv(host: Host, only: Sequence[str], start: float, limit: int, *, follow: bool = False) -> list[str]:
    chosen = choose(host_outline(host.settings), only)
    since = f"@{start:.6f}" if start else ""
    return journal_argv(HostNames(host.settings.project), chosen, since=since, lines=limit, follow=follow)


def _parsed(lines: Iterable[bytes], host: Host, *, several: bool) -> Iterator[TimedLine]:
    texts = (line.decode(errors="replace") for line in lines)
    return parsed(texts, HostNames(host.settings.project), host=host.name if several else "")


def _follow(
    run: CommandRun,
    hosts: Sequence[Host],
    transports: dict[str, Transport],
    own: Mapping[str, Sequence[str]],
    several: bool,
    selected: LineFilter,
    shown: LogPrinter,
) -> None:
    """New lines of all hosts as they come."""
    lines: queue.Queue[TimedLine | None] = queue.Queue()

    def tail(host: Host) -> None:
        try:
            argv = _argv(host, own[host.name], time.time(), 0, follow=True)
            process = transports[host.name].start(argv, root=True)
            for line in _parsed(_raw_lines(process, _SILENCE_S), host, several=several):
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
        if selected.takes(line):
            shown.show(line)
            sys.stdout.flush()
