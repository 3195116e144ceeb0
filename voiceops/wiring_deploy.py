"""The composition root's part for servers: what goes to a host, how it gets there, and its stack."""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from voiceops.errors import ConfigError, UsageError
from voiceops.wiring_stack import clean_rooms

if TYPE_CHECKING:
    from voiceops.deadline import Deadline
    from voiceops.deploy.desired import HostState, Materials
    from voiceops.deploy.fleet import Fleet, HostRun
    from voiceops.deploy.wheelhouse import Facts
    from voiceops.model.calls import CallResult
    from voiceops.model.settings import Host, LivekitService
    from voiceops.ports import Transport
    from voiceops.resources import Content
    from voiceops.stack.model import Declared
    from voiceops.stack.operations import Stack
    from voiceops.stack.results import Progress
    from voiceops.wiring import Project


def servers(project: Project, *, what: str) -> tuple[Host, ...]:
    """The selected hosts, all of them servers."""
    local = [host.name for host in project.hosts if host.local]
    if local:
        raise UsageError(
            f"{local[0]} is this machine: {what} is for servers",
            hint="name servers by --host, --group or --limit; `inv start` runs the services here",
        )
    return project.hosts


def whoami() -> str:
    """Who deploys, for locks and ledgers."""
    return f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})"


class FactsCache:
    """What is known of hosts: without it each deploy would ask first, and then deploy."""

    def __init__(self, project: Project) -> None:
        self._folder = project.root / ".voiceops" / "hosts"

    def _file(self, host: Host) -> Path:
        return self._folder / f"{host.name}-{host.address}-{host.port or 22}.json".replace("/", "_")

    def read(self, host: Host, transport: Transport) -> Facts:
        """From the file, else from the host."""
        from voiceops.deploy.wheelhouse import Facts

        try:
            return Facts.of(json.loads(self._file(host).read_text()))
        except (OSError, ValueError, KeyError):
            return self.renew(host, transport)

    def renew(self, host: Host, transport: Transport) -> Facts:
        """From the host."""
        from voiceops.deploy.wheelhouse import Facts
        from voiceops.resources import read_facts

        facts = read_facts(transport, host.settings.project)
        found = Facts.of(facts)
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._file(host).with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({key: value for key, value in facts.items() if key != "lease"}))
        fresh.replace(self._file(host))
        return found


def host_state(project: Project, host: Host, facts: Facts, *, say: Callable[[str], None]) -> HostState:
    """The desired state of one host; fetches what this machine lacks for it."""
    from voiceops.deploy.desired import desired_state

    return desired_state(host.settings, _materials(project, host, facts, say))


def _materials(project: Project, host: Host, facts: Facts, say: Callable[[str], None]) -> Materials:
    from voiceops.adapters.binaries import cache_folder
    from voiceops.config.shipped import checkout, shipped
    from voiceops.deploy.desired import Materials
    from voiceops.deploy.own_wheel import own_wheel
    from voiceops.deploy.wheelhouse import Wheelhouse, wheelhouse
    from voiceops.systemd import ready_onhost

    environment = project.configuration.environment
    settings = host.settings.deploy
    cache = cache_folder() / "wheels"

    def wheels() -> Wheelhouse:
        lock = checkout()
        return wheelhouse(
            facts,
            requirements=_requirements(project, settings.requirements),
            constraints=lock / "requirements.lock" if lock else None,
            upload=settings.wheels == "upload",
            own=own_wheel(cache),
            cache=cache,
            say=say,
        )

    return Materials(
        root=project.root,
        templates=(project.root / "templates", shipped("templates")),
        dotenv={name: environment.get(name) or "" for name in environment.dotenv()},
        livekit_binary=lambda service: _livekit_binary(service, facts, say),
        wheels=wheels,
        ready_script=Path(ready_onhost.__file__).read_bytes(),
    )


def _requirements(project: Project, named: str | None) -> str:
    if named is None:
        return ""
    try:
        return (project.root / named).read_text()
    except OSError as error:
        raise ConfigError(f"{named}: {error.strerror}", path="deploy.requirements") from None


def _livekit_binary(service: LivekitService, facts: Facts, say: Callable[[str], None]) -> Content:
    import platform

    from voiceops.adapters.binaries import livekit_server
    from voiceops.resources import Content

    if platform.machine() != facts.machine and not service.binary:
        raise ConfigError(
            f"this machine is {platform.machine()}, the host {facts.machine}",
            path="services.livekit.binary",
            hint="name a livekit-server for that machine in services.livekit.binary",
        )
    binary = livekit_server(service.version, service.binary, on_progress=lambda seen: say(str(seen)))
    return Content.of_file(binary, str(binary))


def host_stack(
    project: Project,
    host: Host,
    transport: Transport,
    *,
    outline: tuple[Declared, ...],
    services: Callable[[], tuple[Declared, ...]],
    lock: Callable[[Deadline], AbstractContextManager[None]],
    progress: Progress,
    say: Callable[[str], None],
) -> Stack:
    """The services of a server on systemd."""
    from voiceops.stack.folder import Folder
    from voiceops.stack.operations import Stack
    from voiceops.stack.systemd_backend import SystemdBackend
    from voiceops.systemd.names import Names

    return Stack(
        services=services,
        outline=outline,
        backend=SystemdBackend(
            Names(host.settings.project), transport, settle_s=host.settings.deploy.settle_s
        ),
        lock=lock,
        before_agents=lambda: clean_rooms(host, Folder(project.root), say),
        progress=progress,
    )


def server_stack(project: Project, host: Host, *, progress: Progress, say: Callable[[str], None]) -> Stack:
    """What is deployed on a server, for start, stop and those who look."""
    from voiceops.adapters.transports import transport_to
    from voiceops.deploy.deployed import deployed_services
    from voiceops.deploy.desired import host_outline
    from voiceops.resources import Lease, locked

    transport = transport_to(host)
    outline = host_outline(host.settings)
    name = host.settings.project

    def lock(limit: Deadline) -> AbstractContextManager[None]:
        lease = Lease(owner=whoami(), reason="start or stop", wait_s=min(limit.remaining_s, 10.0))
        return locked(transport, name, lease, stay_s=limit.remaining_s + 60.0)

    return host_stack(
        project,
        host,
        transport,
        outline=outline,
        services=lambda: deployed_services(transport, host.settings, outline),
        lock=lock,
        progress=progress,
        say=say,
    )




@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of a deploy; None: what the inventory says."""

    serial: str = ""
    max_fail: int | None = None
    parallel: int | None = None
    wait_s: float | None = None
    accept_new: bool = False
    call: bool = True
    check: bool = False
    diff: bool = False
    timeout_s: float = 300.0
    drop_calls: bool = False


@dataclass(slots=True)
class DeployRun:
    """What came of a deploy: the hosts, and the call at its end."""

    fleet: Fleet
    call: CallResult | None = None


class Shown(Protocol):
    """Whoever shows a deploy while it runs."""

    def say(self, line: str) -> None: ...

    def event(self, host: str, kind: str, data: Mapping[str, Any]) -> None: ...

    def service(self, host: str, service: str, state: str, words: str) -> None: ...

    def plan(self, fleet: Fleet) -> None: ...

    def done(self, run: HostRun) -> None: ...


def run_deploy(project: Project, options: Options, *, view: Shown) -> DeployRun:
    """Look at all hosts, then bring those that differ to what is declared, and call the agent."""
    hosts = servers(project, what="deploy")
    settings = hosts[0].settings.deploy
    fleet = connect(project, hosts, parallel=options.parallel or settings.parallel, accept_new=options.accept_new)
    fleet.on_done = view.done
    deployer = Deployer(project, options, view)
    done = DeployRun(fleet)
    try:
        fleet.each(fleet.runs, deployer.look)
        if not any(run.ok for run in fleet.runs):
            return done
        view.plan(fleet)
        if not options.check:
            serial = options.serial or settings.serial
            max_fail = settings.max_fail if options.max_fail is None else options.max_fail
            fleet.roll(deployer.deploy, serial=serial_of(serial), max_fail=max_fail)
            changed = [run.host for run in fleet.runs if run.deployed is not None and run.ok]
            if changed and options.call and settings.call:
                done.call = prove_by_call(changed, view.say)
    finally:
        fleet.close()
    return done


def connect(project: Project, hosts: Sequence[Host], *, parallel: int, accept_new: bool = False) -> Fleet:
    """The hosts with a way to each; nothing is connected yet."""
    from voiceops.adapters.transports import transport_to
    from voiceops.deploy.fleet import Fleet, HostRun

    runs = [HostRun(host, transport_to(host, accept_new=accept_new)) for host in hosts]
    return Fleet(runs=runs, parallel=parallel)


def serial_of(text: int | str) -> int | str:
    """As the inventory has it: a number, or a percentage."""
    if isinstance(text, int):
        return text
    number = text.removesuffix("%")
    if not number.isdecimal() or int(number) < 1 or (text.endswith("%") and int(number) > 100):
        raise UsageError(f"--serial {text!r} is no number of hosts", hint="write 2 or 25%")
    return text if text.endswith("%") else int(text)


class Deployer:
    """The work of a deploy on one host, in its two steps."""

    def __init__(self, project: Project, options: Options, view: Shown) -> None:
        self._project = project
        self._options = options
        self._view = view
        self._facts = FactsCache(project)
        self._preparing = threading.Lock()

    def look(self, run: HostRun) -> None:
        """Decide what the host should be, and what it would take."""
        from voiceops.deploy.rollout import inspect

        facts = self._facts.read(run.host, run.transport)
        with self._preparing:  # hosts of one kind get the same wheels: fetched and hashed once
            run.state = host_state(self._project, run.host, facts, say=self._view.say)
        run.planned = inspect(run.transport, run.state, diff=self._options.diff)

    def deploy(self, run: HostRun) -> None:
        """Carry it out."""
        from voiceops.deploy.rollout import Rollout, deploy_host

        settings = run.host.settings.deploy
        wait_s = settings.lock_wait_s if self._options.wait_s is None else self._options.wait_s
        rollout = Rollout(
            by=whoami(),
            timeout_s=self._options.timeout_s,
            drop_calls=self._options.drop_calls,
            diff=self._options.diff,
            lock_wait_s=wait_s,
            keep_releases=settings.keep_releases,
        )
        assert run.state is not None

        def make_stack(state: HostState, lock: Callable[[Deadline], AbstractContextManager[None]]) -> Stack:
            return host_stack(
                self._project,
                run.host,
                run.transport,
                outline=state.services,
                services=lambda: state.services,
                lock=lock,
                progress=lambda service, word, words: self._view.service(run.name, service, word, words),
                say=self._view.say,
            )

        run.deployed = deploy_host(
            run.transport,
            run.state,
            make_stack,
            rollout,
            on_event=lambda kind, data: self._view.event(run.name, kind, data),
        )


def prove_by_call(hosts: Sequence[Host], say: Callable[[str], None]) -> CallResult | None:
    """One real call to an agent of these hosts; None where there is no agent to call."""
    import logging

    from voiceops.model.settings import AgentService
    from voiceops.wiring import call_target, place_call

    for host in hosts:
        running = host.settings.run if host.settings.run is not None else list(host.settings.services)
        agents = [name for name in running if isinstance(host.settings.services[name], AgentService)]
        if agents:
            say(f"calling {agents[0]}")
            logging.getLogger("livekit").setLevel(logging.CRITICAL)
            return place_call(call_target([host], service=agents[0]))
    return None
