"""Processes in the way of a service that we did not start: port owners, agents started by hand."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from voiceops.adapters import http, ports_in_use, processes
from voiceops.adapters.processes import Process
from voiceops.errors import UnreachableError
from voiceops.stack.model import Declared, Stray

_AGENT_MODES = frozenset({"start", "dev", "connect", "console"})


def find_strays(
    services: Sequence[Declared], table: Sequence[Process], own: dict[str, set[int]]
) -> dict[str, tuple[Stray, ...]]:
    """Strays by service. ``own``: the pids of each service's runs, their children included."""
    listening = ports_in_use.taken(port for service in services for port in service.ports)
    found: dict[str, list[Stray]] = {}
    for service in services:
        mine = own.get(service.name, set())
        for port in service.ports:
            if port in listening and not ports_in_use.owners(port, mine):
                found.setdefault(service.name, []).extend(_port_owners(service, port, table))
    agents = [service for service in services if service.entry is not None]
    if agents:
        ours = set[int]().union(*own.values()) | {os.getpid()}
        _agents_by_hand(agents, [process for process in table if process.pid not in ours], found)
    return {name: tuple({stray.pid: stray for stray in strays}.values()) for name, strays in found.items()}


def _port_owners(service: Declared, port: int, table: Sequence[Process]) -> list[Stray]:
    pids = ports_in_use.owners(port, [process.pid for process in table])
    if not pids and port not in ports_in_use.taken([port]):
        return []  # closed between two looks
    if not pids:
        reason = f"port {port} is taken by a process that this user can't see"
        unseen = Stray(
            service=service.name, kind=service.kind, pid=0, start="", command="", age_s=0.0, reason=reason
        )
        return [unseen]
    # Several share a socket when a server forks; the one that the others came from is the stray.
    by_pid = {process.pid: process for process in table}
    tops = [by_pid[pid] for pid in sorted(pids) if by_pid[pid].parent not in pids]
    return [_stray(service, process, f"port {port} is taken by pid {process.pid}") for process in tops]


def _agents_by_hand(
    agents: Sequence[Declared], table: Collection[Process], found: dict[str, list[Stray]]
) -> None:
    for process in table:
        arguments = processes.command_line(process.pid)
        if len(arguments) < 2 or not os.path.basename(arguments[0]).startswith(("python", "Python")):
            continue
        if _AGENT_MODES.isdisjoint(arguments[1:]):
            continue
        for service in agents:
            if _runs_entry(process.pid, arguments, service) and _same_livekit(
                process.pid, arguments, service
            ):
                reason = f"pid {process.pid} runs {service.entry.name if service.entry else ''} and was not started by us"
                found.setdefault(service.name, []).append(
                    _stray(service, process, reason, calls=_calls_of_worker(process.pid))
                )


def _runs_entry(pid: int, arguments: Sequence[str], service: Declared) -> bool:
    assert service.entry is not None
    named = [argument for argument in arguments[1:] if os.path.basename(argument) == service.entry.name]
    if not named:
        return False
    folder = processes.folder(pid) or Path("/")
    return any(os.path.realpath(folder / argument) == os.path.realpath(service.entry) for argument in named)


def _same_livekit(pid: int, arguments: Sequence[str], service: Declared) -> bool:
    """A worker of another server is none of our business; one that doesn't say which may be ours."""
    url = processes.environment(pid).get("LIVEKIT_URL", "")
    for position, argument in enumerate(arguments):
        if argument == "--url" and position + 1 < len(arguments):
            url = arguments[position + 1]
        elif argument.startswith("--url="):
            url = argument[6:]
    return not url or url.rstrip("/") == service.livekit_url.rstrip("/")


def _calls_of_worker(pid: int) -> int | None:
    """``active_jobs`` of a livekit-agents worker: it is left out at 0, and a float otherwise.

    None: it does not answer.
    """
    import json

    for port in ports_in_use.listening_ports(pid):
        try:
            answer = http.get(f"http://127.0.0.1:{port}/worker", timeout_s=1.0)
            return int(json.loads(answer.body).get("active_jobs", 0))
        except (UnreachableError, ValueError, AttributeError):
            continue
    return None


def _stray(service: Declared, process: Process, reason: str, *, calls: int | None = 0) -> Stray:
    command = " ".join(processes.command_line(process.pid))
    return Stray(
        service=service.name,
        kind=service.kind,
        pid=process.pid,
        start=process.key.start,
        command=command,
        age_s=process.age_s,
        reason=f"{reason} ({_age(process.age_s)} old): {command[:160]}",
        calls=calls,
    )


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
