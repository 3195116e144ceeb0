"""The composition root's part for servers: what goes to a host, how it gets there, and its stack."""

from __future__ import annotations

import contextlib
import functools
import getpass
import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voiceops.errors import ConfigError, UsageError, VoiceopsError
from voiceops.wiring.endpoint import known_as, near, server_occupancy

if TYPE_CHECKING:
    from voiceops.deadline import Deadline
    from voiceops.deploy.desired import HostState, Materials
    from voiceops.deploy.fleet import Fleet, HostRun
    from voiceops.deploy.operations import Deployer, Lock, Options, Shown
    from voiceops.deploy.wheelhouse import Facts, Wheelhouse
    from voiceops.kinds.model import Declared
    from voiceops.model.calls import CallResult
    from voiceops.model.settings import Host
    from voiceops.ports import Transport
    from voiceops.stack.operations import Stack
    from voiceops.stack.results import Progress
    from voiceops.wiring.project import Project


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

    def read(self, host: Host) -> Facts | None:
        """What was noted of the host, if anything was."""
        from voiceops.deploy.wheelhouse import Facts

        try:
            return Facts.of(json.loads(self._file(host).read_text()))
        except (OSError, ValueError, KeyError):
            return None

    def learn(self, host: Host, transport: Transport) -> Facts:
        """Ask the host, and note it."""
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

    try:
        return desired_state(host.settings, _materials(project, host, facts, say))
    except ConfigError as error:
        raise project.configuration.pointed(host.name, error) from error


def _materials(project: Project, host: Host, facts: Facts, say: Callable[[str], None]) -> Materials:
    from voiceops.config.shipped import shipped
    from voiceops.deploy.desired import Materials
    from voiceops.systemd.names import READY_PROGRAM

    environment = project.configuration.environment
    settings = host.settings.deploy

    def wheels() -> Wheelhouse:
        return _wheels(facts, _requirements(project, settings.requirements), settings.wheels == "upload", say)

    return Materials(
        root=project.root,
        templates=(project.root / "templates", shipped("templates")),
        dotenv=environment.variables(),
        machine=facts.machine,
        on_fetch=lambda progress: say(str(progress)),
        wheels=wheels,
        ready_script=READY_PROGRAM.read_bytes(),
    )


@functools.lru_cache(maxsize=8)
def _wheels(facts: Facts, requirements: str, upload: bool, say: Callable[[str], None]) -> Wheelhouse:
    """Asked once for all hosts of one kind."""
    from voiceops.adapters.binaries.find import cache_folder
    from voiceops.config.shipped import shipped
    from voiceops.deploy.own_wheel import own_wheel
    from voiceops.deploy.wheelhouse import wheelhouse

    cache = cache_folder() / "wheels"
    return wheelhouse(
        facts,
        requirements=requirements,
        constraints=shipped("requirements.lock"),
        upload=upload,
        own=own_wheel(cache),
        cache=cache,
        say=say,
    )


def _requirements(project: Project, named: str | None) -> str:
    if named is None:
        return ""
    try:
        return (project.root / named).read_text()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{named!r}: {why}", path="deploy.requirements") from None


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
    from voiceops.stack.local.folder import Folder
    from voiceops.stack.operations import Stack
    from voiceops.stack.systemd.backend import SystemdBackend
    from voiceops.systemd.names import Names
    from voiceops.wiring.stack import clean_rooms, count_rooms

    backend = SystemdBackend(Names(host.settings.project), transport, settle_s=host.settings.deploy.settle_s)
    asked = near(host, transport)
    return Stack(
        services=services,
        outline=outline,
        backend=backend,
        lock=lock,
        occupancy=server_occupancy(host, asked, transport),
        before_agents=lambda: clean_rooms(asked, Folder(project.root), say, known_as=known_as(host)),
        progress=progress,
        count_rooms=lambda: count_rooms(asked),
        host=host.name,
        close=transport.close,
    )


def server_stack(
    project: Project,
    host: Host,
    *,
    progress: Progress,
    say: Callable[[str], None],
    transport: Transport | None = None,
) -> Stack:
    """What is deployed on a server, for start, stop and those who look."""
    from voiceops.adapters.ssh.transports import transport_to
    from voiceops.deploy.deployed import deployed_services
    from voiceops.deploy.desired import host_outline
    from voiceops.resources import Lease, locked

    way = transport or transport_to(host)
    outline = host_outline(host.settings)
    name = host.settings.project

    def lock(limit: Deadline) -> AbstractContextManager[None]:
        lease = Lease(owner=whoami(), reason="start or stop", wait_s=min(limit.remaining_s, 10.0))
        return locked(way, name, lease, stay_s=limit.remaining_s + 60.0)

    return host_stack(
        project,
        host,
        way,
        outline=outline,
        services=lambda: deployed_services(way, host.settings, outline),
        lock=lock,
        progress=progress,
        say=say,
    )


def deployer(project: Project, options: Options, view: Shown) -> Deployer:
    """A deploy with everything real."""
    from voiceops.deploy.operations import Deployer, Hands
    from voiceops.wiring.calls import ProofCalls, call_through_servers, shares_livekit

    facts = FactsCache(project)
    hands = Hands(
        facts=facts.read,
        learn=facts.learn,
        state=lambda host, known: host_state(project, host, known, say=view.say),
        stack=stacks(project, view),
        call=ProofCalls(view.say).place,
        call_servers=lambda hosts: call_through_servers(project, hosts, view.say),
        shared=lambda run: shares_livekit(project, run.host),
    )
    return Deployer(hands, options, view)


def stacks(project: Project, view: Shown) -> Callable[[HostRun, tuple[Declared, ...], Lock], Stack]:
    """Makes the stack of a host over the connection that its run has already."""

    def stack(run: HostRun, services: tuple[Declared, ...], lock: Lock) -> Stack:
        return host_stack(
            project,
            run.host,
            run.transport,
            outline=services,
            services=lambda: services,
            lock=lock,
            progress=lambda service, word, words: view.service(run.name, service, word, words),
            say=view.say,
        )

    return stack


def fleet_of(
    project: Project,
    *,
    what: str,
    parallel: int = 0,
    accept_new: bool = False,
    on_done: Callable[[HostRun], None] = lambda run: None,
) -> Fleet:
    """The selected servers, with connections that are being opened while the rest is imported and made."""
    from voiceops.adapters.ssh.transports import transport_to

    hosts = servers(project, what=what)
    at_once = parallel or hosts[0].settings.deploy.parallel
    transports = [transport_to(host, accept_new=accept_new) for host in hosts]
    # Connecting is mostly waiting, and everything else that a deploy imports is imported meanwhile. So
    # Fabric comes first and alone, and a handshake's thread gets its turn after 0.2 ms instead of 5.
    importlib.import_module("voiceops.adapters.ssh.connect")
    sys.setswitchinterval(0.0002)
    openings = [_Opening(transport).wait for transport in transports[:at_once]]
    openings += [transport.open for transport in transports[at_once:]]
    from voiceops.deploy.fleet import Fleet, HostRun

    runs = [HostRun(*each) for each in zip(hosts, transports, openings, strict=True)]
    return Fleet(runs=runs, parallel=at_once, on_done=on_done)


class _Opening:
    """A connection on its way; its error waits for whoever needs it, so that nobody tries twice."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._error: VoiceopsError | None = None
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._transport.open()
        except VoiceopsError as error:
            self._error = error

    def wait(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def call_from_host(host: Host, transport: Transport, service: str, timeout_s: float = 15.0) -> CallResult:
    """The same call, placed by the host itself: its LiveKit listens on loopback only."""
    import msgspec

    from voiceops.errors import ServiceError
    from voiceops.model.calls import CallResult

    flags = [f"--timeout={timeout_s:g}"]
    document, _, code = calls_from_host(host, transport, service, flags, longest_s=timeout_s)
    try:
        return msgspec.convert(document["calls"][0], CallResult)
    except (KeyError, IndexError, msgspec.ValidationError):
        error = document.get("error", {})
        raise ServiceError(
            f"{host.name}: the call from the host failed (exit {code}): {error.get('message', 'no result')}",
            hint=error.get("hint"),
            data={"host": host.name},
        ) from None


def calls_from_host(
    host: Host,
    transport: Transport,
    service: str,
    flags: Sequence[str],
    *,
    longest_s: float,
    as_text: bool = False,
) -> tuple[dict[str, Any], str, int]:
    """`inv call` on the host: its document or its text, and its exit code. Ctrl-C ends it there too."""
    import secrets

    from voiceops.config.shipped import shipped
    from voiceops.deploy.desired import host_call, host_outline
    from voiceops.errors import ServiceError

    agents = [one.name for one in host_outline(host.settings) if one.is_agent and service in ("", one.name)]
    if not agents:
        raise UsageError(f"{host.name} runs no agent to call", hint="`inv status` shows what runs where")
    limit_s = longest_s + 60.0
    unit = f"{host.settings.project}-call-{secrets.token_hex(4)}"
    templates = [shipped("templates")]
    argv = host_call(host.settings, agents[0], unit=unit, limit_s=limit_s, templates=templates)
    try:
        shown = [] if as_text else ["--json"]
        ended = transport.run([*argv, *flags, *shown], root=True, timeout_s=limit_s + 15.0)
    except BaseException:
        with contextlib.suppress(VoiceopsError):
            transport.run(["systemctl", "stop", f"{unit}.service"], root=True, timeout_s=10.0)
        raise
    said = ended.stdout.decode(errors="replace")
    try:
        if as_text and said.strip():
            return {}, said.strip(), ended.exit_code
        document: dict[str, Any] = json.loads(said[said.index("{") :])
        return document, "", ended.exit_code
    except ValueError:
        raise ServiceError(
            f"{host.name}: the call from the host broke off (exit {ended.exit_code})",
            log_tail=tuple(ended.stderr.decode(errors="replace").splitlines()[-10:]),
            data={"host": host.name},
        ) from None
