"""The composition root's part for the schedule."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from voiceops.config.local_keys import refuse_shell_only
from voiceops.config.shipped import template_folders
from voiceops.config.source.templating import Renderer
from voiceops.schedule.jobs import RecurringJob, ScheduleContext, jobs
from voiceops.schedule.plan import Schedule, SchedulePaths
from voiceops.stack.local.folder import ProjectFolder
from voiceops.wiring.project import Project, tasks_folder

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("ROOM_STALE_TIMEOUT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE")
"""Variables of this shell that the jobs get too: none of them is a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSchedule:
    place: ScheduleContext
    targets: SchedulePaths
    schedule: Schedule
    jobs: tuple[RecurringJob, ...]


def project_schedule(
    project: Project, *, inventory: str, every_min: int, boot: bool = False, backup: bool = False
) -> ProjectSchedule:
    """The schedule of this project on this machine."""
    settings = project.hosts[0].settings
    livekit = settings.livekit
    refuse_shell_only(project.configuration.environment, (livekit.api_key, livekit.api_secret))
    targets = SchedulePaths.of_this_user(project.root)
    given = inventory or os.environ.get("VOICEOPS_INVENTORY", "")
    command, environment = _voiceops_command()
    place = ScheduleContext(
        project=settings.project,
        root=project.root,
        command=command,
        path=_SYSTEM_PATH,
        environment={name: os.environ[name] for name in _KEPT if os.environ.get(name)} | environment,
        user=pwd.getpwuid(targets.owner[0]).pw_name if targets.owner else "",
    )
    monitor = next((name for name, one in settings.running.items() if one.watches), "")
    mark = ProjectFolder(project.root).wanted_mark(monitor)
    all_jobs = jobs(
        every_min,
        str(project.inventory_file) if given else "",
        boot=boot,
        backup=backup,
        monitor=monitor,
        wanted_mark=mark,
    )
    return ProjectSchedule(
        place=place,
        targets=targets,
        schedule=Schedule(place, all_jobs, targets, Renderer(template_folders(project.root))),
        jobs=all_jobs,
    )


def _voiceops_command() -> tuple[tuple[str, ...], dict[str, str]]:
    """The project's own ./inv, which builds its environment again where it is gone; else Python."""
    folder = tasks_folder()
    wrapper = folder / "inv"
    if os.access(wrapper, os.X_OK):
        return (str(wrapper),), {}
    package = Path(__file__).resolve().parents[2]
    installed = package.name == "site-packages"
    command = (sys.executable, "-m", "voiceops", "--project", str(folder))
    return command, {} if installed else {"PYTHONPATH": str(package)}
