"""Letta: agents with a memory, which they keep in a PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from voiceops.adapters.binaries import letta, letta_install
from voiceops.config import decode
from voiceops.config.checks import check_ip
from voiceops.errors import ConfigError
from voiceops.kinds.model import Declared, HostDeclaration
from voiceops.kinds.postgres import PostgresService
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.secret import Secret
from voiceops.model.settings import Port, Probe, ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress
    from voiceops.kinds.host import HostContext
    from voiceops.resources import Venv

PROGRAM = Path(__file__).with_name("letta_program.py")


class LettaService(ServiceBase, tag_field="kind", tag="letta", frozen=True, kw_only=True):
    """A Letta server."""

    passwords: ClassVar[tuple[str, ...]] = ("password",)

    port: Port = 8283
    address: str = "127.0.0.1"
    """Where it listens; another one than loopback only on request."""
    password: Secret = Secret("")
    """What clients send as their token. None or empty: the variable SERVICE_PASSWORD."""
    store: str = "postgres"
    """The service of kind postgres that keeps its agents; started before it, said in ``needs`` or not."""
    database_url: Secret = Secret("")
    """``postgresql://USER:PASSWORD@HOST:PORT/DATABASE`` of another PostgreSQL, with pgvector, instead of ``store``."""
    ready_timeout_s: float = 180.0
    stop_timeout_s: float = 20.0

    @property
    def implied_needs(self) -> Sequence[str]:
        return () if self.database_url else (self.store,)


class LettaKind(ProgramKind[LettaService]):
    """It runs in an environment of its own, built once and shared."""

    settings = LettaService
    keeps_data = True

    def check(self, service: LettaService, decoder: decode.Decoder, path: decode.Path) -> None:
        check_ip(service.address, decoder, (*path, "address"))

    def fetch(self, service: LettaService, on_fetch: OnProgress) -> None:
        letta.fetch(on_fetch)

    def environment(self, service: LettaService, settings: Settings) -> Mapping[str, str]:
        return {
            "LETTA_PG_URI": _database_url(service, settings),
            "LETTA_SERVER_PASSWORD": service.password.reveal(),
            "LETTA_SERVER_SECURE": "true",
            # The raw requests to the model: in one of ten messages Letta hung for a minute while it wrote them.
            "LETTA_TRACK_PROVIDER_TRACE": "false",
        }

    def program(self, service: LettaService, settings: Settings, config: str) -> Program:
        where = ["--host", service.address, "--port", str(service.port)]
        return Program(
            argv=[str(letta.python()), "-I", str(PROGRAM), *where],
            probe=Probe(http=f"http://{service.address}:{service.port}/v1/health/"),
            port=service.port,
        )

    def host_program(self, service: LettaService, host: HostContext, config: str) -> Program:
        venv = _host_venv(host)
        here = self.program(service, host.settings, config)
        # Its real name: modules that are imported late must come from the environment that it was started with.
        python = f"{venv.path}-{venv.digest}/bin/python"
        return replace(
            here,
            argv=[python, "-I", _host_script(host), *here.argv[3:]],
        )

    def declare_on_host(self, outline: Declared, service: LettaService, host: HostContext) -> HostDeclaration:
        made = super().declare_on_host(outline, service, host)
        folder = host.folder(str(Path(_host_venv(host).path).parent))
        script = host.script(_host_script(host), PROGRAM)
        return replace(made, resources=(folder, _host_venv(host), script, *made.resources))


KIND = LettaKind()


def _database_url(service: LettaService, settings: Settings) -> str:
    if service.database_url:
        return service.database_url.reveal()
    store = settings.services.get(service.store)
    if not isinstance(store, PostgresService):
        raise ConfigError(
            f"Letta needs a PostgreSQL, and there is no service {service.store!r} of kind postgres",
            hint="add `postgres: {kind: postgres, database: letta}`, or set `store` or `database_url` of the service",
        )
    login = f"{quote(store.user, safe='')}:{quote(store.password.reveal(), safe='')}"
    return f"postgresql://{login}@{store.address}:{store.port}/{store.database}"


def _host_venv(host: HostContext) -> Venv:
    return host.own_venv(f"{host.names.opt}/letta/{letta.VERSION}", letta_install.LOCK)


def _host_script(host: HostContext) -> str:
    return f"{host.names.opt}/bin/letta-program"
