"""What an inventory declares for one host, typed.

``voiceops.config`` fills these from the inventory; everybody else only reads them.
The unit is part of the name; each default stands here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Union
from urllib.parse import urlsplit

import msgspec

from voiceops.model.roles import Role
from voiceops.model.secret import Secret

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535, title="a port")]


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Probe(_Settings, frozen=True, kw_only=True):
    """How a service proves that it can do its job; exactly one of the first five."""

    http: str | None = None
    """URL that answers 200."""
    tcp: str | None = None
    """HOST:PORT that accepts a connection."""
    log: str | None = None
    """Regular expression that a line of the service's log matches."""
    command: list[str] | None = None
    """Arguments of a command that exits 0."""
    notify: bool = False
    """The service sends READY=1 by sd_notify."""
    interval_s: AboveZero = 0.1


NeedCondition = Literal["ready", "healthy", "started", "completed"]
"""What a service waits for: ``ready``, as its kind defines it; ``healthy``, the same of a service with a probe;
``started``, its process exists; ``completed``, the one-shot has ended with 0."""


class ServiceBase(_Settings, frozen=True, kw_only=True):
    """What every kind of service has; ``voiceops.kinds`` adds the settings of each.

    The properties are for whoever asks all services of a host; a kind of that role answers with a setting.
    """

    role: ClassVar[Role] = Role.OTHER
    watches: ClassVar[bool] = False
    """Whether it brings the other services back: a monitor."""
    passwords: ClassVar[tuple[str, ...]] = ()
    """Names of settings that must never be empty: where the inventory has none, the secret is the variable
    SERVICE_SETTING, such as ``REDIS_PASSWORD``, which the first start on this machine makes up."""

    needs: Union[list[str], dict[str, NeedCondition]] = []
    """Names of services that must be ready first, or for each of them the condition."""
    env: dict[str, Union[str, Secret]] = {}
    env_from: list[str] = []
    """Variables of ``.env`` or the environment that the service gets as they are; a pattern (fnmatch)
    selects from ``.env`` only. Nothing else reaches it but what its kind reads."""
    ready_timeout_s: AboveZero = 60.0
    stop_timeout_s: float = 10.0
    log_max_bytes: AtLeastOne = 10_000_000
    log_keep: int = 5
    restart: Union[Literal["always", "on-failure", "never"], None] = None
    """Whether the monitor, on servers systemd, starts it again when it ends by itself; None: always, of a one-shot never."""
    memory_max_bytes: Union[AtLeastOne, None] = None
    """On servers: systemd ends the service when it takes more; None: no limit."""

    @property
    def kind(self) -> str:
        """The name of its kind, as the inventory writes it."""
        return str(self.__struct_config__.tag)

    @property
    def restart_policy(self) -> Literal["always", "on-failure", "never"]:
        """``restart``, or what it means where it is not set."""
        return self.restart or ("never" if self.oneshot else "always")

    @property
    def need_conditions(self) -> Mapping[str, NeedCondition]:
        """Each service that it needs, with the condition that it waits for."""
        return self.needs if isinstance(self.needs, dict) else dict.fromkeys(self.needs, "ready")

    @property
    def limits_on_servers(self) -> tuple[str, ...]:
        """Names of the settings that it has and that limit it on servers only, where systemd does it."""
        return ("memory_max_bytes",) if self.memory_max_bytes is not None else ()

    @property
    def implied_needs(self) -> Sequence[str]:
        """Names of services that it needs where the inventory has them, said in ``needs`` or not."""
        return ()

    @property
    def oneshot(self) -> bool:
        """Whether it runs to its end, once, instead of serving."""
        return False

    @property
    def has_probe(self) -> bool:
        """Whether something proves that it does its job, beyond that its process lives."""
        return True

    @property
    def agent_name(self) -> str:
        """Of an agent: the name that it is dispatched by; empty: the implicit dispatch of every room."""
        return ""

    @property
    def max_concurrent_jobs(self) -> int | None:
        """Of an agent: how many calls it takes at once; None: no limit."""
        return None

    @property
    def webhook_port(self) -> int | None:
        """Of a monitor: the TCP port of loopback on which it takes LiveKit's webhooks."""
        return None

    @property
    def page_port(self) -> int | None:
        """Of a page: the TCP port on which browsers get it."""
        return None

    @property
    def https_host(self) -> str:
        """Of a proxy with a certificate: HOST or HOST:PORT by which browsers reach page and LiveKit; empty: it is none."""
        return ""

    @property
    def https_site(self) -> HttpsSite | None:
        """Of a proxy with a certificate: where it shows it; None: it is none."""
        return None

    @property
    def cluster(self) -> str:
        """Of a server: HOST:PORT of the Redis by which it is joined to others; empty: it stands alone."""
        return ""

    @property
    def cluster_login(self) -> dict[str, Secret]:
        """Of a server: ``username`` and ``password`` at that Redis, as far as it has them."""
        return {}


DEFAULT_LIVEKIT_PORT = 7880


MIN_SECRET_BYTES = 32
"""LiveKit logs an error for a shorter secret, and takes it."""


class LivekitSettings(_Settings, frozen=True, kw_only=True):
    url: str = "ws://127.0.0.1:7880"
    """When the inventory has none: LIVEKIT_URL of ``.env``, else this."""
    api_key: Secret = Secret("")
    """When the inventory has none: ``{env: LIVEKIT_API_KEY}``."""
    api_secret: Secret = Secret("")
    """When the inventory has none: ``{env: LIVEKIT_API_SECRET}``."""
    next_api_key: Secret = Secret("")
    """With its secret a second pair that the livekit-server accepts, before anything uses it (``inv rotate-keys``).

    When the inventory has none, and ``api_key`` is ``{env: NAME}``: NAME_NEXT of ``.env``, where it has one.
    """
    next_api_secret: Secret = Secret("")
    previous_api_key: Secret = Secret("")
    """The same for the pair before, until nothing uses it any more: NAME_PREVIOUS of ``.env``."""
    previous_api_secret: Secret = Secret("")
    insecure: bool = False
    """Allow an unencrypted URL (ws, http) beyond loopback and private networks."""

    @property
    def accepted(self) -> tuple[tuple[Secret, Secret], ...]:
        """Each key with its secret that the livekit-server accepts, the one that is in use first."""
        pairs = (
            (self.api_key, self.api_secret),
            (self.next_api_key, self.next_api_secret),
            (self.previous_api_key, self.previous_api_secret),
        )
        return (pairs[0], *(pair for pair in pairs[1:] if pair[0]))

    @property
    def port(self) -> int:
        """The port of ``url``; the default one when it names none and is not encrypted."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme in ("wss", "https") else DEFAULT_LIVEKIT_PORT)


class RoomsSettings(_Settings, frozen=True, kw_only=True):
    stale_after_s: float = 300.0
    stuck_agent_after_s: float = 600.0
    keep: list[str] = []
    """Room name patterns (fnmatch) that cleanup never touches."""
    idle_identities: list[str] = msgspec.field(default_factory=lambda: ["monitor-*", "bot-*"])
    """Participants that hold a room open without being a caller."""
    concurrency: AtLeastOne = 64
    agent_wait_timeout_s: float = 10.0
    """How long a dispatched agent may take to become ready."""


class MonitorSettings(_Settings, frozen=True, kw_only=True):
    """How the monitor watches."""

    interval_s: AboveZero = 30.0
    """Between two full checks; what happens in between is seen at once."""
    probe_call_every_s: NotNegative = 0.0
    """Between two synthetic calls that must hear the agent; 0: none."""


class DeploySettings(_Settings, frozen=True, kw_only=True):
    """How hosts are brought to what is declared."""

    serial: Union[int, str] = "100%"
    """Hosts of one batch, as a number or a percentage; of the first batch, one host goes ahead alone."""
    max_fail: int = 0
    """Begin no further batch once more hosts than this have failed."""
    on_fail: Literal["stop", "rollback"] = "stop"
    """Then hosts that are done keep the new release, or their agents go back to the release before."""
    parallel: AtLeastOne = 16
    """Connections at once."""
    wheels: Literal["upload", "index"] = "upload"
    """``upload``: fetched here for the host's Python and sent; ``index``: the host asks its package index."""
    index_url: Secret = Secret("")
    """For ``wheels: index``. Empty: what the host's pip or uv is configured for."""
    packages: list[str] = []
    """Of the distribution, by apt or dnf; what they bring of daemons of their own stays off."""
    requirements: Union[str, None] = None
    """File with what agents import beyond livekit-agents, from the inventory's folder."""
    keep_releases: AtLeastOne = 5
    overlap: Literal["auto", "always", "never"] = "auto"
    """``auto``: a new agent starts beside the old one where memory allows it, else the deploy is refused; ``never``: the
    old one drains first."""
    settle_s: float = 1.5
    """A service has to stay up for so long before it counts as started; an agent settles beside its proof call."""
    lock_wait_s: float = 10.0
    """How long to wait for somebody else's deploy."""
    call: bool = True
    """A real call must hear each host's agent; a host whose new release fails it goes back."""
    notify: list[Literal["start", "success", "failure", "rollback"]] = []
    """What the channels of ``alerts`` are told of deploys that change something."""
    schedule: bool = True
    """Timers for the cleanup of rooms on hosts that run an agent or LiveKit."""
    cleanup_every_min: Annotated[int, msgspec.Meta(ge=1, le=59)] = 5
    """Minutes between two runs of that timer, 1 to 59."""


class HistorySettings(_Settings, frozen=True, kw_only=True):
    """What is remembered of calls, incidents, repairs and deploys, and where."""

    url: Secret = Secret("")
    """``postgresql://USER:PASSWORD@HOST/DATABASE`` or ``sqlite:////FILE``; empty: a file in the project's state folder."""
    keep_days: AboveZero = 90.0
    callers: Literal["none", "hash"] = "none"
    """``hash``: a keyed hash of each caller's identity, by which calls of one caller can be told; never the identity."""


class MetricsSettings(_Settings, frozen=True, kw_only=True):
    """Where the monitor shows its metrics to Prometheus."""

    port: Union[Port, None] = None
    """None: nowhere."""
    address: str = "127.0.0.1"
    """Of this host; ``0.0.0.0``: all."""


class AlertSettings(_Settings, frozen=True, kw_only=True):
    """Whom the monitor tells of what, and from when on."""

    channels: list[Secret] = []
    """URLs of Apprise, such as ``slack://...``, ``mailto://...``."""
    webhook_url: str = ""
    webhook_key: Secret = Secret("")
    """Signs what ``webhook_url`` gets."""
    max_rooms: Union[AtLeastOne, None] = None
    """More rooms are an alert; None: any number is well."""
    answer_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.95
    """A smaller share of answered calls is an alert."""
    window_s: AboveZero = 600.0
    """Of which calls that share is."""
    min_calls: AtLeastOne = 10
    """Of fewer calls within that time no share is judged."""
    disk_free_bytes: AtLeastOne = 500_000_000
    """Less is an alert."""
    certificate_days: AboveZero = 14.0
    """A certificate of ``livekit.url`` that expires sooner is an alert."""
    repeat_after_s: AboveZero = 14_400.0
    """An alert that lasts is told again after so long."""


class Settings(_Settings, frozen=True, kw_only=True):
    """Everything that voiceops reads for one host."""

    project: str
    livekit: LivekitSettings = LivekitSettings()
    services: dict[str, ServiceBase] = {}
    rooms: RoomsSettings = RoomsSettings()
    deploy: DeploySettings = DeploySettings()
    history: HistorySettings = HistorySettings()
    monitor: MonitorSettings = MonitorSettings()
    metrics: MetricsSettings = MetricsSettings()
    alerts: AlertSettings = AlertSettings()
    run: list[str] | None = None
    """Names of the services that this host runs; None: all."""

    def __post_init__(self) -> None:
        """Add what services need unsaid to their ``needs``: order, units and diagnosis all read those."""
        services = {name: self._with_implied_needs(service) for name, service in self.services.items()}
        if services != self.services:
            msgspec.structs.force_setattr(self, "services", services)

    def _with_implied_needs(self, service: ServiceBase) -> ServiceBase:
        unsaid = [one for one in service.implied_needs if one in self.services and one not in service.needs]
        if not unsaid:
            return service
        conditions: dict[str, NeedCondition] = {**service.need_conditions, **dict.fromkeys(unsaid, "ready")}
        needs = conditions if isinstance(service.needs, dict) else list(conditions)
        return msgspec.structs.replace(service, needs=needs)

    @property
    def running(self) -> dict[str, ServiceBase]:
        """The services that this host runs, by name."""
        names = self.services if self.run is None else self.run
        return {name: self.services[name] for name in names}

    def runs(self, role: Role) -> bool:
        """Whether this host runs a service of this role."""
        return any(service.role is role for service in self.running.values())


class Host(_Settings, frozen=True, kw_only=True):
    """One host of the inventory with its resolved variables."""

    name: str
    local: bool
    """ansible_connection: local."""
    address: str
    user: str | None = None
    port: int | None = None
    groups: list[str] = []
    settings: Settings
    vars: dict[str, object] = {}
    """All Ansible variables, secrets as ``Secret``; for templates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsSite:
    """Where a service shows a certificate to browsers, and for which name."""

    domain: str
    address: str
    """Where it listens; 0.0.0.0: everywhere."""
    port: int


@dataclass(frozen=True, slots=True)
class PortUse:
    """A port that a service listens on."""

    protocol: str
    """TCP or UDP."""
    port: int
    path: tuple[str, ...]
    """The setting that says so."""
