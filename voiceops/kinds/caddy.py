"""Caddy in front of the page and of LiveKit: one https address for both, with a certificate that it gets and renews."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, Union

from voiceops.config import decode
from voiceops.config.checks import check_ip
from voiceops.errors import ConfigError
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.settings import HttpsSite, Port, PortUse, Probe, ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress

_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_EMAIL = re.compile(r"[\w.+-]+@[\w.-]+")
_PRIVILEGED = 1024
"""Ports below it need a capability."""


class CaddyService(ServiceBase, tag_field="kind", tag="caddy", frozen=True, kw_only=True):
    """A caddy of the distribution."""

    domain: str
    """The name by which browsers reach it."""
    tls: Literal["letsencrypt", "internal"] = "letsencrypt"
    """``internal``: by a CA of its own, which browsers have to be told of."""
    email: str = ""
    """Whom Let's Encrypt tells of problems."""
    address: str = "0.0.0.0"
    """Where it listens."""
    port: Port = 443
    http_port: Port = 80
    """Let's Encrypt asks there, and whoever comes is sent to https."""
    serves: Union[str, None] = None
    """The service of kind web; None: the only one."""

    @property
    def https_host(self) -> str:
        return self.domain if self.port == 443 else f"{self.domain}:{self.port}"

    @property
    def https_site(self) -> HttpsSite:
        return HttpsSite(domain=self.domain, address=self.address, port=self.port)


class CaddyKind(ProgramKind[CaddyService]):
    """Its certificates outlive releases."""

    settings = CaddyService
    template = "caddy.caddyfile"
    keeps_data = True

    def check(self, service: CaddyService, decoder: decode.Decoder, path: decode.Path) -> None:
        check_ip(service.address, decoder, (*path, "address"))
        if not _DOMAIN.fullmatch(service.domain):
            raise decoder.error(
                (*path, "domain"), f"{service.domain!r} is no name of a host", "for example voice.example.com"
            )
        if service.email and not _EMAIL.fullmatch(service.email):
            raise decoder.error((*path, "email"), f"{service.email!r} is no address of mail")
        if service.port == service.http_port:
            raise decoder.error((*path, "http_port"), f"{service.http_port} is the port for https")

    def ports(self, name: str, service: CaddyService, settings: Settings) -> Iterable[PortUse]:
        yield PortUse("TCP", service.port, ("services", name, "port"))
        yield PortUse("TCP", service.http_port, ("services", name, "http_port"))

    def as_monitored(self, service: CaddyService) -> dict[str, object]:
        """What its certificates are looked at by."""
        ports = {"port": service.port, "http_port": service.http_port}
        return {"kind": service.kind, "domain": service.domain, "address": service.address, **ports}

    def fetch(self, service: CaddyService, on_fetch: OnProgress) -> None:
        if shutil.which("caddy") is None:
            raise ConfigError(
                "caddy is not installed here",
                hint="on Debian: apt install caddy, then systemctl disable --now caddy",
            )

    def variables(self, service: CaddyService, settings: Settings) -> Mapping[str, object]:
        return {
            "address": service.address,
            "domain": service.domain,
            "port": service.port,
            "http_port": service.http_port,
            "internal": service.tls == "internal",
            "email": service.email,
            "page_port": _page_port(service, settings),
            "livekit_port": settings.livekit.port,
        }

    def program(self, service: CaddyService, settings: Settings, config: str) -> Program:
        address = ip_address(service.address)
        asked = "127.0.0.1" if address.is_unspecified else service.address
        return Program(
            argv=["/usr/bin/env", "caddy", "run", "--adapter", "caddyfile", "--config", config],
            probe=Probe(tcp=f"[{asked}]:{service.port}" if ":" in asked else f"{asked}:{service.port}"),
            port=service.port,
            binds_low_ports=min(service.port, service.http_port) < _PRIVILEGED,
        )


KIND = CaddyKind()


def _page_port(service: CaddyService, settings: Settings) -> int:
    pages = {name: one.page_port for name, one in settings.services.items() if one.page_port is not None}
    if service.serves is not None:
        pages = {name: port for name, port in pages.items() if name == service.serves}
    if len(pages) != 1:
        raise ConfigError(
            f"{service.domain}: name the service of kind web that it serves"
            + (f": {', '.join(pages)}" if pages else ""),
            hint="services: {caddy: {serves: web}}",
        )
    return next(iter(pages.values()))
