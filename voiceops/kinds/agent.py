"""livekit-agents workers, run by agentkit: they answer the callers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeGuard

import msgspec

from voiceops.config import decode
from voiceops.errors import ConfigError
from voiceops.kinds.environment import digest_of, importable, service_environment, withheld_names
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration, Kind
from voiceops.kinds.release_files import release_digest, release_files
from voiceops.model import protocol
from voiceops.model.endpoint import on_loopback
from voiceops.model.environment import PROVIDER_KEYS
from voiceops.model.roles import Role
from voiceops.model.settings import AtLeastOne, Port, PortUse, ServiceBase, Settings
from voiceops.systemd import escape
from voiceops.util.suggest import did_you_mean

if TYPE_CHECKING:
    from voiceops.kinds.host import HostContext
    from voiceops.systemd.units import UnitFile, UnitWriter

_CLOSE_S = 90.0
"""What agentkit may take after the drain ran out (60 s for its jobs, 10 s to close), and a margin."""
_WATCHDOG_S = 30.0
_VARIABLES = (
    *PROVIDER_KEYS.values(),
    "LIVEKIT_INFERENCE_API_SECRET",
    "VOICEOPS_STT",
    "VOICEOPS_LLM",
    "VOICEOPS_TTS",
    "LIVEKIT_LOG_LEVEL",
    protocol.MAX_JOBS_ENV,
    protocol.LOAD_LIMIT_ENV,
    protocol.HEALTH_PORT_ENV,
)
"""What agentkit reads: every agent gets those of them that are set."""


class AgentService(ServiceBase, tag_field="kind", tag="agent", frozen=True, kw_only=True):
    """A livekit-agents worker, run under ``python -m voiceops.agentkit``."""

    role: ClassVar[Role] = Role.AGENT

    entry: str
    agent_name: str = ""
    """Empty: the worker gets the implicit dispatch of every room."""
    python: str | None = None
    """Interpreter; default: the one that runs voiceops."""
    drain_timeout_s: float = 3600.0
    max_concurrent_jobs: AtLeastOne | None = None
    load_limit: int | float | bool | str | None = None
    """Share of CPU from which it takes no more calls, or off (which YAML reads as False). None:
    0.7 where workers of other machines may take the call instead, else off."""
    health_port: Port | None = None
    """TCP port of /health and /metrics on loopback; none by default."""
    files: list[str] = msgspec.field(default_factory=lambda: ["**/*"])
    """What belongs to a release, as patterns below the folder of ``entry``."""


class AgentKind(Kind[AgentService]):
    """Drains before it ends. On a server each release is an instance of its template unit."""

    settings = AgentService
    runs_python = True

    def check(self, service: AgentService, decoder: decode.Decoder, path: decode.Path) -> None:
        _check_entry(service, decoder, path)
        _check_load_limit(service.load_limit, decoder, (*path, "load_limit"))

    def ports(self, name: str, service: AgentService, settings: Settings) -> Iterable[PortUse]:
        if service.health_port is not None:
            yield PortUse("TCP", service.health_port, ("services", name, "health_port"))

    def outline(self, bare: Declared, service: AgentService, settings: Settings) -> Declared:
        # It needs the server of its host, said or not: it must be stopped first.
        servers = [name for name, one in settings.running.items() if one.role is Role.SERVER]
        return replace(
            bare,
            needs=tuple(dict.fromkeys([*service.needs, *servers])),
            entry=bare.cwd / service.entry,
            drain_timeout_s=service.drain_timeout_s,
            agent_name=service.agent_name,
        )

    def as_monitored(self, service: AgentService) -> dict[str, object]:
        known = {"kind": service.kind, "entry": "tasks.py", "agent_name": service.agent_name}
        limit = service.max_concurrent_jobs
        return known | ({"max_concurrent_jobs": limit} if limit is not None else {})

    def declare(self, outline: Declared, service: AgentService, context: DeclarationContext) -> Declared:
        entry = _entry(outline.name, service, context.root)
        argv = (service.python or sys.executable, "-m", "voiceops.agentkit", "start", str(entry))
        env = agent_environment(service, context.settings, context.dotenv())
        release = release_digest(entry.parent, service.files)
        return replace(
            outline,
            argv=argv,
            digest=digest_of(argv, env, release),
            env=env if service.python else importable(env),
            release=release,
        )

    def declare_on_host(self, outline: Declared, service: AgentService, host: HostContext) -> HostDeclaration:
        # Deferred: it costs 0.1 s, which a start on this machine must not pay.
        from voiceops.resources import Content, Directory, Symlink, Tree

        name, names, venv = outline.name, host.names, host.venv
        assert venv is not None
        entry = _entry(name, service, host.root)
        paths = release_files(entry.parent, service.files)
        files = {path.as_posix(): Content.of_file(entry.parent / path) for path in paths}
        executable = frozenset(
            path.as_posix() for path in paths if (entry.parent / path).stat().st_mode & 0o100
        )
        unit = agent_unit(
            host.units,
            name,
            service,
            entry=entry.name,
            needs=outline.needs,
            completed=host.completed_first(service),
        )
        env = agent_environment(service, host.settings, host.dotenv)
        code = [(path, content.sha256, path in executable) for path, content in sorted(files.items())]
        release = digest_of(name, code, venv.path, venv.digest, unit.text, env)
        folder = names.release(release)
        real = f"../../venvs/{Path(venv.path).name}-{venv.digest}"
        return HostDeclaration(
            declared=replace(
                outline, digest=release, release=release, withheld=withheld_names(env, host.dotenv)
            ),
            resources=(
                host.unit_file(unit),
                Directory(path=f"{names.etc}/{name}", owner="root", mode=0o700),
                # First: by its mark the release is known as ours, also when the deploy is cut before it is recorded.
                host.environment(name, release, env, release),
                Tree(
                    path=folder,
                    files=files,
                    executable=executable,
                    owner="root",
                    group=names.user,
                    mode=0o750,
                ),
                Symlink(path=f"{folder}/venv", target=real),
            ),
            inventory={"kind": service.kind, "entry": "tasks.py", "agent_name": service.agent_name},
        )


KIND = AgentKind()


def agent_unit(
    units: UnitWriter,
    name: str,
    service: AgentService,
    *,
    entry: str,
    needs: Sequence[str] = (),
    completed: Sequence[str] = (),
) -> UnitFile:
    """Return the template unit of an agent; ``entry`` is relative to the folder of a release.

    What an instance needs lies in its release and in its environment file, so that an old
    instance that drains, or is restarted meanwhile, never runs on the new one's files.
    """
    names = units.names
    release = names.release("%i")
    python = escape.program(service.python) if service.python else f"{release}/venv/bin/python"
    drain_s = service.drain_timeout_s
    values = {
        "exec_start": f"{python} -m voiceops.agentkit start {escape.word(entry, 'the entry')}",
        "after": units.after(needs, service.need_conditions),
        "exec_before": units.completed_lines(completed),
        "stop_timeout_s": "infinity" if drain_s == 0 else escape.time_span(drain_s + _CLOSE_S),
        "watchdog_s": escape.time_span(_WATCHDOG_S),
        "environment_file": names.environment_file(name, "%i"),
        "health_socket": names.health_socket(name, "%i"),
        "call_steps": names.call_steps(name),
        "runtime_folder": names.runtime_folder(name, "%i"),
        "working_directory": release,
    }
    return units.service("agent@.service", name, service, values, instances=True)


def agent_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those of the project's variables that agentkit reads."""
    return {name: variables[name] for name in _VARIABLES if variables.get(name)}


def agent_environment(service: AgentService, settings: Settings, dotenv: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an agent, here and on servers; secrets are in the clear."""
    given = service_environment(service, dotenv)
    env = {
        **agent_variables(dotenv),
        **{name: given[name] for name in given if name not in service.env},
        "LIVEKIT_URL": settings.livekit.url,
        "LIVEKIT_API_KEY": settings.livekit.api_key.reveal(),
        "LIVEKIT_API_SECRET": settings.livekit.api_secret.reveal(),
        "VOICEOPS_DRAIN_TIMEOUT_S": f"{service.drain_timeout_s:g}",
        "PYTHONUNBUFFERED": "1",
    }
    if service.agent_name:
        # The first is only a default for agents that name themselves nothing; the inventory is the truth.
        env["LIVEKIT_AGENT_NAME"] = env["LIVEKIT_AGENT_NAME_OVERRIDE"] = service.agent_name
    if service.max_concurrent_jobs is not None:
        env[protocol.MAX_JOBS_ENV] = str(service.max_concurrent_jobs)
    if service.load_limit is not None:
        env[protocol.LOAD_LIMIT_ENV] = f"{service.load_limit:g}" if _is_number(service.load_limit) else "off"
    else:
        env.setdefault(protocol.LOAD_LIMIT_ENV, _usual_load_limit(settings))
    if service.health_port is not None:
        env[protocol.HEALTH_PORT_ENV] = str(service.health_port)
    return env | {name: given[name] for name in service.env}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _usual_load_limit(settings: Settings) -> str:
    """``off`` where every worker is on this very machine: no other can take the call that one refuses."""
    shared = any(one.cluster for one in settings.services.values())
    return "off" if on_loopback(settings.livekit.url) and not shared else f"{protocol.TARGET_LOAD:g}"


def _entry(name: str, service: AgentService, root: Path) -> Path:
    entry = root / service.entry
    if not entry.is_file():
        raise ConfigError(
            f"service {name}: the entry {service.entry} is no file", path=f"services.{name}.entry"
        )
    return entry


def _check_load_limit(limit: float | str | None, decoder: decode.Decoder, path: decode.Path) -> None:
    if limit is None or limit is False or limit == "off":  # YAML reads a bare off as False
        return
    if limit is True or isinstance(limit, str) or not 0 < limit <= 1:
        shown = "on" if limit is True else repr(limit)
        raise decoder.error(path, f"{shown} is no share of CPU", "write 0.7 for 70 %, up to 1, or off")


def _check_entry(service: AgentService, decoder: decode.Decoder, path: decode.Path) -> None:
    folder = decoder.environment.folder
    entry = folder / service.entry
    if entry.is_file():
        return
    here = (*path, "entry")
    if entry.is_dir():
        raise decoder.error(
            here, f"{service.entry} is a folder", f"name the file, such as {service.entry}/agent.py"
        )
    nearest = entry.parent
    while not nearest.is_dir():
        nearest = nearest.parent
    known = [
        str(file.relative_to(nearest)) for file in [*nearest.glob("*.py"), *nearest.glob("*/*.py")][:200]
    ]
    wanted = str(entry.relative_to(nearest))
    prefix = "" if nearest == folder else f"{service.entry[: -len(wanted)]}"
    raise decoder.error(
        here, f"there is no file {service.entry}", did_you_mean(wanted, known).replace("'", f"'{prefix}", 1)
    )
