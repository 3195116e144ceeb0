"""Where a project's things are on a host, and what its units are called."""

from __future__ import annotations

import re
from dataclasses import dataclass

from voiceops.errors import ConfigError
from voiceops.remote.onhost import ONHOST

_PART = re.compile(r"[a-z][a-z0-9_-]*")
_INSTANCE = re.compile(r"[A-Za-z0-9_.]+")
UNIT_MARK = "VOICEOPS_UNIT"
"""Variable ``PROJECT/SERVICE`` in each unit: of two projects ``a`` and ``a-b`` none touches the other's."""

READY_PROGRAM = ONHOST / "ready.py"
"""What units without sd_notify run as ``ExecStartPost``."""
RESTART_PROGRAM = ONHOST / "restart.py"
"""What restarts a unit as root when the monitor asks for it."""
POSTGRES_PROGRAM = ONHOST / "postgres.py"
"""What makes the data of a PostgreSQL and becomes its server, here too."""
TAKEOVER_PROGRAM = ONHOST / "takeover.py"
"""What leads callers of a livekit-server that restarts to another one."""


@dataclass(frozen=True, slots=True)
class HostNames:
    """All names of one project on its hosts; two projects share a host without knowing of each other."""

    project: str

    def __post_init__(self) -> None:
        if not _PART.fullmatch(self.project) or len(self.project) > 28:
            raise ConfigError(
                f"the project's name {self.project!r} can't name a system user",
                hint="lower-case letters, digits, '-' and '_', at most 28",
            )

    @property
    def user(self) -> str:
        """The system user, and its group of the same name.

        Prefixed: Debian has groups such as ``voice`` already.
        """
        return f"vo-{self.project}"

    @property
    def opt(self) -> str:
        return f"/opt/{self.project}"

    @property
    def etc(self) -> str:
        return f"/etc/{self.project}"

    @property
    def state(self) -> str:
        return f"/var/lib/{self.project}"

    @property
    def data(self) -> str:
        """The services' own folder. The one above is root's: root acts on what lies in it."""
        return f"{self.state}/data"

    def data_of(self, service: str) -> str:
        """The folder of a service that keeps data; systemd makes it, in a folder where only root can put links."""
        return f"{self.state}/{service}"

    @property
    def cache(self) -> str:
        """systemd makes it the services' own, whoever made it before."""
        return f"/var/cache/{self.project}"

    @property
    def schedule(self) -> str:
        """What timers and calls from the host keep. Not in ``data``: root follows no link that a service can make."""
        return f"{self.state}/schedule"

    @property
    def run(self) -> str:
        return f"/run/{self.project}"

    @property
    def ready_script(self) -> str:
        """``READY_PROGRAM`` on the host."""
        return f"{self.opt}/bin/voiceops-ready"

    @property
    def restart_script(self) -> str:
        """``RESTART_PROGRAM`` on the host."""
        return f"{self.opt}/bin/voiceops-restart"

    @property
    def postgres_script(self) -> str:
        """``POSTGRES_PROGRAM`` on the host."""
        return f"{self.opt}/bin/voiceops-postgres"

    @property
    def takeover_script(self) -> str:
        """``TAKEOVER_PROGRAM`` on the host."""
        return f"{self.opt}/bin/voiceops-takeover"

    @property
    def nft_table(self) -> str:
        """Of the host's packet filter, while new callers wait for a server that restarts."""
        return f"voiceops-{self.project}"

    def restart_socket(self, monitor: str) -> str:
        """Where a monitor asks for restarts. Not below ``run``: folders there come and go with services."""
        return f"/run/{self.project}-{monitor}-restart"

    @property
    def lock(self) -> str:
        """The host's lock, as ``remote.onhost.lock`` has it."""
        return f"{self.state}/lock"

    def release(self, instance: str) -> str:
        """Folder of an agent's code; ``venv`` in it leads to the interpreter."""
        return f"{self.opt}/releases/{instance}"

    def environment_file(self, service: str, instance: str = "") -> str:
        """0600, root's: systemd reads it before it gives up root."""
        return f"{self.etc}/{service}/{instance}.env" if instance else f"{self.etc}/{service}.env"

    def runtime_folder(self, service: str, instance: str = "") -> str:
        """Below /run, one for each instance: two that overlap must not remove each other's."""
        return f"{self.project}/{service}" + (f"-{instance}" if instance else "")

    def completed_mark(self, service: str) -> str:
        """The file that exists while a one-shot counts as completed."""
        return f"/run/{self.runtime_folder(service)}/completed"

    def health_socket(self, service: str, instance: str) -> str:
        return f"/run/{self.runtime_folder(service, instance)}/health"

    def call_steps(self, service: str) -> str:
        """Where the instances of an agent write who joined and left, for the monitor: the journal is not its to read."""
        return f"{self.data}/calls/{service}.jsonl"

    def unit(self, service: str, instance: str = "") -> str:
        """``PROJECT-SERVICE.service``, or an instance of the template ``PROJECT-SERVICE@.service``."""
        if not _PART.fullmatch(service):
            raise ConfigError(
                f"{service!r} can't name a unit", hint="lower-case letters, digits, '-' and '_'"
            )
        if instance and not _INSTANCE.fullmatch(instance):
            raise ConfigError(f"{instance!r} can't name an instance of a unit")
        return f"{self.project}-{service}" + (f"@{instance}" if instance else "") + ".service"

    def holds_port_of(self, unit: str, service: str) -> bool:
        """Whether this is the unit of a service, or of what leads the callers of a livekit-server elsewhere meanwhile."""
        own = self.unit(service)
        return unit == own or bool(
            re.fullmatch(re.escape(own.removesuffix(".service")) + r"-takeover-\d+\.service", unit)
        )

    def template_unit(self, service: str) -> str:
        return self.unit(service).replace(".service", "@.service")

    def split(self, unit: str) -> tuple[str, str]:
        """(service, instance) of one of this project's units."""
        stem = unit.removesuffix(".service").removeprefix(f"{self.project}-")
        service, _, instance = stem.partition("@")
        return service, instance
