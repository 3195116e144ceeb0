"""From settings to programs: what each service of this machine runs, and when that has changed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from voiceops.errors import ConfigError, StorageError
from voiceops.model import protocol
from voiceops.model.environment import agent_variables, selected_variables
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import AgentService, CommandService, LivekitService, ServiceBase, Settings
from voiceops.stack import livekit_config
from voiceops.stack.local.folder import Folder
from voiceops.stack.local.lock import read_only
from voiceops.stack.model import Declared
from voiceops.stack.release_files import release_digest
from voiceops.util.atomic_write import write_atomically


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a declaration needs besides the settings."""

    folder: Folder
    dotenv: Callable[[], Mapping[str, str]]
    """The project's variables: lists those of ``.env``, finds those of the environment by name too."""
    template: Callable[[str], Path]
    """Finds a template: the project's own wins over the packaged one."""
    livekit_binary: Callable[[str, str | None], Path]
    """(version, configured path) -> the program; may download it, so it is called only before a start."""


def outline(settings: Settings, around: Surroundings) -> tuple[Declared, ...]:
    """The services that this host runs, as far as needed to look at them or to stop them.

    Without environment and digest: no secret is fetched and no file is read for it.
    """
    return tuple(_outline(name, settings, around) for name in settings.running)


def declare(settings: Settings, around: Surroundings) -> tuple[Declared, ...]:
    """The services that this host runs, complete: ready to be started and compared."""
    declared = []
    for name in settings.running:
        with located_at(f"services.{name}"):
            one = _declare(name, settings, around)
            declared.append(replace(one, withheld=withheld_names(one.env, around.dotenv())))
    return tuple(declared)


@contextmanager
def located_at(path: str) -> Iterator[None]:
    """Add ``path`` to a ConfigError that has no location."""
    try:
        yield
    except ConfigError as error:
        if error.file is not None or error.path is not None:
            raise
        raise ConfigError(error.bare, path=path, hint=error.hint) from error


def _declare(name: str, settings: Settings, around: Surroundings) -> Declared:
    service = settings.services[name]
    bare = _outline(name, settings, around)
    if isinstance(service, LivekitService):
        return _livekit(bare, service, settings, around)
    if isinstance(service, AgentService):
        return _agent(bare, service, settings, around)
    return _command(bare, service, around)


def _outline(name: str, settings: Settings, around: Surroundings) -> Declared:
    service = settings.services[name]
    root = around.folder.root
    own: dict[str, Any]
    if isinstance(service, LivekitService):
        port = settings.livekit.port
        own = {
            "kind": "livekit",
            "ports": (port, service.rtc_tcp_port) if service.public else (port,),
            "keeps_rooms": bool(service.redis or service.config.get("redis")),
        }
    elif isinstance(service, AgentService):
        own = {
            "kind": "agent",
            "needs": _with_servers(service, settings),
            "entry": root / service.entry,
            "drain_timeout_s": service.drain_timeout_s,
        }
    else:
        own = {
            "kind": "command",
            "cwd": root / (service.cwd or "."),
            "ports": (service.port,) if service.port else (),
            "probe": service.probe,
            "stop_signal": service.stop_signal,
        }
    common: dict[str, Any] = {
        "cwd": root,
        "needs": tuple(service.needs),
        "livekit_url": settings.livekit.url,
        "ready_timeout_s": service.ready_timeout_s,
        "stop_timeout_s": service.stop_timeout_s,
        "log_max_bytes": service.log_max_bytes,
        "log_keep": service.log_keep,
    }
    return Declared(name=name, **(common | own))


def _with_servers(service: AgentService, settings: Settings) -> tuple[str, ...]:
    """An agent needs the server of its host, said or not: it must be stopped first."""
    servers = [name for name in settings.running if settings.services[name].role is Role.SERVER]
    return tuple(dict.fromkeys([*service.needs, *servers]))


def service_environment(service: ServiceBase, dotenv: Mapping[str, str]) -> dict[str, str]:
    """What ``env_from`` and ``env`` of a service give it, in the clear; ``env`` wins."""
    try:
        selected = selected_variables(service.env_from, dotenv)
    except KeyError as error:
        missing = error.args[0]
        raise ConfigError(
            f"env_from names {missing}, which is set neither in the environment nor in .env",
            hint=f"add a line {missing}=... to .env, or take it out of env_from",
        ) from None
    return selected | _plain(service.env)


def withheld_names(env: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[str, ...]:
    """The names of ``.env`` that are not in a service's environment."""
    return tuple(name for name in dotenv if name not in env)


def _plain(values: Mapping[str, str | Secret]) -> dict[str, str]:
    return {
        name: value.reveal() if isinstance(value, Secret) else str(value) for name, value in values.items()
    }


def digest_of(*parts: object) -> str:
    """Short, and another one for other values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _livekit(bare: Declared, service: LivekitService, settings: Settings, around: Surroundings) -> Declared:
    values = livekit_config.variables(service, settings.livekit)
    template = around.template(livekit_config.TEMPLATE)
    env = service_environment(service, around.dotenv())
    config = around.folder.livekit_config(bare.name)

    def prepare() -> tuple[str, ...]:
        binary = around.livekit_binary(service.version, service.binary)
        try:
            write_atomically(config, livekit_config.render(template, values, service.config).encode())
        except OSError as error:
            raise read_only(config.parent, error) from error
        return (str(binary), "--config", str(config))

    return replace(
        bare,
        argv=("livekit-server", "--config", str(config)),
        digest=digest_of(
            service.version,
            service.binary,
            template.read_text(),
            values,
            livekit_config.revealed(service.config),
            env,
        ),
        env=env,
        prepare=prepare,
    )


def _agent(bare: Declared, service: AgentService, settings: Settings, around: Surroundings) -> Declared:
    entry = around.folder.root / service.entry
    if not entry.is_file():
        raise ConfigError(
            f"service {bare.name}: the entry {service.entry} is no file", path=f"services.{bare.name}.entry"
        )
    argv = (service.python or sys.executable, "-m", "voiceops.agentkit", "start", str(entry))
    env = agent_environment(service, settings, around.dotenv())
    release = release_digest(entry.parent, service.files)
    return replace(
        bare,
        argv=argv,
        digest=digest_of(argv, env, release),
        env=_importable(env, service.python),
        release=release,
    )


def agent_environment(service: AgentService, settings: Settings, dotenv: Mapping[str, str]) -> dict[str, str]:
    """The variables of an agent, here and on servers; secrets are in the clear."""
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
    address = urlsplit(settings.livekit.url).hostname or ""
    alone = address in ("localhost", "::1") or address.startswith("127.")
    shared = any(one.cluster for one in settings.services.values())
    return "off" if alone and not shared else f"{protocol.TARGET_LOAD:g}"


def _importable(env: dict[str, str], python: str | None) -> dict[str, str]:
    """Agents import ``voiceops.agentkit``, also where voiceops runs from a checkout."""
    package = Path(__file__).resolve().parents[2]
    if python is not None or package.is_relative_to(sys.prefix):
        return env
    paths = env.get("PYTHONPATH") or os.environ.get("PYTHONPATH", "")
    return {**env, "PYTHONPATH": os.pathsep.join([*filter(None, paths.split(os.pathsep)), str(package)])}


def _command(bare: Declared, service: CommandService, around: Surroundings) -> Declared:
    if not bare.cwd.is_dir():
        raise ConfigError(
            f"service {bare.name}: the folder {service.cwd} does not exist", path=f"services.{bare.name}.cwd"
        )
    env = service_environment(service, around.dotenv())
    return replace(
        bare,
        argv=tuple(service.command),
        digest=digest_of(service.command, str(bare.cwd), env, service.stop_signal, service.port),
        env=env,
    )


def find_template(name: str, folders: Sequence[Path]) -> Path:
    """The first of the folders that has the template."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise StorageError(
        f"the template {name} is missing", hint="install voiceops again: it is part of the package"
    )
