"""Install the schedule, once, in one place: cron, or systemd's timers.

``Schedule.plan`` reads and decides, ``Schedule.apply`` writes. A second run changes nothing, and
changing from cron to timers removes the cron entries: each job has one starter.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from voiceops.errors import ServiceError
from voiceops.schedule import install as tools
from voiceops.schedule.jobs import (
    RecurringJob,
    Render,
    ScheduleBackend,
    ScheduleContext,
    cron_text,
    merged_crontab,
    script_text,
    unit_names,
    unit_texts,
)


class SchedulePaths(msgspec.Struct, frozen=True, kw_only=True):
    """Where cron and systemd look, and whether we are root."""

    root: bool
    cron_d: Path = Path("/etc/cron.d")
    units: Path = Path("/etc/systemd/system")
    owner: tuple[int, int] | None = None
    """User and group that the jobs run as and their folders belong to; None: ours."""

    @classmethod
    def of_this_user(cls, project_root: Path) -> SchedulePaths:
        """The places of whoever runs this; root lets the project's owner do the work."""
        if os.geteuid() == 0:
            state = project_root / ".voiceops"
            owner = (state if state.exists() else project_root).stat()
            return cls(root=True, owner=(owner.st_uid, owner.st_gid))
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return cls(root=False, units=configuration / "systemd" / "user")

    def how(self, *, systemd: bool) -> ScheduleBackend:
        if systemd:
            return ScheduleBackend.SYSTEMD if self.root else ScheduleBackend.SYSTEMD_USER
        return ScheduleBackend.CRON_D if self.root else ScheduleBackend.CRONTAB


class ScheduleChange(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs from what is wanted: a file, the crontab, or a timer."""

    what: str
    before: str | None
    after: str | None
    path: Path | None = None
    mode: int = 0o644
    timer: str = ""


class Schedule:
    """The jobs of one project under one user."""

    def __init__(
        self, place: ScheduleContext, jobs: Sequence[RecurringJob], targets: SchedulePaths, render: Render
    ) -> None:
        self._place = place
        self._jobs = jobs
        self._targets = targets
        self._render = render

    def plan(self, how: ScheduleBackend | None) -> tuple[ScheduleChange, ...]:
        """What has to change so that ``how``, and nothing else, starts the jobs; None: nobody."""
        scripts = [self._script(job, wanted=how is not None and job.wanted) for job in self._jobs]
        entries = [*self._cron(how), *self._systemd(how)]
        # A script must be there before its entry, and go after it.
        ordered = [*scripts, *entries] if how is not None else [*entries, *scripts]
        return tuple(change for change in ordered if change.before != change.after)

    def apply(self, changes: Sequence[ScheduleChange]) -> None:
        """Write them in their order; systemd learns of its units at the end, or before they go."""
        by_user = not self._targets.root
        leaving = [one.timer for one in changes if one.timer and one.after is None]
        if leaving:
            tools.systemctl("disable", "--now", *leaving, user=by_user)
        units = False
        for change in changes:
            if change.path is None:
                if not change.timer:
                    tools.write_crontab(change.after or "")
                continue
            units = units or change.path.parent == self._targets.units
            if change.after is None:
                tools.remove(change.path)
                tools.remove(change.path.with_name(f"{change.path.name}.lock"))
            else:
                tools.write_text(change.path, change.after, change.mode)
        self._hand_over()
        if units:
            tools.systemctl("daemon-reload", user=by_user)
        coming = [one.timer for one in changes if one.timer and one.after is not None]
        if coming:
            tools.systemctl("enable", *coming, user=by_user)
            # restart, not start: a running timer goes on with its old times.
            tools.systemctl("restart", *coming, user=by_user)

    def _script(self, job: RecurringJob, *, wanted: bool) -> ScheduleChange:
        path = self._place.script(job)
        return ScheduleChange(
            what=str(path),
            before=tools.read_text(path),
            after=script_text(self._place, job, self._render) if wanted else None,
            path=path,
            mode=0o755,
        )

    def _cron(self, how: ScheduleBackend | None) -> list[ScheduleChange]:
        if not self._targets.root:
            return [self._crontab(how)]
        path = self._targets.cron_d / self._place.label
        if how is ScheduleBackend.CRON_D and not self._targets.cron_d.is_dir():
            raise ServiceError(
                f"there is no {self._targets.cron_d}: cron is not installed",
                hint="install cron, or use --systemd",
            )
        after = (
            cron_text(self._place, self._jobs, how, self._render) if how is ScheduleBackend.CRON_D else None
        )
        return [ScheduleChange(what=str(path), before=tools.read_text(path), after=after, path=path)]

    def _crontab(self, how: ScheduleBackend | None) -> ScheduleChange:
        try:
            before = tools.read_crontab()
        except ServiceError:
            if how is ScheduleBackend.CRONTAB:
                raise
            before = ""  # no crontab command, so nothing of ours is in one
        block = (
            cron_text(self._place, self._jobs, how, self._render) if how is ScheduleBackend.CRONTAB else ""
        )
        return ScheduleChange(what="crontab", before=before, after=merged_crontab(before, self._place, block))

    def _systemd(self, how: ScheduleBackend | None) -> list[ScheduleChange]:
        kind = ScheduleBackend.SYSTEMD if self._targets.root else ScheduleBackend.SYSTEMD_USER
        changes = []
        unwanted = {name for job in self._jobs if not job.wanted for name in unit_names(self._place, job)}
        for name, text in unit_texts(self._place, self._jobs, kind, self._render).items():
            path = self._targets.units / name
            before = tools.read_text(path)
            after = text if how is kind and name not in unwanted else None
            changes.append(ScheduleChange(what=str(path), before=before, after=after, path=path))
            if not name.endswith(".timer"):
                continue
            if after is not None:
                runs = before == after and tools.timer_runs(name, user=not self._targets.root)
                changes.append(
                    ScheduleChange(what=name, before="runs" if runs else None, after="runs", timer=name)
                )
            elif before is not None:
                changes.append(ScheduleChange(what=name, before="runs", after=None, timer=name))
        return changes

    def _hand_over(self) -> None:
        """The job's user writes its locks and its log there."""
        folders = (
            self._place.root / ".voiceops",
            self._place.folder,
            self._place.root / ".voiceops" / "logs",
        )
        if self._place.folder.exists():
            folders[2].mkdir(exist_ok=True)
            if self._targets.owner is not None:
                for folder in folders:
                    tools.hand_over(folder, *self._targets.owner)
