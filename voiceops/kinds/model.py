"""What a kind of service is: its settings, and what becomes of them on this machine and on servers.

A kind is one module. It subclasses ``Kind`` (``program.ProgramKind`` does most of it for a program with
arguments), names its instance ``KIND``, and is listed in ``voiceops.kinds.MODULES``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from voiceops.model.roles import Role
from voiceops.model.settings import NeedCondition, Probe, ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress
    from voiceops.config import decode
    from voiceops.kinds.backup import BackupMethod
    from voiceops.kinds.host import HostContext
    from voiceops.model.settings import PortUse
    from voiceops.resources import Resource

S = TypeVar("S", bound=ServiceBase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One service as the inventory wants it on one host, resolved to a program that can run."""

    name: str
    kind: str
    role: Role = Role.OTHER
    argv: tuple[str, ...] = ()
    cwd: Path
    digest: str = ""
    """Changes whenever the service would run differently: arguments, environment, files, code."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it gets beyond the session's variables; secrets are in the clear here, so never printed."""
    withheld: tuple[str, ...] = ()
    """Names of ``.env`` that it does not get."""
    release: str = ""
    needs: tuple[str, ...] = ()
    conditions: Mapping[str, NeedCondition] = field(default_factory=dict)
    """Of those in ``needs`` for which it waits until something else than ``ready``."""
    oneshot: bool = False
    """It runs to its end, once: with exit 0 it is completed."""
    restarts_on_failure: bool = False
    """It counts how it ended: with exit 0 it is not started again."""
    ports: tuple[int, ...] = ()
    """TCP ports that only this service may own; a foreign owner is a stray. The first is its main one."""
    forks: bool = True
    """Whether a child of its main process may be the owner of its port."""
    probe: Probe | None = None
    probe_env: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False, compare=False)
    """Gives the variables of a probe that is a command, such as a password; called when it is run."""
    refusals: tuple[str, ...] = ()
    """Each of them in what its probe prints means that it refuses the password."""
    entry: Path | None = None
    livekit_url: str = ""
    agent_name: str = ""
    """The name by which calls ask for an agent; empty: it comes to every room."""
    keeps_rooms: bool = False
    """A livekit-server whose rooms outlive it, in a Redis."""
    ready_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    drain_timeout_s: float = 0.0
    stop_signal: str = "TERM"
    log_max_bytes: int = 10_000_000
    log_keep: int = 5
    prepare: Callable[[], tuple[str, ...]] | None = field(default=None, repr=False, compare=False)
    """Called right before a start: writes configuration files, finds the binary, returns the arguments."""

    after_ready: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Called once it is ready, and it counts as ready only then; ``ServiceError`` when that fails."""

    @property
    def is_agent(self) -> bool:
        return self.role is Role.AGENT

    def missing_variable(self, lines: Sequence[str]) -> str | None:
        """A hint when the last lines of the log name a variable of ``.env`` that the service does not get."""
        text = " ".join(lines)
        for name in self.withheld:
            if re.search(rf"\b{re.escape(name)}\b", text):
                return f"{name} stands in .env, but {self.name} does not get it: add env_from: [{name}] to the service"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopBehaviour:
    """What the programs of a kind do with their stop signal."""

    repeat_after_s: float = 0.0
    """The signal is sent again after that, if the program waits for something the first time; 0: never."""
    deaf_after_ready_s: float = 0.0
    """It loses a signal that comes so shortly after its first answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclarationContext:
    """What a declaration on this machine needs besides the settings of its service."""

    settings: Settings
    root: Path
    """The inventory's folder."""
    config_folder: Path
    """Where configuration files are written: ``.voiceops`` beside the inventory."""
    dotenv: Callable[[], Mapping[str, str]]
    """The project's variables: lists those of ``.env``, finds those of the environment by name too."""
    template: Callable[[str], Path]
    """Finds a template: the project's own wins over the packaged one."""
    inventory: Path = Path("inventory.yaml")
    program: tuple[str, ...] = ()
    """What runs this project's commands here; a command and its flags follow."""
    on_fetch: Callable[[str], OnProgress] = lambda service: lambda progress: None
    """Who is told how far the download of a service's program is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDeclaration:
    """One service as a server gets it."""

    declared: Declared
    resources: tuple[Resource, ...]
    """In the order in which they are applied."""
    inventory: Mapping[str, object] | None = None
    """What the inventory on the host says of it, for the timers and calls there; None: nothing."""


class Kind(ABC, Generic[S]):
    """One kind of service. Each method has a default where most kinds need nothing else."""

    settings: type[S]
    """Its struct; the role stands there, the tag is the kind's name."""
    stop: StopBehaviour = StopBehaviour()
    backup: BackupMethod[S] | None = None
    """How its data are backed up; None: it keeps none."""
    runs_python: bool = False
    """Whether it runs in the Python environment that a deploy builds on the host."""

    def check(self, service: S, decoder: decode.Decoder, path: decode.Path) -> None:
        """Raise ``ConfigError`` for what the types of its settings can't say."""

    def ports(self, name: str, service: S, settings: Settings) -> Iterable[PortUse]:
        """The ports that it listens on, each with the setting that says so."""
        return ()

    def fetch(self, service: S, on_fetch: OnProgress) -> None:
        """Get the programs that are missing here; may take minutes, so no lock is held."""

    def outline(self, bare: Declared, service: S, settings: Settings) -> Declared:
        """Complete ``bare`` as far as needed to look at the service or to stop it.

        Reads no file and fetches no secret. ``bare`` has what all kinds share; its ``cwd`` is the
        inventory's folder.
        """
        return bare

    def requirements(self, service: S, settings: Settings) -> tuple[str, ...]:
        """Return what it imports on a server beyond what every Python environment there has."""
        return ()

    def as_monitored(self, service: S) -> dict[str, object]:
        """Return what the monitor of a server reads of it, as an inventory would."""
        return {"kind": "command", "command": [service.kind]}

    @abstractmethod
    def declare(self, outline: Declared, service: S, context: DeclarationContext) -> Declared:
        """Complete the outline for a start on this machine: arguments, environment, digest."""

    @abstractmethod
    def declare_on_host(self, outline: Declared, service: S, host: HostContext) -> HostDeclaration:
        """Return what a server gets for it: unit, files, programs; and the service for reconcile."""
