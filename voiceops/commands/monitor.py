"""Run the monitor of this machine's stack."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from voiceops.agentkit.notify import Notifier
from voiceops.cli.command import CommandRun, Report
from voiceops.commands.findings_view import entry_lines
from voiceops.commands.hosts import values_of, with_problems
from voiceops.deadline import Deadline
from voiceops.errors import LockedError, UsageError
from voiceops.fleet.run import run_on
from voiceops.model import protocol
from voiceops.model.findings import Finding
from voiceops.model.monitor_events import CheckSummary, MonitorEvent
from voiceops.model.quoting import printable
from voiceops.model.settings import Host
from voiceops.monitor.guarded import begin_guarding
from voiceops.monitor.log import EventLog, RecorderLog, log_line, write_line
from voiceops.ports import MonitorRecorder
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.local.lock import locked
from voiceops.systemd.names import UNIT_MARK
from voiceops.util import aio
from voiceops.util.words import counted
from voiceops.wiring.monitor import monitor_recorders, open_monitor
from voiceops.wiring.project import tasks_folder

if TYPE_CHECKING:
    from voiceops.model.documents.stack import MonitorDocument, MonitoredHost

_TAKE_OVER_S = 10.0
"""How long a monitor that is being replaced may take to end."""


def run_monitor(run: CommandRun, *, once: bool) -> Report:
    """Watch and repair until Ctrl-C; ``once``: one check that changes nothing."""
    if once:
        return _check_once(run)
    host = _this_machine(run)
    folder = ProjectFolder(run.project.root)
    service = os.environ.get(protocol.SERVICE_ENV, "").split("/")
    own_name = service[1] if len(service) == 3 and service[0] == folder.mark else ""
    unit = os.environ.get(UNIT_MARK, "").split("/")
    on_server = len(unit) == 2 and unit[0] == host.settings.project
    if on_server:
        own_name = unit[1]
        host = msgspec.structs.replace(host, name=os.environ.get(protocol.HOST_NAME_ENV) or platform.node())
    else:
        folder.create()  # nobody may have started anything in it
    say: Callable[[str], None] = (lambda line: write_line(log_line(line))) if own_name else run.say
    write = write_line if own_name else _readable(run.say)
    # The libraries of rooms log what they do; the recorder has all of it, with the room where it belongs.
    logging.getLogger("voiceops").addHandler(logging.NullHandler())
    for name in ("voiceops.history", "voiceops.alerts"):
        logging.getLogger(name).addHandler(RecorderLog(write))

    async def main(recorder: MonitorRecorder) -> None:
        async with open_monitor(
            run.project, host, own_name, on_server=on_server, recorder=recorder, say=say
        ) as monitor:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, monitor.stop)
            if own_name and not on_server and host.settings.services[own_name].restart != "never":
                begin_guarding(folder.wanted_mark(own_name), _start_again(run, own_name))
            say(f"watching every {host.settings.monitor.interval_s:g} s")
            notifier = Notifier()
            notifier.ready()
            feeding = asyncio.ensure_future(_feed_watchdog(notifier))
            try:
                await monitor.run()
            finally:
                feeding.cancel()

    try:
        # The recorders are opened under the lock: a monitor that is being replaced still has the metrics' port.
        with (
            locked(folder.base / "monitor", Deadline(_TAKE_OVER_S, "monitor"), say, "inv monitor"),
            monitor_recorders(run.project, host, on_server=on_server) as others,
        ):
            aio.run(main(EventLog(write, others)))
    except LockedError as error:
        raise LockedError(
            f"another monitor watches this stack: pid {error.data.get('pid')}",
            hint="`inv status` shows it if it is a service; stop it first",
            data=error.data,
        ) from None
    document: MonitorDocument = {"hosts": {}}
    return Report(document)


async def _feed_watchdog(notifier: Notifier) -> None:
    """Tell systemd that the event loop lives, where it wants to know."""
    while notifier.watchdog_s is not None:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_s)


def _this_machine(run: CommandRun) -> Host:
    hosts = run.project.hosts
    if len(hosts) != 1 or not hosts[0].local:
        raise UsageError(
            "a monitor watches the stack of this machine",
            hint="leave --host, --group and --limit out, or give --once for one check of those hosts",
        )
    return hosts[0]


def _start_again(run: CommandRun, own_name: str) -> list[str]:
    return [
        *(sys.executable, "-m", "voiceops", "--project", str(tasks_folder())),
        *("start", "--only", own_name, "--inventory", str(run.project.inventory_file)),
    ]


def _readable(say: Callable[[str], None]) -> Callable[[str], None]:
    """Write what a person in front of a terminal needs of a line of the log."""

    def write(line: str) -> None:
        fields = msgspec.json.decode(line, type=dict[str, object])
        say(f"{fields['timestamp']} {fields['level']}: {fields['message']}")

    return write


class _LastSummary(MonitorRecorder):
    """Keeps the summary of the last check."""

    summary: CheckSummary | None = None

    def record(self, event: MonitorEvent) -> None:
        if isinstance(event, CheckSummary):
            self.summary = event

    def close(self) -> None:
        """It holds nothing."""


def _check_once(run: CommandRun) -> Report:
    def check(host: Host) -> MonitoredHost:
        return _checked_here(run, host) if host.local else _checked_there(host)

    done = run_on([run.project.hosts], check)
    found = values_of(run, done)
    document: MonitorDocument = {"hosts": {**found}}
    text = "\n".join(
        line
        for name, one in found.items()
        for line in ([f"{name}:"] if len(run.project.hosts) > 1 else []) + _check_lines(one)
    )
    code = 0 if all(one["ok"] for one in found.values()) else 2
    return with_problems(run, done, Report(document, text, code))


def _checked_there(host: Host) -> MonitoredHost:
    # ssh and all that a deploy needs: a check of this machine needs neither.
    from voiceops.deploy.host_check import check_by_monitor

    return check_by_monitor(host)


def _checked_here(run: CommandRun, host: Host) -> MonitoredHost:
    """One check of this machine's stack or, where it is a server and its monitor's user asks, of its units."""
    kept = _LastSummary()
    name = os.environ.get(protocol.HOST_NAME_ENV, "")
    if name:
        host = msgspec.structs.replace(host, name=name)

    async def main() -> tuple[Finding, ...]:
        async with open_monitor(
            run.project, host, on_server=bool(name), recorder=kept, say=run.say
        ) as monitor:
            await monitor.check(act=False)
            return monitor.errors

    findings = aio.run(main())
    summary = kept.summary
    assert summary is not None
    return {
        "ok": summary.ok,
        "services": dict(summary.services),
        "room_count": None if summary.rooms is None else summary.rooms.total,
        "took_s": summary.took_s,
        "held_by": summary.held_by,
        "findings": [finding.as_json() for finding in findings],
    }


def _check_lines(one: MonitoredHost) -> list[str]:
    count = one["room_count"]
    return [
        *(f"{name}: {state}" for name, state in one["services"].items()),
        "rooms are not known" if count is None else counted(count, "room"),
        *([f"{printable(one['held_by'])} holds the lock"] if one["held_by"] else []),
        *(line for entry in one["findings"] for line in entry_lines(entry)),
    ]
