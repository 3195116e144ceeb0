"""Run commands regularly: what cron or a systemd timer needs for it, as data.

Everything here is pure: files and lines are rendered, and a crontab is merged; the adapter in
``voiceops.schedule.install`` writes them. The command itself stands in a small script, because
cron's lines are short, know no environment and give ``%`` a meaning of its own.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path

import msgspec

from voiceops.errors import UsageError

BACKUPS_KEPT = 7
"""Of each service, by the nightly backup."""
_CRON_LINE_MAX = 998
"""Debian's cron refuses a longer command, and with it the whole file."""


class ScheduleBackend(str, Enum):
    """Who starts the jobs."""

    CRON_D = "cron.d"
    CRONTAB = "crontab"
    SYSTEMD = "systemd"
    SYSTEMD_USER = "systemd-user"

    def __str__(self) -> str:
        return self.value


class RecurringJob(msgspec.Struct, frozen=True, kw_only=True):
    """One command and when it runs, in both of the languages for it."""

    name: str
    arguments: tuple[str, ...]
    cron: str
    calendar: str
    """systemd's OnCalendar; empty: once, when systemd starts (for a user: at the first login, or at boot with linger)."""
    wanted: bool = True
    """False: what an earlier schedule installed of it is taken out."""
    only_if: Path | None = None
    """A file of the project without which it does nothing; None: it always runs."""


class ScheduleContext(msgspec.Struct, frozen=True, kw_only=True):
    """What is scheduled, and from where it runs."""

    project: str
    root: Path
    """The folder of the inventory: absolute."""
    command: tuple[str, ...]
    """What runs voiceops here; its arguments follow."""
    path: str
    environment: Mapping[str, str] = {}
    user: str = ""
    """Whom root runs the jobs as."""

    @property
    def label(self) -> str:
        """Tells this project from another of the same name in another folder."""
        return f"voiceops-{self.project}-{hashlib.sha256(bytes(self.root)).hexdigest()[:6]}"

    @property
    def folder(self) -> Path:
        return self.root / ".voiceops" / "schedule"

    def script(self, job: RecurringJob) -> Path:
        return self.folder / job.name


Render = Callable[[str, Mapping[str, object]], str]
"""Fills the template of that name."""


def jobs(
    cleanup_every_min: int,
    inventory: str = "",
    *,
    boot: bool = False,
    backup: bool = False,
    monitor: str = "",
    wanted_mark: Path | None = None,
) -> tuple[RecurringJob, ...]:
    """Room cleanup every few minutes, log rotation every quarter of an hour; with ``boot`` a start of the stack.

    With ``backup``, a backup each night.

    With ``boot``, a ``monitor`` is started again where its guard is gone too, while ``wanted_mark`` says that nobody
    has stopped it.
    """
    if not 1 <= cleanup_every_min <= 59:
        raise UsageError("cleanup runs every 1 to 59 minutes", hint="for example --every 5")
    named = ("--inventory", inventory) if inventory else ()
    return (
        RecurringJob(
            name="cleanup-rooms",
            arguments=("cleanup-rooms", "--quiet", *named),
            cron=f"*/{cleanup_every_min} * * * *",
            calendar=f"*:0/{cleanup_every_min}",
        ),
        RecurringJob(
            name="rotate-logs",
            arguments=("rotate-logs", "--quiet", *named),
            cron="7-59/15 * * * *",
            calendar="*:07/15",
        ),
        RecurringJob(
            name="backup",
            arguments=("backup", "--quiet", "--keep", str(BACKUPS_KEPT), *named),
            cron="17 3 * * *",
            calendar="*-*-* 03:17",
            wanted=backup,
        ),
        RecurringJob(name="start", arguments=("start", *named), cron="@reboot", calendar="", wanted=boot),
        RecurringJob(
            name="monitor",
            arguments=("start", "--only", monitor, *named),
            cron="3-59/5 * * * *",
            calendar="*:03/5",
            wanted=boot and bool(monitor),
            only_if=wanted_mark,
        ),
    )


def script_text(place: ScheduleContext, job: RecurringJob, render: Render) -> str:
    """The program that cron or systemd starts."""
    command = shlex.join((*place.command, *job.arguments))
    root = shlex.quote(str(place.root))
    return render(
        "cron/job.sh",
        {
            "name": job.name,
            "path": shlex.quote(place.path),
            "environment": [(name, shlex.quote(value)) for name, value in sorted(place.environment.items())],
            "root": root,
            "lock": shlex.quote(str(place.folder / f"{job.name}.lock")),
            "log": shlex.quote(str(place.root / ".voiceops" / "logs" / "schedule.log")),
            "only_if": shlex.quote(str(job.only_if)) if job.only_if else "",
            "command": command,
            "command_quoted": shlex.quote(command),
            "root_quoted": shlex.quote(root),
        },
    )


def cron_text(
    place: ScheduleContext, all_jobs: Sequence[RecurringJob], how: ScheduleBackend, render: Render
) -> str:
    """A file for /etc/cron.d, or the block for the user's crontab."""
    check(place)
    lines = []
    for job in (job for job in all_jobs if job.wanted):
        # cron takes the first % as the end of the command and what follows as its input; it also
        # removes the backslash that keeps it from doing so, inside quotes as well.
        command = shlex.quote(str(place.script(job))).replace("%", "\\%")
        if len(command) > _CRON_LINE_MAX:
            raise UsageError("the project's path is too long for cron", hint="use --systemd")
        lines.append(
            " ".join(filter(None, (job.cron, place.user if how is ScheduleBackend.CRON_D else "", command)))
        )
    return render("cron/crontab", {"begin": _begin(place), "end": _end(place), "lines": lines})


def merged_crontab(before: str, place: ScheduleContext, block: str) -> str:
    """The user's crontab with our block in it once, or without it (``block`` empty).

    Every other line stays as it is.
    """
    ours = re.compile(
        rf"^{re.escape(_begin(place))}\n.*?^{re.escape(_end(place))}\n?", re.MULTILINE | re.DOTALL
    )
    found = ours.search(before)
    if found is not None:
        return before[: found.start()] + block + ours.sub("", before[found.end() :])
    if block and before and not before.endswith("\n"):
        before += "\n"
    return before + block


def unit_texts(
    place: ScheduleContext, all_jobs: Sequence[RecurringJob], how: ScheduleBackend, render: Render
) -> dict[str, str]:
    """systemd's units by file name: a service and its timer for each job."""
    check(place)
    units: dict[str, str] = {}
    for job in all_jobs:
        values: dict[str, object] = {
            "name": job.name,
            "project": place.project,
            "calendar": job.calendar,
            "user": place.user if how is ScheduleBackend.SYSTEMD else "",
            "exec_start": unit_word(str(place.script(job))),
        }
        for name in unit_names(place, job):
            units[name] = render(f"cron/job.{name.rpartition('.')[2]}", values)
    return units


def unit_names(place: ScheduleContext, job: RecurringJob) -> tuple[str, str]:
    """The names of a job's units: the service and its timer."""
    return f"{place.label}-{job.name}.service", f"{place.label}-{job.name}.timer"


def unit_word(word: str) -> str:
    """One word of an ExecStart line: specifiers, variables and quotes lose their meaning.

    A program's own path knows no ``$$`` before systemd 256, so /bin/sh takes it as an argument.
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'/bin/sh "{escaped}"'


def check(place: ScheduleContext) -> None:
    """cron and systemd read lines: no path may have a line break."""
    if not str(place.root).isprintable():
        raise UsageError("the project's path has control characters", hint="move the project")


def _begin(place: ScheduleContext) -> str:
    return f"# BEGIN {place.label}: written by `inv schedule`, removed by `inv schedule --remove`"


def _end(place: ScheduleContext) -> str:
    return f"# END {place.label}"
