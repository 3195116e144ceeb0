"""The desired state of one host, as a pure function of settings, facts and materials.

Names on the host come from ``systemd.names``. What an agent's instance runs on is named by its
release: code, environment, unit and wheels. So another secret is another release, and the old
instance drains on what it was started with.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from voiceops.deploy.wheelhouse import Wheelhouse
from voiceops.kinds import kind_of
from voiceops.kinds.host import HOST_TASKS, UNITS, HostContext
from voiceops.kinds.model import Declared
from voiceops.model.quoting import json_for_yaml
from voiceops.model.roles import Role
from voiceops.model.settings import ServiceBase, Settings
from voiceops.resources import (
    Absent,
    Blob,
    Directory,
    File,
    Package,
    Resource,
    Symlink,
    Sysctl,
    Unit,
    User,
    Venv,
)
from voiceops.stack import declare
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import TimerJob, UnitWriter

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress

_BUFFER_BYTES = "5000000"
"""For UDP: with the kernel's default, bursts of media are dropped (livekit-server warns of it)."""
CLEANUP = "cleanup-rooms"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployInputs:
    """What of this machine goes into a host."""

    root: Path
    """The inventory's folder."""
    templates: Sequence[Path]
    """Folders, the project's own first."""
    dotenv: Mapping[str, str]
    wheels: Callable[[], Wheelhouse]
    """Only asked for when the host runs something of Python."""
    locked_wheels: Callable[[Path], Wheelhouse]
    """Those of a lock file, for a program with a Python environment of its own."""
    ready_script: bytes
    machine: str = ""
    """The host's architecture, in the words of ``uname -m``; empty: that of this machine."""
    on_fetch: OnProgress = lambda progress: None
    """Told how far the download of a program is."""
    host_name: str = ""
    """The host's name in the inventory."""
    only_worker: Callable[[], bool] = lambda: False
    """Whether no other host of the inventory has an agent for its LiveKit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """What a host should be: files and units for the payload, services for reconcile."""

    names: HostNames
    resources: tuple[Resource, ...]
    services: tuple[Declared, ...]
    ground: frozenset[str] = frozenset()
    """Keys of the resources that no release and no service owns."""
    schedule: frozenset[str] = frozenset()
    """Keys of what the timers need, and of the timers."""

    @property
    def releases(self) -> dict[str, str]:
        """The release of each agent."""
        return {one.name: one.release for one in self.services if one.is_agent}

    def prepared(self) -> HostState:
        """What ``setup`` makes of a host: no release, no service."""
        ground = tuple(one for one in self.resources if one.key in self.ground)
        return replace(self, resources=ground, services=())

    def scheduled(self) -> tuple[Resource, ...]:
        """What ``inv schedule`` makes of a host: the very resources of a deploy."""
        return tuple(one for one in self.resources if one.key in self.schedule)


def host_outline(settings: Settings) -> tuple[Declared, ...]:
    """The services of a host, as far as needed to look at them: no file is read for it."""
    return declare.outline(settings, Path(HostNames(settings.project).opt))


def desired_state(settings: Settings, materials: DeployInputs) -> HostState:
    """Everything that a host gets; ``ConfigError`` for what can't be on a server."""
    return _Writer(settings, materials).state()


class _Writer:
    def __init__(self, settings: Settings, materials: DeployInputs) -> None:
        self.settings = settings
        self.materials = materials
        self.names = HostNames(settings.project)
        self.units = UnitWriter(self.names, materials.templates)
        self.outline = {service.name: service for service in host_outline(settings)}
        self.services = settings.running
        self.resources: list[Resource] = []
        self.inventory: dict[str, Mapping[str, object]] = {}
        """What the inventory on the host says of its services."""

    def state(self) -> HostState:
        self._ground()
        with_rooms = any(service.role is not Role.OTHER for service in self.services.values())
        cleanup = self.settings.deploy.schedule and with_rooms
        runs_python = any(kind_of(service).runs_python for service in self.services.values())
        self.context = self._context(self._venv() if runs_python or cleanup else None)
        ground = {one.key for one in self.resources}
        schedule = {one.key for one in self.resources if isinstance(one, (User, Directory, Venv))}
        declared = [self._service(name, service) for name, service in self.services.items()]
        before = len(self.resources)
        if cleanup:
            self._cleanup()
        elif with_rooms:
            self.resources += unscheduled(self.settings)
        schedule |= {one.key for one in self.resources[before:]}
        programs = {one.key for one in self.resources if isinstance(one, Blob)}
        return HostState(
            names=self.names,
            resources=tuple(self.resources),
            services=tuple(declared),
            ground=frozenset(ground | programs),
            schedule=frozenset(schedule),
        )

    def _context(self, venv: Venv | None) -> HostContext:
        return HostContext(
            settings=self.settings,
            names=self.names,
            units=self.units,
            root=self.materials.root,
            templates=self.materials.templates,
            dotenv=self.materials.dotenv,
            venv=venv,
            machine=self.materials.machine,
            on_fetch=self.materials.on_fetch,
            host_name=self.materials.host_name,
            only_worker=self.materials.only_worker,
            own_venv=self._own_venv,
        )

    # -- what all hosts have -----------------------------------------------

    def _ground(self) -> None:
        names = self.names
        if self.settings.deploy.packages:
            # First: whatever follows may need a program or an account of theirs.
            self.resources.append(Package(names=self.settings.deploy.packages, daemons=False))
        user = User(name=names.user, system=True, home=names.data, shell="/usr/sbin/nologin")
        self.resources.append(user)
        for path in (names.opt, names.etc):
            # Marked first of all: what a run that is cut leaves behind is known as ours.
            mark = File(path=f"{path}/.voiceops", content=_MARK, owner="root", mode=0o644)
            self.resources += [self._folder(path), mark]
        folders = [f"{names.opt}/bin", names.state]
        self.resources += [Directory(path=path, owner="root", mode=0o755) for path in folders]
        for path in (f"{names.opt}/releases", f"{names.opt}/venvs"):
            # Code, and what lies beside it, is for root and the services only.
            self.resources.append(Directory(path=path, owner="root", group=names.user, mode=0o750))
        self.resources.append(self._folder(names.data, owner=names.user, group=names.user, mode=0o750))
        self.resources.append(self._folder(names.cache, owner=names.user, group=names.user))
        self.resources.append(
            File(path=names.ready_script, content=self.materials.ready_script, owner="root", mode=0o755)
        )
        values = {"net.core.rmem_max": _BUFFER_BYTES, "net.core.wmem_max": _BUFFER_BYTES}
        self.resources.append(Sysctl(path=f"/etc/sysctl.d/60-{names.project}.conf", values=values))

    def _folder(
        self, path: str, owner: str = "root", group: str | None = None, mode: int = 0o755
    ) -> Directory:
        """A folder that is refused where somebody else made it. Older versions left no other mark than the script."""
        return Directory(path=path, owner=owner, group=group, mode=mode, marks=(self.names.ready_script,))

    def _venv(self) -> Venv:
        house = self.materials.wheels()
        path = f"{self.names.opt}/venvs/{_hash(house.requirements)}"
        venv = self._venv_of(house, path, wheels=f"{self.names.state}/wheels")
        self.resources.append(venv)
        return venv

    def _own_venv(self, path: str, lock: Path) -> Venv:
        return self._venv_of(self.materials.locked_wheels(lock), path, wheels=f"{path}-wheels")

    def _venv_of(self, house: Wheelhouse, path: str, *, wheels: str) -> Venv:
        deploy = self.settings.deploy
        return Venv(
            path=path,
            requirements=house.requirements,
            wheels=wheels,
            uv=house.uv,
            files=house.files,
            index=deploy.wheels == "index",
            env={"UV_DEFAULT_INDEX": deploy.index_url} if deploy.index_url else {},
            group=self.names.user,
        )

    # -- services ----------------------------------------------------------

    def _service(self, name: str, service: ServiceBase) -> Declared:
        with declare.located_at(f"services.{name}"):
            made = kind_of(service).declare_on_host(self.outline[name], service, self.context)
        # Services of one kind may share a program.
        self.resources += [one for one in made.resources if one not in self.resources]
        if made.inventory is not None:
            self.inventory[name] = made.inventory
        return made.declared

    # -- schedule ----------------------------------------------------------

    def _cleanup(self) -> None:
        """A timer that cleans up rooms, with an inventory of its own: the host knows nothing but itself."""
        venv = self.context.venv
        assert venv is not None
        names, settings = self.names, self.settings
        folder = f"{names.etc}/schedule"
        inventory = {
            "services": self.inventory,
            "run": [],  # they are units: whoever looks for processes there must miss none
            "project": settings.project,
            "livekit": {
                "url": settings.livekit.url,
                "api_key": {"env": "LIVEKIT_API_KEY"},
                "api_secret": {"env": "LIVEKIT_API_SECRET"},
                "insecure": settings.livekit.insecure,
            },
            "rooms": msgspec.to_builtins(settings.rooms),
        }
        text = json_for_yaml({"all": {"vars": inventory}}, indent=1) + "\n"
        self.resources += [
            Directory(path=folder, owner="root", mode=0o755),
            File(path=f"{folder}/inventory.yaml", content=text, owner="root", mode=0o644),
            File(path=f"{folder}/tasks.py", content=HOST_TASKS, owner="root", mode=0o644),
            Directory(path=names.schedule, owner=names.user, group=names.user, mode=0o750),
            Symlink(path=f"{folder}/.voiceops", target=names.schedule),
        ]
        python = f"{venv.path}/bin/python"
        argv = [python, "-m", "voiceops", "--project", folder, CLEANUP, "--quiet"]
        job = TimerJob(
            name=CLEANUP,
            argv=argv,
            calendar=f"*:0/{self.settings.deploy.cleanup_every_min}",
            spread_s=30.0,
            peers=_peers_of(settings.livekit.url),
        )
        keys = {
            "LIVEKIT_API_KEY": settings.livekit.api_key.reveal(),
            "LIVEKIT_API_SECRET": settings.livekit.api_secret.reveal(),
        }
        files = [self.context.unit_file(unit) for unit in self.units.job(job)]
        self.resources += [self.context.environment(CLEANUP, "", keys), *files]
        timer = names.unit(CLEANUP).replace(".service", ".timer")
        self.resources.append(
            Unit(name=timer, enabled=True, running=True, restart_on=[files[1]], settle_s=0.0)
        )


def unscheduled(settings: Settings) -> list[Resource]:
    """A host without the timers. What else they used stays: a call from the host needs it too."""
    unit = HostNames(settings.project).unit(CLEANUP)
    timer = unit.replace(".service", ".timer")
    stopped = Unit(name=timer, enabled=False, running=False, settle_s=0.0)
    return [stopped, Absent(path=f"{UNITS}/{timer}"), Absent(path=f"{UNITS}/{unit}")]


def _peers_of(url: str) -> list[str] | None:
    """All that a client of this URL talks to: a name could be of any address, and is asked for elsewhere."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return ["localhost"]
    try:
        return ["localhost", str(ipaddress.ip_address(host))]
    except ValueError:
        return None


def host_call(
    settings: Settings,
    service: str,
    *,
    unit: str,
    limit_s: float,
    templates: Sequence[Path],
    release: str = "",
) -> list[str]:
    """A call to an agent, placed on the host by the project's user; the keys come from systemd.

    ``release``: whose voiceops places it; empty: that of the current one.
    """
    names = HostNames(settings.project)
    units = UnitWriter(names, templates)
    python_of = names.release(release) if release else f"{names.opt}/current/{service}"
    argv = _voiceops_on_host(units, "schedule", CLEANUP, python_of, unit=unit, limit_s=limit_s)
    return [*argv, "call", "--service", service]


def host_history(
    settings: Settings, monitor: str, *, unit: str, limit_s: float, templates: Sequence[Path], since: str
) -> list[str]:
    """Read the history that the host's monitor keeps: with its user, as SQLite writes beside a file that it reads."""
    names = HostNames(settings.project)
    units = UnitWriter(names, templates)
    argv = _voiceops_on_host(units, monitor, monitor, f"{names.etc}/{monitor}", unit=unit, limit_s=limit_s)
    return [*argv, "history", "--json", "--since", since]


def host_check(
    settings: Settings, monitor: str, *, unit: str, limit_s: float, templates: Sequence[Path]
) -> list[str]:
    """One check by the host's own monitor, as another process of its user."""
    names = HostNames(settings.project)
    argv = _voiceops_on_host(
        UnitWriter(names, templates),
        monitor,
        monitor,
        f"{names.etc}/{monitor}",
        unit=unit,
        limit_s=limit_s,
        # As the monitor's own unit: it sees whether the kernel has stopped a service.
        properties=("ProtectProc=default",),
    )
    return [*argv, "monitor", "--once", "--json"]


def _voiceops_on_host(
    units: UnitWriter,
    folder: str,
    environment: str,
    python_of: str,
    *,
    unit: str,
    limit_s: float,
    properties: Sequence[str] = (),
) -> list[str]:
    """The beginning of a command of voiceops on the host; the user is that of the services, so it runs in their sandbox.

    ``folder``: of the project and of its state; ``environment``: whose variables it gets; ``python_of``: has a link ``venv``.
    """
    names = units.names
    project = f"{names.etc}/{folder}"
    program = f'exec "$(readlink -f {python_of}/venv)/bin/python" "$@"'
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={names.user}"]
    argv += [f"--unit={unit}", f"--property=RuntimeMaxSec={limit_s:g}"]
    argv += [f"--property=EnvironmentFile={names.environment_file(environment)}"]
    # With the mode of the units: systemd would open the folders to everybody (0755).
    state = (f"StateDirectory={names.project}/data {names.project}/{folder}", "StateDirectoryMode=0750")
    argv += [f"--property={one}" for one in (*state, *units.sandbox(), *properties)]
    argv += [f"--property=WorkingDirectory={project}", "/bin/sh", "-c", program, "sh"]
    return [*argv, "-m", "voiceops", "--project", project]


_MARK = "voiceops made this folder and removes from it what it put there. Without this file it refuses the folder.\n"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
