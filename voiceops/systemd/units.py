"""Unit files from templates: pure text, with every value escaped by the rules of its place.

Templates get values that are ready to be written; what a project's own template adds can be
escaped by the filters ``word`` (an argument of an Exec line) and ``value`` (any other setting).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

import msgspec

from voiceops.config.source import templating
from voiceops.errors import ConfigError
from voiceops.model.settings import ServiceBase
from voiceops.systemd import escape
from voiceops.systemd.escape import time_span
from voiceops.systemd.names import UNIT_MARK, HostNames

_READY_MARGIN_S = 5.0


class UnitFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file for /etc/systemd/system."""

    name: str
    text: str


class TimerJob(msgspec.Struct, frozen=True, kw_only=True):
    """A command that a timer runs."""

    name: str
    argv: Sequence[str]
    calendar: str
    """systemd's OnCalendar."""
    timeout_s: float = 300.0
    spread_s: float = 0.0
    """Hosts of one project don't all start at the same second."""
    peers: Union[Sequence[str], None] = None
    """Addresses and networks that it exchanges packets with; None: no limit."""


class UnitWriter:
    """Renders the units of one project. ``folders`` hold ``systemd/NAME``; the first that has it wins."""

    def __init__(self, names: HostNames, folders: Sequence[Path]) -> None:
        self.names = names
        self._jinja = templating.environment(folders)
        self._jinja.filters["word"] = escape.word
        self._jinja.filters["value"] = escape.value

    def service(
        self,
        template: str,
        name: str,
        service: ServiceBase,
        values: Mapping[str, object],
        *,
        instances: bool = False,
    ) -> UnitFile:
        """Render the unit of a service from ``systemd/TEMPLATE``; ``values`` are those of its kind.

        ``instances``: a unit of which each release is one instance.
        """
        common = self._base(name) | {
            "start_timeout_s": time_span(service.ready_timeout_s + _READY_MARGIN_S),
            "stop_timeout_s": time_span(service.stop_timeout_s),
            "memory_max_bytes": service.memory_max_bytes,
            "restart": "no" if service.restart_policy == "never" else service.restart_policy,
        }
        unit = self.names.template_unit(name) if instances else self.names.unit(name)
        return self._render(template, unit, common | dict(values))

    def helper(self, template: str, name: str, unit: str, values: Mapping[str, object]) -> UnitFile:
        """Render a unit that belongs to a service, but is none itself; ``name`` stands in its mark."""
        return self._render(template, unit, self._base(name) | dict(values))

    def ready_lines(self, probe: Sequence[str], timeout_s: float, port: int | None) -> list[str]:
        """Return what waits for readiness after the start: by the arguments of a probe, and by the port that is owned.

        Never with "+", which means root: the service's environment and HOME reach what runs here.
        """
        owned = ["--port", str(port)] if port else []
        if not owned and not probe:
            return []
        return [escape.command([self.names.ready_script, "--timeout-s", f"{timeout_s:g}", *owned, *probe])]

    def after(self, needs: Sequence[str], conditions: Mapping[str, str]) -> list[str]:
        """Return the units that it is ordered after: their start ends when they are ready, or completed."""
        return [self.names.unit(need) for need in needs if conditions.get(need) != "started"]

    def completed_lines(self, oneshots: Sequence[str]) -> list[str]:
        """Return what fails while one of these has not completed: systemd's order lets a failed one pass."""
        return [escape.command(["/usr/bin/test", "-e", self.names.completed_mark(name)]) for name in oneshots]

    def job(self, job: TimerJob) -> tuple[UnitFile, UnitFile]:
        """A service that runs once, and its timer."""
        values = self._base(job.name) | {
            "exec_start": escape.command(job.argv, f"the command of {job.name}"),
            "start_timeout_s": time_span(job.timeout_s),
            "working_directory": escape.value(self.names.data),
            "calendar": escape.value(job.calendar, f"the calendar of {job.name}"),
            "spread_s": time_span(job.spread_s),
            "peers": job.peers,
        }
        unit = self.names.unit(job.name)
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

    def _base(self, name: str) -> dict[str, object]:
        return {
            "project": self.names.project,
            "service": name,
            "description": escape.value(f"{name} of {self.names.project}"),
            "user": self.names.user,
            "state": self.names.data,
            "mark": f"{UNIT_MARK}={self.names.project}/{name}",
            "environment_file": self.names.environment_file(name),
            "open_files_max": 65536,
            "tasks_max": 4096,
            "memory_max_bytes": None,
            "cpus_max": None,
        }

    def _render(self, template: str, name: str, values: Mapping[str, object]) -> UnitFile:
        return UnitFile(name=name, text=self._text(f"systemd/{template}", values))

    def _text(self, template: str, values: Mapping[str, object]) -> str:
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
