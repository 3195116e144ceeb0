"""livekit-server: the rooms live in it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from voiceops.config import decode
from voiceops.config.checks import check_address
from voiceops.config.shipped import find_template
from voiceops.errors import ConfigError
from voiceops.kinds.configuration import render_configuration, write_configuration
from voiceops.kinds.environment import digest_of, service_environment
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration, Kind, StopBehaviour
from voiceops.model.protocol import WEBHOOK_PATH
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import Port, PortUse, Probe, ServiceBase, Settings
from voiceops.systemd import escape
from voiceops.systemd.names import TAKEOVER_PROGRAM
from voiceops.util.suggest import did_you_mean

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress
    from voiceops.kinds.host import HostContext
    from voiceops.systemd.units import UnitFile, UnitWriter

TEMPLATE = "livekit.yaml"
_SWALLOWED_S = 0.1
"""livekit-server loses a SIGTERM that comes within 50 ms of its first answer."""
_LEVELS = ("debug", "info", "warn", "error")


class LivekitService(ServiceBase, tag_field="kind", tag="livekit", frozen=True, kw_only=True):
    """A livekit-server; its port is the port of ``livekit.url``."""

    role: ClassVar[Role] = Role.SERVER

    version: str = "1.13.5"
    binary: str | None = None
    public: bool = False
    """False: loopback only, and nothing leaves the machine, public STUN included."""
    rtc_tcp_port: Port = 7881
    """Only where ``public``: livekit-server's TCP media listener ignores bind addresses."""
    rtc_udp_port: Port = 7882
    node_ip: str | None = None
    redis: str | None = None
    """HOST:PORT, for more than one node."""
    log_level: str = "info"
    config: dict[str, object] = msgspec.field(default_factory=dict)
    """Merged over the rendered livekit.yaml, for what has no setting of its own; may hold ``Secret``."""

    @property
    def cluster(self) -> str:
        return self.redis or str(self._redis_section.get("address") or "")

    @property
    def _redis_section(self) -> dict[str, object]:
        section = self.config.get("redis")
        return section if isinstance(section, dict) else {}

    @property
    def cluster_login(self) -> dict[str, Secret]:
        given = self._redis_section
        found = {name: given[name] for name in ("username", "password") if given.get(name)}
        return {name: one if isinstance(one, Secret) else Secret(str(one)) for name, one in found.items()}


class LivekitKind(Kind[LivekitService]):
    """On loopback unless it is public, configured by livekit.yaml."""

    settings = LivekitService
    # It waits until the last participant has left, also for an agent alone in a room; a second signal makes
    # it close the rooms itself. Whoever stops a server has asked before who is in a call.
    stop = StopBehaviour(repeat_after_s=1.0, deaf_after_ready_s=_SWALLOWED_S)

    def check(self, service: LivekitService, decoder: decode.Decoder, path: decode.Path) -> None:
        if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+\S*", service.version):
            raise decoder.error(
                (*path, "version"), f"{service.version!r} is no version", "write it as 1.13.5"
            )
        if service.log_level not in _LEVELS:
            raise decoder.error(
                (*path, "log_level"),
                f"no level {service.log_level!r}",
                did_you_mean(service.log_level, _LEVELS),
            )
        if service.redis is not None:
            check_address(decoder, (*path, "redis"), service.redis)
        if service.node_ip is not None:
            try:
                ipaddress.ip_address(service.node_ip)
            except ValueError:
                raise decoder.error((*path, "node_ip"), f"{service.node_ip!r} is no IP address") from None

    def ports(self, name: str, service: LivekitService, settings: Settings) -> Iterable[PortUse]:
        port = urlsplit(settings.livekit.url).port
        if port is not None:
            yield PortUse("TCP", port, ("livekit", "url"))
        yield PortUse("TCP", service.rtc_tcp_port, ("services", name, "rtc_tcp_port"))
        yield PortUse("UDP", service.rtc_udp_port, ("services", name, "rtc_udp_port"))

    def fetch(self, service: LivekitService, on_fetch: OnProgress) -> None:
        _find_binary(service, on_fetch)

    def outline(self, bare: Declared, service: LivekitService, settings: Settings) -> Declared:
        port = settings.livekit.port
        return replace(
            bare,
            argv=("livekit-server",),
            ports=(port, service.rtc_tcp_port) if service.public else (port,),
            forks=False,
            probe=Probe(http=f"http://127.0.0.1:{port}/", interval_s=0.05),
            keeps_rooms=bool(service.redis or service.config.get("redis")),
        )

    def as_monitored(self, service: LivekitService) -> dict[str, object]:
        if not service.cluster:
            return {"kind": service.kind}
        return {"kind": service.kind, "redis": service.cluster, "config": {"redis": service.cluster_login}}

    def declare(self, outline: Declared, service: LivekitService, context: DeclarationContext) -> Declared:
        values = variables(service, context.settings)
        template = context.template(TEMPLATE)
        env = service_environment(service, context.dotenv())
        config = context.config_folder / f"{outline.name}.yaml"

        def prepare() -> tuple[str, ...]:
            binary = _find_binary(service, context.on_fetch(outline.name))
            write_configuration(config, render(template, values, service.config))
            return (str(binary), "--config", str(config))

        return replace(
            outline,
            argv=("livekit-server", "--config", str(config)),
            digest=digest_of(
                service.version, service.binary, template.read_text(), values, revealed(service.config), env
            ),
            env=env,
            prepare=prepare,
        )

    def declare_on_host(
        self, outline: Declared, service: LivekitService, host: HostContext
    ) -> HostDeclaration:
        name, program = outline.name, f"{host.names.opt}/bin/livekit-server"
        config = f"{host.names.etc}/{name}.yaml"
        blob = host.program(program, _find_binary(service, host.on_fetch, machine=host.machine))
        unit = livekit_unit(
            host.units, name, service, binary=program, port=host.settings.livekit.port, config_file=config
        )
        text = render(
            find_template(TEMPLATE, host.templates),
            variables(service, host.settings),
            service.config,
        )
        env = service_environment(service, host.dotenv)
        digest = digest_of(blob.contents()[0].sha256, unit.text, text, env)
        takeover = host.script(host.names.takeover_script, TAKEOVER_PROGRAM)
        return HostDeclaration(
            declared=replace(outline, digest=digest),
            resources=(
                blob,
                *((takeover,) if service.cluster else ()),
                host.configuration(config, text),
                host.environment(name, "", env, digest),
                host.unit_file(unit),
                host.enabled(unit),
            ),
        )


KIND = LivekitKind()


def livekit_unit(
    units: UnitWriter, name: str, service: LivekitService, *, binary: str, port: int, config_file: str
) -> UnitFile:
    """Return the unit of a livekit-server with its configuration as a credential."""
    ready = ["--http", f"http://127.0.0.1:{port}/", "--settle-s", str(_SWALLOWED_S)]
    values = {
        "exec_start": escape.program(binary, "the livekit-server"),
        "exec_ready": units.ready_lines(ready, service.ready_timeout_s, port),
        "config_file": escape.value(config_file, "the path of livekit.yaml"),
    }
    return units.service("livekit.service", name, service, values)


def _find_binary(service: LivekitService, on_fetch: OnProgress, machine: str = "") -> Path:
    from voiceops.adapters.binaries.find import livekit_server

    return livekit_server(service.version, service.binary, machine=machine, on_progress=on_fetch)


def variables(service: LivekitService, settings: Settings) -> dict[str, object]:
    """Return what the template of livekit.yaml gets; the secret is in the clear."""
    livekit = settings.livekit
    pairs = accepted_keys(settings)
    # By name and not by use: which of them is in use changes without a restart of the server.
    first = min(pairs)
    return {
        "port": livekit.port,
        "public": service.public,
        "api_key": first,
        "api_secret": pairs.pop(first),
        "more_keys": dict(sorted(pairs.items())),
        "rtc_tcp_port": service.rtc_tcp_port,
        "rtc_udp_port": service.rtc_udp_port,
        "node_ip": service.node_ip,
        "redis": service.redis,
        "log_level": service.log_level,
        "webhooks": [
            f"http://127.0.0.1:{one.webhook_port}{WEBHOOK_PATH}"
            for one in settings.running.values()
            if one.webhook_port is not None
        ],
    }


def accepted_keys(settings: Settings) -> dict[str, str]:
    """Return each key that the server accepts with its secret; more than one while keys are rotated."""
    return {key.reveal(): secret.reveal() for key, secret in settings.livekit.accepted}


def render(template: Path, values: Mapping[str, object], extra: Mapping[str, object]) -> str:
    """Render livekit.yaml; ``extra`` is merged over it, for what has no setting of its own."""
    text = render_configuration(template, values)
    more = values["more_keys"]
    assert isinstance(more, dict)
    if not extra and not more:
        return text
    import yaml

    merged = _merge(yaml.safe_load(text), revealed(extra))
    keys = merged.get("keys")
    if missing := set(more) - set(keys if isinstance(keys, dict) else ()):
        raise ConfigError(
            f"{len(missing)} of the keys that livekit-server has to accept are not in its configuration",
            file=str(template),
            hint="list `more_keys` under `keys` in your own template, as templates/livekit.yaml does",
        )
    if not extra:
        return text
    dumped: str = yaml.safe_dump(merged, sort_keys=False)
    return dumped


def revealed(value: object) -> Any:
    """Return ``livekit.config`` with its secrets in the clear."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revealed(item) for item in value]
    return value


def _merge(below: dict[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
