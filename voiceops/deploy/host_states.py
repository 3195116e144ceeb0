"""The desired states of hosts, with what this machine has to bring: settings, templates, programs, wheels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from voiceops.adapters.binaries.progress import cache_folder
from voiceops.config.project import Configuration
from voiceops.config.shipped import shipped, template_folders
from voiceops.deploy.desired import DeployInputs, HostState, desired_state
from voiceops.deploy.own_wheel import own_wheel
from voiceops.deploy.wheelhouse import HostPlatform, Wheelhouse, entry_of, wheelhouse
from voiceops.errors import ConfigError
from voiceops.kinds import kind_of
from voiceops.model.endpoint import server_id
from voiceops.model.roles import Role
from voiceops.model.settings import Host
from voiceops.systemd.names import READY_PROGRAM


class HostStates:
    """Makes the desired state of one host after the other; what several need is fetched once."""

    def __init__(self, configuration: Configuration, say: Callable[[str], None]) -> None:
        self._configuration = configuration
        self._root = configuration.inventory.folder
        self._say = say

    def of(self, host: Host, facts: HostPlatform) -> HostState:
        """The desired state of one host; fetches what this machine lacks for it."""
        try:
            return desired_state(host.settings, self._materials(host, facts))
        except ConfigError as error:
            raise self._configuration.pointed(host.name, error) from error

    def _materials(self, host: Host, facts: HostPlatform) -> DeployInputs:
        settings = host.settings.deploy

        def wheels() -> Wheelhouse:
            requirements = self._requirements(settings.requirements)
            running = host.settings.running.values()
            imported = {name for one in running for name in kind_of(one).requirements(one, host.settings)}
            return _wheels(
                facts, requirements, tuple(sorted(imported)), settings.wheels == "upload", self._say
            )

        return DeployInputs(
            root=self._root,
            templates=template_folders(self._root),
            dotenv=self._configuration.environment.variables(),
            machine=facts.machine,
            on_fetch=lambda progress: self._say(str(progress)),
            wheels=wheels,
            locked_wheels=lambda lock: _locked_wheels(facts, lock, settings.wheels == "upload", self._say),
            ready_script=READY_PROGRAM.read_bytes(),
            host_name=host.name,
            only_worker=lambda: self._is_only_worker(host),
        )

    def _is_only_worker(self, host: Host) -> bool:
        mine = server_id(host)
        names = self._configuration.inventory.hosts
        others = [one for one in map(self._configuration.host, names) if one.name != host.name]
        return not any(one.settings.runs(Role.AGENT) and server_id(one) == mine for one in others)

    def _requirements(self, named: str | None) -> str:
        if named is None:
            return ""
        try:
            return (self._root / named).read_text()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{named!r}: {why}", path="deploy.requirements") from None


@functools.lru_cache(maxsize=8)
def _wheels(
    facts: HostPlatform,
    requirements: str,
    imported: tuple[str, ...],
    upload: bool,
    say: Callable[[str], None],
) -> Wheelhouse:
    """Asked once for all hosts of one kind."""
    cache = cache_folder() / "wheels"
    return wheelhouse(
        facts,
        requirements=requirements,
        imported=imported,
        constraints=shipped("requirements.lock"),
        upload=upload,
        own=own_wheel(cache),
        cache=cache,
        say=say,
    )


@functools.lru_cache(maxsize=8)
def _locked_wheels(facts: HostPlatform, lock: Path, upload: bool, say: Callable[[str], None]) -> Wheelhouse:
    """Those of a program with an environment of its own."""
    constraints = shipped("requirements.lock")
    return wheelhouse(
        facts,
        requirements=lock.read_text() + entry_of(constraints.read_text(), "uv"),
        constraints=constraints,
        upload=upload,
        own=None,
        cache=cache_folder() / "wheels",
        say=say,
        roots=(),
    )
