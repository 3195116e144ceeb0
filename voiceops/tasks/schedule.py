"""Room cleanup and log rotation, without anybody thinking of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voiceops.cli.command import TARGETS, Report, Run, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voiceops.schedule.plan import Change

SCHEDULE_LOG_BYTES = 1_000_000
DEFAULT_EVERY_MIN = 5


@command(
    *TARGETS,
    "check",
    "diff",
    help={
        "systemd": "Use systemd's timers instead of cron; servers always do.",
        "remove": "Take the entries out again, wherever they are.",
        "every": "Minutes between two cleanups of rooms (default 5; of servers: deploy.cleanup_every_min).",
    },
)
def schedule(run: Run, systemd: bool = False, remove: bool = False, every: int = 0) -> Report:
    """Let cron or systemd run `cleanup-rooms` and `rotate-logs` for this project, here or on servers.

    On servers: the timer that `inv deploy` installs; the journal rotates its logs by itself.
    Example: inv schedule --check --diff
    """
    from voiceops.schedule.jobs import jobs
    from voiceops.wiring.schedule import project_schedule

    if not all(host.local for host in run.project.hosts):
        return _on_servers(run, remove=remove, every=every)
    every = every or DEFAULT_EVERY_MIN
    installed = project_schedule(run.project, inventory=run.inventory, every_min=every)
    how = None if remove else installed.targets.how(systemd=systemd)
    changes = installed.schedule.plan(how)
    if changes and not run.check:
        installed.schedule.apply(changes)
    data = {
        "changed": len(changes),
        "how": None if how is None else how.value,
        "jobs": []
        if remove
        else [
            {"name": job.name, "cron": job.cron, "script": str(installed.place.script(job))}
            for job in jobs(every)
        ],
        "changes": [{"what": one.what, "change": _verb(one)} for one in changes],
        "check": run.check,
    }
    return Report(data, _text(data, changes, diff=run.diff), 2 if run.check and changes else 0)


def _on_servers(run: Run, *, remove: bool, every: int) -> Report:
    from voiceops.errors import UsageError
    from voiceops.tasks.resources import bring_hosts
    from voiceops.wiring.deploy import servers
    from voiceops.wiring.schedule import timers

    hosts = servers(run.project, what="a schedule of both")
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
    report = bring_hosts(run, timers(run.project, remove=remove, say=run.say), reason="schedule")
    if remove and len(undeclared) < len(hosts) and not run.check:
        run.say(
            "the inventory still declares the timers: set deploy.schedule to false, or a deploy brings them back"
        )
    return report


def _verb(change: Change) -> str:
    if change.before is None:
        return "add"
    return "remove" if change.after is None else "change"


def _text(data: dict[str, Any], changes: Sequence[Change], *, diff: bool) -> str:
    import difflib

    lines = []
    for one in changes:
        lines.append(f"{'would ' if data['check'] else ''}{_verb(one)} {one.what}")
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


@command(*TARGETS, name="rotate-logs", help={"quiet": "Print nothing unless something failed: for cron."})
def rotate_logs(run: Run, quiet: bool = False) -> Report:
    """Rotate the services' logs that have grown over their `log_max_bytes`; safe while they write.

    Logs of servers are in their journals, which rotate by themselves. Example: inv rotate-logs
    """
    from voiceops.stack.local.folder import Folder
    from voiceops.stack.logs import files

    folder = Folder(run.project.root)
    here = [host for host in run.project.hosts if host.local]
    servers = [host.name for host in run.project.hosts if not host.local]
    if here:
        files.rotate_running(folder.logs / "schedule.log", SCHEDULE_LOG_BYTES, 1)
    rotated = [
        name for host in here for name in files.rotate_all(folder.logs, run.project.stack(host).outline)
    ]
    lines = [f"{name}: nothing to do, its journal rotates by itself" for name in servers]
    if rotated:
        lines.append(f"rotated {', '.join(rotated)}")
    elif here:
        lines.append("no log is too large, nothing to do")
    data = {"rotated": rotated, "changed": len(rotated), "journals": servers}
    return Report(data, "" if quiet else "\n".join(lines))
