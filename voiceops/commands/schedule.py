"""Install the jobs that clean rooms and rotate logs, and rotate logs now."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from voiceops.cli.command import CommandRun, Report
from voiceops.commands.resources import bring_hosts
from voiceops.deploy.facts_cache import FactsCache
from voiceops.deploy.host_states import HostStates
from voiceops.deploy.timers import timers
from voiceops.errors import UsageError
from voiceops.fleet.order import servers
from voiceops.schedule.plan import ScheduleChange
from voiceops.stack.local.folder import ProjectFolder
from voiceops.stack.logs import files
from voiceops.wiring.schedule import project_schedule
from voiceops.wiring.stack import build_stack

if TYPE_CHECKING:
    from voiceops.model.documents.project import ScheduleDocument, ScheduleHost
    from voiceops.model.documents.stack import RotateLogsDocument

SCHEDULE_LOG_BYTES = 1_000_000
DEFAULT_EVERY_MIN = 5


def schedule(run: CommandRun, *, systemd: bool, remove: bool, every: int, boot: bool, backup: bool) -> Report:
    """Install or remove the entries of cron or systemd; on servers the timers of the deploy."""
    if not all(host.local for host in run.project.hosts):
        if boot:
            raise UsageError(
                "--boot is for this machine: on servers systemd starts the services", hint="leave it out"
            )
        if backup:
            raise UsageError(
                "--backup is for this machine: backups of servers come here",
                hint="let cron run `inv backup --group GROUP` here",
            )
        return _on_servers(run, remove=remove, every=every)
    every = every or DEFAULT_EVERY_MIN
    installed = project_schedule(
        run.project, inventory=run.inventory, every_min=every, boot=boot, backup=backup
    )
    how = None if remove else installed.targets.how(systemd=systemd)
    changes = installed.schedule.plan(how)
    if changes and not run.check:
        installed.schedule.apply(changes)
    due = [] if remove else [job for job in installed.jobs if job.wanted]
    here: ScheduleHost = {
        "ok": not (run.check and changes),
        "changed_count": len(changes),
        "how": None if how is None else how.value,
        "jobs": [
            {"name": job.name, "cron": job.cron, "script": str(installed.place.script(job))} for job in due
        ],
        "resources": [{"id": one.what, "result": "changed", "changes": [_verb(one)]} for one in changes],
    }
    document: ScheduleDocument = {
        "check": run.check,
        "changed_count": len(changes),
        "hosts": {run.project.hosts[0].name: here},
    }
    text = _text(here, changes, check=run.check, diff=run.diff)
    return Report(document, text, 2 if run.check and changes else 0)


def _on_servers(run: CommandRun, *, remove: bool, every: int) -> Report:
    hosts = servers(run.project.hosts, what="a schedule of both")
    if every:
        raise UsageError(
            "--every is for this machine: servers are as the inventory declares them",
            hint="set deploy.cleanup_every_min",
        )
    undeclared = [host.name for host in hosts if not host.settings.deploy.schedule]
    if undeclared and not remove:
        raise UsageError(
            f"the inventory declares no timers for {', '.join(undeclared)}: deploy.schedule is false",
            hint="set it to true; `inv deploy` does the same then",
        )
    facts, states = FactsCache(run.project.root), HostStates(run.project.configuration, run.say)
    report = bring_hosts(run, timers(facts, states, remove=remove), reason="schedule")
    if remove and len(undeclared) < len(hosts) and not run.check:
        run.say(
            "the inventory still declares the timers: set deploy.schedule to false, or a deploy brings them back"
        )
    return report


def _verb(change: ScheduleChange) -> str:
    if change.before is None:
        return "add"
    return "remove" if change.after is None else "change"


def _text(data: ScheduleHost, changes: Sequence[ScheduleChange], *, check: bool, diff: bool) -> str:
    lines = []
    for one in changes:
        lines.append(f"{'would ' if check else ''}{_verb(one)} {one.what}")
        if diff and not one.timer:
            lines += difflib.unified_diff(
                (one.before or "").splitlines(),
                (one.after or "").splitlines(),
                f"{one.what} (now)",
                f"{one.what} (wanted)",
                lineterm="",
            )
    if not changes:
        lines.append("nothing is scheduled, nothing to do" if data["how"] is None else "nothing to do")
    lines += [f"{job['cron']}  {job['name']} (by {data['how']})" for job in data["jobs"]]
    if data["how"] == "systemd-user":
        lines.append("they run while you are logged in; `loginctl enable-linger` lets them run always")
    return "\n".join(lines)


def rotate_logs(run: CommandRun, *, quiet: bool) -> Report:
    """Rotate what has grown over its limit in the logs of this machine."""
    folder = ProjectFolder(run.project.root)
    here = [host for host in run.project.hosts if host.local]
    servers = [host.name for host in run.project.hosts if not host.local]
    if here:
        files.rotate_running(folder.logs / "schedule.log", SCHEDULE_LOG_BYTES, 1)
    rotated = [
        name
        for host in here
        for name in files.rotate_all(folder.logs, build_stack(run.project, host).outline)
    ]
    lines = [f"{name}: nothing to do, its journal rotates by itself" for name in servers]
    if rotated:
        lines.append(f"rotated {', '.join(rotated)}")
    elif here:
        lines.append("no log is too large, nothing to do")
    document: RotateLogsDocument = {
        "changed_count": len(rotated),
        "hosts": {
            host.name: {
                "ok": True,
                "rotated": rotated if host.local else [],
                "detail": "" if host.local else "its journal rotates by itself",
            }
            for host in run.project.hosts
        },
    }
    return Report(document, "" if quiet else "\n".join(lines))
