"""A kind that is one program with arguments, with a configuration file where it has a template."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from voiceops.config.shipped import find_template
from voiceops.errors import ConfigError
from voiceops.kinds.configuration import render_configuration, write_configuration
from voiceops.kinds.environment import digest_of, service_environment, withheld_names
from voiceops.kinds.hooks import run_hooks
from voiceops.kinds.launch import as_user, limiting, user_environment
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration, Kind, S
from voiceops.model.settings import PortUse, Probe, ServiceBase, Settings
from voiceops.systemd import escape

if TYPE_CHECKING:
    from voiceops.kinds.host import HostContext
    from voiceops.systemd.units import UnitFile, UnitWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What runs, on this machine or on a server."""

    argv: Sequence[str]
    cwd: str | None = None
    """None: the inventory's folder here, the services' own on servers, where any other must be absolute; of a kind
    that ``keeps_data``: the folder of its data."""
    probe: Probe | None = None
    """None: ready when it has stayed alive for 0.5 s."""
    refusals: Sequence[str] = ()
    """Each of them in what a probe by a command prints means that the password is refused."""
    port: int | None = None
    """The TCP port that it owns."""
    stop_signal: str = "TERM"
    before: Sequence[Sequence[str]] = ()
    """Commands that run to their end before it, with its variables and in its folder."""
    after: Sequence[Sequence[str]] = ()
    """Commands that run to their end once it is ready, likewise."""
    user: str | None = None
    """Whose it is; None: here whoever starts it, on servers the project's own."""
    open_files_max: int | None = None
    cpus_max: float | None = None
    """On servers."""
    binds_low_ports: bool = False
    """On servers: it listens below port 1024."""
    peers: Sequence[str] | None = None
    """On servers: whom it exchanges packets with (IPAddressAllow); None: no limit."""


class ProgramKind(Kind[S]):
    """Says by ``program`` what runs; ``template`` and ``variables`` give it a configuration file."""

    template: str = ""
    """Below ``templates/``; empty: it has no configuration file."""
    keeps_data: bool = False
    """It has a folder for data that outlives releases, its own on servers too, and runs there."""

    @abstractmethod
    def program(self, service: S, settings: Settings, config: str) -> Program:
        """Return what runs; pure. ``config``: the path of the configuration file, empty without a template."""

    def host_program(self, service: S, host: HostContext, config: str) -> Program:
        """Return what runs on a server."""
        return self.program(service, host.settings, config)

    def variables(self, service: S, settings: Settings) -> Mapping[str, object]:
        """Return what the template gets; secrets are in the clear."""
        return {}

    def environment(self, service: S, settings: Settings) -> Mapping[str, str]:
        """Return variables that its program needs, in the clear, below those of the inventory."""
        return {}

    def file_environment(self, service: S, root: Path) -> Mapping[str, str]:
        """Return variables of a file below the inventory's folder, below those of the inventory."""
        return {}

    def ports(self, name: str, service: S, settings: Settings) -> Iterable[PortUse]:
        port = self.program(service, settings, "").port
        if port is not None:
            yield PortUse("TCP", port, ("services", name, "port"))

    def outline(self, bare: Declared, service: S, settings: Settings) -> Declared:
        program = self.program(service, settings, "")
        own = f".voiceops/data/{bare.name}" if self.keeps_data else "."
        return replace(
            bare,
            cwd=bare.cwd / (program.cwd or own),
            ports=(program.port,) if program.port else (),
            probe=program.probe,
            probe_env=lambda: self.environment(service, settings),
            refusals=tuple(program.refusals),
            stop_signal=program.stop_signal,
        )

    def declare(self, outline: Declared, service: S, context: DeclarationContext) -> Declared:
        config = context.config_folder / self._config_name(outline.name) if self.template else None
        program = self.program(service, context.settings, str(config or ""))
        if not outline.cwd.is_dir() and not (self.keeps_data and program.cwd is None):
            raise ConfigError(
                f"service {outline.name}: the folder {program.cwd} does not exist",
                path=f"services.{outline.name}.cwd",
            )
        env = {
            **user_environment(program.user, outline.name),
            **self.environment(service, context.settings),
            **self.file_environment(service, context.root),
            **service_environment(service, context.dotenv()),
        }
        user = as_user(program.user, outline.name)
        if user and program.probe and program.probe.notify:
            raise ConfigError(
                f"here {outline.name} can't tell by notify that it is ready, as {program.user}",
                path=f"services.{outline.name}.user",
            )
        before = [list(one) for one in program.before]
        after = [list(one) for one in program.after]
        argv = (*limiting(program.open_files_max, outline.name), *user, *program.argv)
        parts: list[object] = [argv, str(outline.cwd), env, program.stop_signal, program.port, *before]
        if after:
            parts.append(["after_ready", *after])
        run = partial(
            run_hooks,
            as_user=user,
            cwd=outline.cwd,
            env=env,
            log=context.config_folder / "logs" / f"{outline.name}.log",
            timeout_s=service.ready_timeout_s,
        )
        outline = replace(
            outline, after_ready=partial(run, after, outline.name, "after_ready") if after else None
        )
        if config is None and not self.keeps_data and not before:
            return replace(outline, argv=argv, digest=digest_of(*parts), env=env)
        text = (
            self._configuration(service, context.settings, context.template(self.template)) if config else ""
        )

        def prepare() -> tuple[str, ...]:
            if self.keeps_data:
                outline.cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
            if config is not None:
                write_configuration(config, text)
            run(before, outline.name, "before_start")
            return argv

        return replace(outline, argv=argv, digest=digest_of(*parts, text), env=env, prepare=prepare)

    def declare_on_host(self, outline: Declared, service: S, host: HostContext) -> HostDeclaration:
        name = outline.name
        config = f"{host.names.etc}/{self._config_name(name)}" if self.template else ""
        program = self.host_program(service, host, config)
        if program.cwd and not program.cwd.startswith("/"):
            raise ConfigError(
                f"service {name}: on a server the folder must be absolute, not {program.cwd!r}",
                path=f"services.{name}.cwd",
            )
        if program.after and program.probe and program.probe.log:
            raise ConfigError(
                f"service {name}: on a server after_ready can't wait for a line of the log",
                path=f"services.{name}.after_ready",
                hint="give it a probe that asks: http, tcp, command or notify",
            )
        own_folder = self.keeps_data or program.user is not None
        cwd = program.cwd or (host.names.data_of(name) if own_folder else host.names.data)
        unit = program_unit(
            host.units,
            name,
            service,
            program,
            cwd=cwd,
            completed=host.completed_first(service),
            keeps_data=self.keeps_data,
        )
        env = {
            **self.environment(service, host.settings),
            **self.file_environment(service, host.root),
            **service_environment(service, host.dotenv),
        }
        text = ""
        if self.template:
            template = find_template(self.template, host.templates)
            text = self._configuration(service, host.settings, template)
        digest = digest_of(unit.text, env, *([text] if self.template else []))
        return HostDeclaration(
            declared=replace(
                outline, digest=digest, cwd=Path(cwd), withheld=withheld_names(env, host.dotenv)
            ),
            resources=(
                *([host.configuration(config, text, group=host.names.user)] if self.template else []),
                host.environment(name, "", env, digest),
                host.unit_file(unit),
                host.enabled(unit),
            ),
        )

    def _config_name(self, name: str) -> str:
        return f"{name}{PurePath(self.template).suffix}"

    def _configuration(self, service: S, settings: Settings, template: Path) -> str:
        return render_configuration(template, self.variables(service, settings))


def program_unit(
    units: UnitWriter,
    name: str,
    service: ServiceBase,
    program: Program,
    *,
    cwd: str,
    completed: Sequence[str] = (),
    keeps_data: bool = False,
) -> UnitFile:
    """Return the unit of a program; ``keeps_data``: with a folder of its own that outlives releases.

    ``completed``: the one-shots that must have completed before it starts.

    A probe of the log is left to whoever starts it: the unit can't read the journal.
    """
    probe = program.probe or Probe()
    values = {
        "exec_start": escape.command(program.argv, f"the command of {name}"),
        "exec_before": [
            *units.completed_lines(completed),
            *(escape.command(one, f"before_start of {name}") for one in program.before),
        ],
        "exec_ready": [
            *units.ready_lines(probe_arguments(probe), service.ready_timeout_s, program.port),
            *(escape.command(one, f"after_ready of {name}") for one in program.after),
        ],
        **_of_user(units, name, program),
        **({"open_files_max": program.open_files_max} if program.open_files_max else {}),
        "cpus_max": program.cpus_max,
        "after": units.after(list(service.needs), service.need_conditions),
        "oneshot": service.oneshot,
        "completed_mark": escape.command(["/usr/bin/touch", units.names.completed_mark(name)]),
        "notify": probe.notify,
        "stop_signal": escape.value(f"SIG{program.stop_signal.removeprefix('SIG')}"),
        "runtime_folder": units.names.runtime_folder(name),
        "working_directory": escape.value(cwd, f"the folder of {name}"),
        "peers": program.peers,
        "capabilities": "CAP_NET_BIND_SERVICE" if program.binds_low_ports else "",
        "data_folder": name if keeps_data else "",
    }
    return units.service("command.service", name, service, values)


def _of_user(units: UnitWriter, name: str, program: Program) -> dict[str, object]:
    """Another user must not get the folder that the project's services share: systemd would give it away."""
    if program.user is None:
        return {"group": units.names.user, "state_folder": f"{units.names.project}/data"}
    return {
        "user": program.user,
        "group": "",
        "state": units.names.data_of(name),
        "state_folder": f"{units.names.project}/{name}",
    }


def probe_arguments(probe: Probe) -> list[str]:
    """Return what ``READY_PROGRAM`` gets for a probe; nothing for one that does not ask the program."""
    if probe.http:
        return ["--http", probe.http]
    if probe.tcp:
        return ["--tcp", probe.tcp]
    return ["--", *probe.command] if probe.command else []
