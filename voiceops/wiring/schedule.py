"""The composition root's part for the schedule."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voiceops.errors import ConfigError
from voiceops.wiring.project import tasks_folder

if TYPE_CHECKING:
    from voiceops.model.settings import Host, Settings
    from voiceops.resources import Resource
    from voiceops.schedule.jobs import ScheduleContext
    from voiceops.schedule.plan import Schedule, SchedulePaths
    from voiceops.wiring.project import Project

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("ROOM_STALE_TIMEOUT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE")
"""Variables of this shell that the jobs get too: none of them is a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSchedule:
    place: ScheduleContext
    targets: SchedulePaths
    schedule: Schedule


def project_schedule(project: Project, *, inventory: str, every_min: int) -> ProjectSchedule:
    """The schedule of this project on this machine."""
    from voiceops.schedule.jobs import ScheduleContext, jobs
    from voiceops.schedule.plan import Schedule, SchedulePaths

    settings = project.hosts[0].settings
    _check_secrets(project, settings)
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
    all_jobs = jobs(every_min, str(project.inventory_file) if given else "")
    return ProjectSchedule(
        place=place, targets=targets, schedule=Schedule(place, all_jobs, targets, _renderer(project))
    )


def timers(
    project: Project, *, remove: bool, say: Callable[[str], None]
) -> Callable[[Host], Sequence[Resource]]:
    """The resources of a server's timers, as its deploy has them; with ``remove`` those of a server without."""
    from voiceops.adapters.ssh.transports import transport_to
    from voiceops.deploy.desired import unscheduled
    from voiceops.wiring.deploy import FactsCache, host_state

    facts = FactsCache(project)

    def of(host: Host) -> Sequence[Resource]:
        if remove:
            return unscheduled(host.settings)
        known = facts.read(host)
        if known is None:
            with contextlib.closing(transport_to(host)) as transport:
                known = facts.learn(host, transport)
        return host_state(project, host, known, say=say).scheduled()

    return of


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


def _check_secrets(project: Project, settings: Settings) -> None:
    """A key that only this shell knows would make every run of cron fail."""
    known = project.configuration.environment.dotenv()
    for secret in (settings.livekit.api_key, settings.livekit.api_secret):
        kind, _, name = secret.origin.partition(":")
        if kind == "env" and name not in known and name in os.environ:
            raise ConfigError(
                f"{name} is set in this shell only: cron and systemd will not know it",
                hint=f"write {name}=... into {project.root / '.env'}",
            )


def _renderer(project: Project) -> Renderer:
    from voiceops.config.shipped import shipped

    return Renderer((project.root / "templates", shipped("templates")))


class Renderer:
    """Templates by name; the project's own win over the shipped ones."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        from voiceops.config.source import templating

        self._templates = templating.environment(folders)

    def __call__(self, name: str, values: Mapping[str, object]) -> str:
        return self._templates.get_template(name).render(values)
