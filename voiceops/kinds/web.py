"""The page: a web server for callers' browsers, and the API by which they get a room with an agent."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Union
from urllib.parse import urlsplit

import msgspec

from voiceops.adapters.binaries.livekit_client import VERSION, client_path, livekit_client
from voiceops.config import decode
from voiceops.config.checks import check_peer, check_url
from voiceops.errors import ConfigError
from voiceops.kinds.environment import digest_of, importable, service_environment, withheld_names
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration, Kind
from voiceops.kinds.program import Program, program_unit
from voiceops.model.endpoint import on_loopback
from voiceops.model.roles import Role
from voiceops.model.secret import Secret
from voiceops.model.settings import AboveZero, Port, PortUse, Probe, ServiceBase, Settings
from voiceops.model.web import AUDIT_LOG, OPERATORS_TOKEN_ENV, SETTINGS_ENV, DashboardSettings, WebSettings

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress
    from voiceops.kinds.host import HostContext

_MIN_TOKEN_CHARACTERS = 16


class WebService(ServiceBase, tag_field="kind", tag="web", frozen=True, kw_only=True):
    """The page and its API."""

    port: Port = 8888
    page: bool = True
    """False: the API and the library only, for pages of ``origins``."""
    public: bool = False
    """False: loopback only."""
    origins: list[str] = msgspec.field(default_factory=list)
    """Origins of other pages that may use the API, as ``https://example.com``."""
    cors_port: Port = 9000
    """Another port for pages of ``origins``, with the API and the library only; none without origins."""
    trusted_proxies: list[str] = msgspec.field(default_factory=list)
    """Addresses and networks whose ``X-Forwarded-*`` count."""
    livekit_url: str = ""
    """Where browsers reach LiveKit; empty: by the Caddy of this host, else ``livekit.url``."""
    agent: Union[str, None] = None
    """Whom calls are dispatched to; None: the only agent of the inventory."""
    client: Union[str, None] = None
    """Path of livekit-client.umd.js; None: fetched by npm."""
    client_url: str = ""
    """Where it is fetched from if npm can't; what comes is checked against the pinned hash."""
    requests_per_minute: AboveZero = 120.0
    """Of one address; what is beyond is refused."""
    requests_per_minute_total: AboveZero = 6000.0
    operators_token: Secret = Secret("")
    """Who has it sees metrics and causes from other machines, too."""

    @property
    def page_port(self) -> int | None:
        return self.port if self.page else None

    @property
    def api_port(self) -> int | None:
        """The port with the API and the library only, for pages of other origins."""
        if not self.page:
            return self.port
        return self.cors_port if self.origins else None


class WebKind(Kind[WebService]):
    """A Python program on loopback unless it is public; reports by sd_notify that it serves."""

    settings = WebService
    runs_python = True

    def check(self, service: WebService, decoder: decode.Decoder, path: decode.Path) -> None:
        for index, origin in enumerate(service.origins):
            here = (*path, "origins", index)
            check_url(decoder, here, origin, ("http", "https"))
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or origin != origin.lower() or parts.username:
                raise decoder.error(
                    here, f"{origin!r} is no origin", "write it as https://example.com, without a path"
                )
        for index, proxy in enumerate(service.trusted_proxies):
            check_peer(proxy, decoder, (*path, "trusted_proxies", index))
        if service.client_url:
            check_url(decoder, (*path, "client_url"), service.client_url, ("http", "https"))
        if service.livekit_url:
            check_url(decoder, (*path, "livekit_url"), service.livekit_url, ("ws", "wss", "http", "https"))
        if service.page and service.origins and service.cors_port == service.port:
            raise decoder.error((*path, "cors_port"), f"{service.cors_port} is the page's own port")

    def ports(self, name: str, service: WebService, settings: Settings) -> Iterable[PortUse]:
        yield PortUse("TCP", service.port, ("services", name, "port"))
        if service.page and service.origins:
            yield PortUse("TCP", service.cors_port, ("services", name, "cors_port"))

    def fetch(self, service: WebService, on_fetch: OnProgress) -> None:
        livekit_client(service.client, url=service.client_url, on_progress=on_fetch)

    def outline(self, bare: Declared, service: WebService, settings: Settings) -> Declared:
        ports = tuple(dict.fromkeys(filter(None, (service.port, service.api_port))))
        return replace(bare, ports=ports, forks=False, probe=Probe(notify=True))

    def declare(self, outline: Declared, service: WebService, context: DeclarationContext) -> Declared:
        argv = (sys.executable, "-m", "voiceops.web")
        why = (
            (*context.program, "why", "--json", "--inventory", str(context.inventory))
            if context.program
            else ()
        )
        own = web_settings(outline.name, service, context.settings, str(client_path(service.client)), why)
        own = msgspec.structs.replace(own, dashboard=dashboard_settings(context))
        env = _variables(own, service, context.settings) | service_environment(service, context.dotenv())

        def prepare() -> tuple[str, ...]:
            livekit_client(service.client, url=service.client_url, on_progress=context.on_fetch(outline.name))
            return argv

        return replace(outline, argv=argv, digest=digest_of(argv, env), env=importable(env), prepare=prepare)

    def declare_on_host(self, outline: Declared, service: WebService, host: HostContext) -> HostDeclaration:
        name, names, venv = outline.name, host.names, host.venv
        assert venv is not None
        client = f"{names.opt}/bin/livekit-client-{VERSION}.umd.js"
        blob = host.program(
            client,
            livekit_client(service.client, url=service.client_url, on_progress=host.on_fetch),
            mode=0o644,
        )
        own = web_settings(name, service, host.settings, client, ())
        env = _variables(own, service, host.settings) | service_environment(service, host.dotenv)
        alone = not service.public and on_loopback(host.settings.livekit.url)
        program = Program(
            # Its real name: modules that are imported late must come from the environment that it was started with.
            argv=[f"{venv.path}-{venv.digest}/bin/python", "-m", "voiceops.web"],
            probe=outline.probe,
            port=service.port,
            peers=["localhost"] if alone else None,
        )
        unit = program_unit(
            host.units, name, service, program, cwd=names.data, completed=host.completed_first(service)
        )
        digest = digest_of(unit.text, env, blob.contents()[0].sha256)
        return HostDeclaration(
            declared=replace(
                outline, digest=digest, cwd=Path(names.data), withheld=withheld_names(env, host.dotenv)
            ),
            resources=(
                blob,
                host.environment(name, "", env, digest),
                host.unit_file(unit),
                host.enabled(unit),
            ),
        )


KIND = WebKind()


def web_settings(
    name: str, service: WebService, settings: Settings, client: str, why: tuple[str, ...]
) -> WebSettings:
    """Return what its process is started with; ``ConfigError`` where browsers could not call."""
    front = next((one.https_host for one in settings.running.values() if one.https_host), "")
    browser_url = service.livekit_url or (f"wss://{front}" if front else settings.livekit.url)
    if service.public and on_loopback(browser_url):
        raise ConfigError(
            f"service {name}: browsers elsewhere can't reach LiveKit at {browser_url}",
            path=f"services.{name}.livekit_url",
            hint="name the address by which browsers reach it, as wss://livekit.example.com",
        )
    token = service.operators_token
    if token and len(token.reveal()) < _MIN_TOKEN_CHARACTERS:
        raise ConfigError(
            f"service {name}: the operators' token is shorter than {_MIN_TOKEN_CHARACTERS} characters",
            path=f"services.{name}.operators_token",
        )
    return WebSettings(
        address="0.0.0.0" if service.public else "127.0.0.1",
        port=service.port,
        cors_port=service.api_port,
        origins=tuple(service.origins),
        trusted_proxies=tuple(
            _network(one) for one in (*service.trusted_proxies, *(["localhost"] if front else []))
        ),
        livekit_url=settings.livekit.url,
        browser_url=browser_url,
        agent_name=_agent(name, service, settings),
        client=client,
        requests_per_minute=service.requests_per_minute,
        requests_per_minute_total=service.requests_per_minute_total,
        why_command=why,
    )


def dashboard_settings(context: DeclarationContext) -> DashboardSettings | None:
    """Return what the dashboard runs here; None where nothing runs commands."""
    if not context.program:
        return None
    return DashboardSettings(
        feed=(sys.executable, "-m", "voiceops.commands.dashboard", str(context.inventory)),
        program=context.program,
        inventory=str(context.inventory),
        audit_log=str(context.config_folder / AUDIT_LOG),
    )


def _network(peer: str) -> str:
    return str(ipaddress.ip_network("127.0.0.0/8" if peer == "localhost" else peer))


def _agent(name: str, service: WebService, settings: Settings) -> str:
    if service.agent is not None:
        return service.agent
    names = dict.fromkeys(one.agent_name for one in settings.services.values() if one.role is Role.AGENT)
    if len(names) > 1:
        raise ConfigError(
            f"service {name}: the inventory has several agents: {', '.join(map(repr, names))}",
            path=f"services.{name}.agent",
            hint="name the one that calls of the page go to",
        )
    return next(iter(names), "")


def _variables(own: WebSettings, service: WebService, settings: Settings) -> dict[str, str]:
    env = {
        SETTINGS_ENV: msgspec.json.encode(own).decode(),
        "LIVEKIT_API_KEY": settings.livekit.api_key.reveal(),
        "LIVEKIT_API_SECRET": settings.livekit.api_secret.reveal(),
        "PYTHONUNBUFFERED": "1",
    }
    return env | ({OPERATORS_TOKEN_ENV: service.operators_token.reveal()} if service.operators_token else {})
