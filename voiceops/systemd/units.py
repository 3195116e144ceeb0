"""Unit files from templates: pure text, with every value escaped by the rules of its place.

Templates get values that are ready to be written; what a project's own template adds can be
escaped by the filters ``word`` (an argument of an Exec line) and ``value`` (any other setting).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import msgspec

from voiceops.config.source import templating
from voiceops.errors import ConfigError
from voiceops.model.settings import AgentService, CommandService, LivekitService, Probe
from voiceops.systemd import escape
from voiceops.systemd.names import UNIT_MARK, Names

_READY_MARGIN_S = 5.0
_CLOSE_S = 90.0
"""What agentkit may take after the drain ran out (60 s for its jobs, 10 s to close), and a margin."""
_SWALLOWED_S = 0.1
"""livekit-server loses a SIGTERM that comes within 50 ms of its first answer."""
_WATCHDOG_S = 30.0


class UnitFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file for /etc/systemd/system."""

    name: str
    text: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A command that a timer runs."""

    name: str
    argv: Sequence[str]
    calendar: str
    """systemd's OnCalendar."""
    timeout_s: float = 300.0
    spread_s: float = 0.0
    """Hosts of one project don't all start at the same second."""
    peers: Union[Sequence[str], None] = None
    """As of a ``CommandService``."""


class UnitWriter:
    """Renders the units of one project. ``folders`` hold ``systemd/NAME``; the first that has it wins."""

    def __init__(self, names: Names, folders: Sequence[Path]) -> None:
        self._names = names
        self._jinja = templating.environment(folders)
        self._jinja.filters["word"] = escape.word
        self._jinja.filters["value"] = escape.value

    def livekit(
        self, name: str, service: LivekitService, *, binary: str, port: int, config_file: str
    ) -> UnitFile:
        """A livekit-server with its configuration as a credential."""
        ready = ["--http", f"http://127.0.0.1:{port}/", "--settle-s", str(_SWALLOWED_S)]
        return self._render(
            "livekit.service",
            self._names.unit(name),
            self._common(name, service, _seconds(service.stop_timeout_s))
            | {
                "exec_start": escape.program(binary, "the livekit-server"),
                "exec_ready": self._ready_lines(ready, service.ready_timeout_s, port),
                "config_file": escape.value(config_file, "the path of livekit.yaml"),
            },
        )

    def agent(self, name: str, service: AgentService, *, entry: str, needs: Sequence[str] = ()) -> UnitFile:
        """The template unit of an agent; ``entry`` is relative to the folder of a release.

        What an instance needs lies in its release and in its environment file, so that an old
        instance that drains, or is restarted meanwhile, never runs on the new one's files.
        """
        release = self._names.release("%i")
        python = escape.program(service.python) if service.python else f"{release}/venv/bin/python"
        drain_s = service.drain_timeout_s
        return self._render(
            "agent@.service",
            self._names.template_unit(name),
            self._common(name, service, "infinity" if drain_s == 0 else _seconds(drain_s + _CLOSE_S))
            | {
                "exec_start": f"{python} -m voiceops.agentkit start {escape.word(entry, 'the entry')}",
                "after": self._after(needs),
                "watchdog_s": _seconds(_WATCHDOG_S),
                "environment_file": self._names.environment_file(name, "%i"),
                "health_socket": self._names.health_socket(name, "%i"),
                "runtime_folder": self._names.runtime_folder(name, "%i"),
                "working_directory": release,
            },
        )

    def command(self, name: str, service: CommandService, *, cwd: str, needs: Sequence[str] = ()) -> UnitFile:
        """Anything else. A probe of the log is left to whoever starts it: the unit can't read the journal."""
        probe = service.probe or Probe()
        return self._render(
            "command.service",
            self._names.unit(name),
            self._common(name, service, _seconds(service.stop_timeout_s))
            | {
                "exec_start": escape.command(service.command, f"the command of {name}"),
                "exec_ready": self._ready_lines(
                    _probe_arguments(probe), service.ready_timeout_s, service.port
                ),
                "after": self._after(needs),
                "notify": probe.notify,
                "stop_signal": escape.value(f"SIG{service.stop_signal.removeprefix('SIG')}"),
                "runtime_folder": self._names.runtime_folder(name),
                "working_directory": escape.value(cwd, f"the folder of {name}"),
                "peers": service.peers,
            },
        )

    def job(self, job: Job) -> tuple[UnitFile, UnitFile]:
        """A service that runs once, and its timer."""
        values = self._base(job.name) | {
            "exec_start": escape.command(job.argv, f"the command of {job.name}"),
            "start_timeout_s": _seconds(job.timeout_s),
            "working_directory": escape.value(self._names.data),
            "calendar": escape.value(job.calendar, f"the calendar of {job.name}"),
            "spread_s": _seconds(job.spread_s),
            "peers": job.peers,
        }
        unit = self._names.unit(job.name)
        return (
            self._render("job.service", unit, values),
            self._render("job.timer", unit.replace(".service", ".timer"), values),
        )

    def sandbox(self) -> list[str]:
        """Return limits and hardening of the units as properties of a transient one (systemd-run)."""
        values = self._base("transient")
        texts = [self._text(f"systemd/{name}.j2", values) for name in ("limits", "hardening")]
        lines = [line.strip() for text in texts for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    def _base(self, name: str) -> dict[str, Any]:
        return {
            "project": self._names.project,
            "service": name,
            "description": escape.value(f"{name} of {self._names.project}"),
            "user": self._names.user,
            "state": self._names.data,
            "mark": f"{UNIT_MARK}={self._names.project}/{name}",
            "environment_file": self._names.environment_file(name),
            "open_files_max": 65536,
            "tasks_max": 4096,
            "memory_max_bytes": None,
        }

    def _common(
        self, name: str, service: Union[LivekitService, AgentService, CommandService], stop_timeout: str
    ) -> dict[str, Any]:
        return self._base(name) | {
            "start_timeout_s": _seconds(service.ready_timeout_s + _READY_MARGIN_S),
            "stop_timeout_s": stop_timeout,
            "memory_max_bytes": service.memory_max_bytes,
        }

    def _ready_lines(self, probe: Sequence[str], timeout_s: float, port: int | None) -> list[str]:
        """Never with "+", which means root: the service's environment and HOME reach what runs here."""
        owned = ["--port", str(port)] if port else []
        if not owned and not probe:
            return []
        return [escape.command([self._names.ready_script, "--timeout-s", f"{timeout_s:g}", *owned, *probe])]

    def _after(self, needs: Sequence[str]) -> list[str]:
        return [self._names.unit(need) for need in needs]

    def _render(self, template: str, name: str, values: Mapping[str, Any]) -> UnitFile:
        return UnitFile(name=name, text=self._text(f"systemd/{template}", values))

    def _text(self, template: str, values: Mapping[str, Any]) -> str:
        import jinja2

        try:
            return self._jinja.get_template(template).render(**values)
        except jinja2.TemplateNotFound as error:
            raise ConfigError(f"the template {error.name} is missing") from error
        except jinja2.TemplateError as error:
            raise ConfigError(
                f"the template can't be rendered: {error}",
                file=f"templates/{template}",
                line=getattr(error, "lineno", None),
            ) from error


def _probe_arguments(probe: Probe) -> list[str]:
    if probe.http:
        return ["--http", probe.http]
    if probe.tcp:
        return ["--tcp", probe.tcp]
    return ["--", *probe.command] if probe.command else []


def _seconds(duration_s: float) -> str:
    """A time span for systemd, never rounded down."""
    return f"{math.ceil(duration_s * 1000)}ms" if duration_s % 1 else f"{duration_s:.0f}"
