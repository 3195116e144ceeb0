"""Processes in the way of a service that we did not start: port owners, agents started by hand.

What has nothing to do with this project is foreign: another project's service, anybody's program on the same port.
It is named and never ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voiceops.adapters import http
from voiceops.adapters.process import ports_in_use, processes
from voiceops.adapters.process.table_entry import Process
from voiceops.errors import UnreachableError
from voiceops.health.agent import read_health
from voiceops.kinds.model import Declared
from voiceops.model import protocol
from voiceops.model.quoting import printable
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.model import Stray

_AGENT_MODES = frozenset({"start", "dev", "connect", "console"})


def find_strays(
    folder: ProjectFolder, services: Sequence[Declared], table: Sequence[Process], own: dict[str, set[int]]
) -> dict[str, tuple[Stray, ...]]:
    """Strays by service. ``own``: the pids of each service's runs, their children included."""
    listening = ports_in_use.taken(port for service in services for port in service.ports)
    found: dict[str, list[Stray]] = {}
    for service in services:
        mine = own.get(service.name, set())
        for port in service.ports:
            if port in listening and not ports_in_use.owners(port, mine):
                found.setdefault(service.name, []).extend(_port_owners(folder, service, port, table))
    agents = [service for service in services if service.entry is not None]
    if agents:
        ours = set[int]().union(*own.values()) | {os.getpid()}
        _agents_by_hand(folder, agents, [process for process in table if process.pid not in ours], found)
    return {name: tuple({stray.pid: stray for stray in strays}.values()) for name, strays in found.items()}


def _port_owners(
    folder: ProjectFolder, service: Declared, port: int, table: Sequence[Process]
) -> list[Stray]:
    pids = ports_in_use.owners(port, [process.pid for process in table])
    if not pids and port not in ports_in_use.taken([port]):
        return []  # closed between two readings
    if not pids:
        reason = f"port {port} is taken by a process that this user can't see"
        unseen = Stray(
            service=service.name, role=service.role, pid=0, start="", command="", age_s=0.0, reason=reason
        )
        return [replace(unseen, foreign_owner="another user")]
    # Several share a socket when a server forks; the one that the others came from is the stray.
    by_pid = {process.pid: process for process in table}
    tops = [by_pid[pid] for pid in sorted(pids) if by_pid[pid].parent not in pids]
    found = []
    for process in tops:
        project = _other_project(folder, process, table)
        ours = not project and _is_leftover(folder, service, process)
        owner = project or ("" if ours else "another program")
        whose = f"belongs to {project}, " if project else "is taken by "
        stray = _stray(service, process, f"port {port} {whose}pid {process.pid}")
        found.append(replace(stray, foreign_owner=owner))
    return found


def _other_project(folder: ProjectFolder, process: Process, table: Sequence[Process]) -> str:
    """``voiceops project FOLDER (N calls)`` for a service of another project; else empty."""
    mark = _mark_of(process)
    if not mark or mark == folder.mark:
        return ""
    answers = [
        read_health(Path(socket), timeout_s=1.0)
        for other in table
        if other.leads and _mark_of(other) == mark
        if (socket := processes.environment(other.pid).get(protocol.HEALTH_SOCKET_ENV))
    ]
    calls = sum(health.calls for health in answers if health)
    said = "calls unknown" if None in answers else f"{calls} call{'' if calls == 1 else 's'}"
    return f"voiceops project {_folder_of_mark(mark, process) or mark} ({said})"


def _mark_of(process: Process) -> str:
    return processes.environment(process.pid).get(protocol.SERVICE_ENV, "").partition("/")[0]


def _folder_of_mark(mark: str, process: Process) -> Path | None:
    """The project whose folder has this mark: one above the paths that the process names."""
    named = [Path(word) for word in processes.command_line(process.pid) if word.startswith("/")]
    for path in [processes.folder(process.pid) or Path("/"), *named]:
        for parent in (path, *path.parents):
            if ProjectFolder(parent).mark == mark:
                return parent
    return None


def _is_leftover(folder: ProjectFolder, service: Declared, process: Process) -> bool:
    """Whether it runs this service's program with this project's files: a service started by hand, or its remains."""
    if _mark_of(process) == folder.mark:
        return True
    words = processes.command_line(process.pid)
    programs = {os.path.basename(service.argv[0])} if service.argv else set()
    if not words or os.path.basename(words[0]) not in programs:
        return False
    root = os.path.realpath(folder.root)
    places = [str(processes.folder(process.pid) or "/"), *(one for one in words[1:] if one.startswith("/"))]
    return any(os.path.commonpath([root, os.path.realpath(place)]) == root for place in places)


def _agents_by_hand(
    folder: ProjectFolder, agents: Sequence[Declared], table: Sequence[Process], found: dict[str, list[Stray]]
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
                owner = _other_project(folder, process, table)
                reason = f"pid {process.pid} runs {service.entry.name if service.entry else ''} and was not started by us"
                found.setdefault(service.name, []).append(
                    replace(
                        _stray(service, process, reason, calls=_calls_of_worker(process.pid)),
                        foreign_owner=owner,
                    )
                )


def _runs_entry(pid: int, arguments: Sequence[str], service: Declared) -> bool:
    assert service.entry is not None
    named = [argument for argument in arguments[1:] if os.path.basename(argument) == service.entry.name]
    if not named:
        return False
    place = processes.folder(pid) or Path("/")
    return any(os.path.realpath(place / argument) == os.path.realpath(service.entry) for argument in named)


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
        role=service.role,
        pid=process.pid,
        start=process.key.start,
        command=command,
        age_s=process.age_s,
        reason=f"{reason} ({_age(process.age_s)} old): {printable(command[:160])}",
        calls=calls,
    )


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
