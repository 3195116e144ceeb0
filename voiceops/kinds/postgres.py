"""PostgreSQL: the embedded one on this machine, the distribution's on servers; with a cluster of its own on both."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Union

import msgspec

from voiceops.adapters.binaries import postgresql
from voiceops.config import decode
from voiceops.config.checks import check_ip, check_peer
from voiceops.errors import ConfigError
from voiceops.kinds.backup import BackupMethod, DataCall
from voiceops.kinds.environment import digest_of
from voiceops.kinds.model import DeclarationContext, Declared, HostDeclaration
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.secret import Secret
from voiceops.model.settings import Port, Probe, ServiceBase, Settings
from voiceops.systemd.names import POSTGRES_PROGRAM, HostNames

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress
    from voiceops.kinds.host import HostContext

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OURS = ("port", "listen_addresses", "data_directory", "config_file")


class PostgresService(ServiceBase, tag_field="kind", tag="postgres", frozen=True, kw_only=True):
    """A PostgreSQL with pgvector."""

    passwords: ClassVar[tuple[str, ...]] = ("password",)

    port: Port = 5432
    address: str = "127.0.0.1"
    """Where it listens; another one than loopback only on request."""
    user: str = "postgres"
    """Its superuser, to whom the password belongs."""
    password: Secret = Secret("")
    """None or empty: the variable SERVICE_PASSWORD."""
    database: str = "postgres"
    """Made where there is none."""
    bin: Union[str, None] = None
    """Folder with the programs of another PostgreSQL. None: the embedded one, on servers the distribution's."""
    config: dict[str, Union[str, int, float, bool]] = msgspec.field(default_factory=dict)
    """More lines of postgresql.conf."""
    peers: Union[list[str], None] = None
    """On servers: addresses and networks that reach it, all others are denied. None: on loopback this host alone,
    else no limit."""
    stop_timeout_s: float = 60.0


_COUNT = (
    "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
)
_RESTORING, _REPLACED = "voiceops_restoring", "voiceops_replaced"
"""Databases beside the service's own while a restore goes on."""


class PostgresBackup(BackupMethod[PostgresService]):
    """By pg_dump's custom format; a restore fills a database beside the old one, then swaps their names."""

    suffix = ".dump"
    magic = b"PGDMP"
    counted = "table"

    def dump(self, service: PostgresService) -> DataCall:
        return DataCall(argv=(*_client(service, "pg_dump", service.database), "-Fc"))

    def count(self, service: PostgresService) -> DataCall:
        return DataCall(argv=(*_client(service, "psql", service.database), "-Xqtc", _COUNT))

    def count_of(self, printed: str) -> int:
        return int(printed.strip().rpartition("\n")[2])  # a login shell may print before

    def scratch(
        self, service: PostgresService, *, port: int, password: Secret, here: bool
    ) -> PostgresService:
        # Nothing that acts on the world outside, such as archive_command; libraries may be needed by the data.
        libraries = {key: value for key, value in service.config.items() if key == "shared_preload_libraries"}
        return msgspec.structs.replace(
            service,
            port=port,
            address="127.0.0.1",
            password=password,
            config={**libraries, "fsync": False},
            bin=service.bin if here else None,
            env={},
            env_from=[],
        )

    def load(self, service: PostgresService) -> Sequence[DataCall]:
        psql = (*_client(service, "psql", "template1"), "-Xq", "-v", "ON_ERROR_STOP=1")
        clear = [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in (_RESTORING, _REPLACED)]
        swap = [
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{service.database}'",
            f'ALTER DATABASE "{service.database}" RENAME TO {_REPLACED}',
            f'ALTER DATABASE {_RESTORING} RENAME TO "{service.database}"',
        ]
        restore = (*_client(service, "pg_restore", _RESTORING), "--exit-on-error", "--no-owner")
        return (
            DataCall(argv=(*psql, *_statements(*clear, f"CREATE DATABASE {_RESTORING} TEMPLATE template0"))),
            DataCall(argv=restore, takes_backup=True),
            # One transaction: whoever is cut off meanwhile finds the old database or the new one.
            DataCall(argv=(*psql, "-1", *_statements(*swap))),
            DataCall(argv=(*psql, *_statements(clear[1]))),
        )


class PostgresKind(ProgramKind[PostgresService]):
    """Its data outlives releases and stops. SIGINT ends it fast: sessions are cut off, what is written is kept."""

    settings = PostgresService
    template = "postgresql.conf"
    keeps_data = True
    backup = PostgresBackup()

    def check(self, service: PostgresService, decoder: decode.Decoder, path: decode.Path) -> None:
        check_ip(service.address, decoder, (*path, "address"))
        for setting in ("user", "database"):
            if not _NAME.fullmatch(getattr(service, setting)):
                raise decoder.error(
                    (*path, setting),
                    f"{getattr(service, setting)!r} can't be its name",
                    "letters, digits, '-' and '_', at most 63",
                )
        if service.bin and not Path(service.bin).is_absolute():
            raise decoder.error(
                (*path, "bin"), f"{service.bin!r} is no absolute path", "/usr/lib/postgresql/16/bin"
            )
        for name in service.config:
            if name in _OURS or not _SETTING.fullmatch(name):
                hint = f"set {name} of the service" if name in ("port",) else "see postgresql.conf(5)"
                raise decoder.error((*path, "config", name), f"{name!r} can't be set here", hint)
        for index, peer in enumerate(service.peers or ()):
            check_peer(peer, decoder, (*path, "peers", index))

    def fetch(self, service: PostgresService, on_fetch: OnProgress) -> None:
        if service.bin is None:
            postgresql.fetch(on_fetch)

    def variables(self, service: PostgresService, settings: Settings) -> Mapping[str, object]:
        shown = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in service.config.items()
        }
        return {
            "address": service.address,
            "port": service.port,
            "config": {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in shown.items()},
        }

    def environment(self, service: PostgresService, settings: Settings) -> Mapping[str, str]:
        password = service.password.reveal()
        if not password.isprintable():
            raise ConfigError("the password of PostgreSQL holds a line break or another control character")
        return {"PGPASSWORD": password}

    def program(self, service: PostgresService, settings: Settings, config: str) -> Program:
        loopback = ip_address(service.address).is_loopback
        chosen = ["--bin", service.bin] if service.bin else []
        names = ["--user", service.user, "--database", service.database]
        return Program(
            argv=[HostNames(settings.project).postgres_script, *chosen, *names, config],
            probe=Probe(command=[*_client(service, "psql", service.database), "-Xqtc", "SELECT 1"]),
            refusals=["password authentication failed"],
            port=service.port,
            stop_signal="INT",
            peers=["localhost"] if loopback and service.peers is None else service.peers,
        )

    def outline(self, bare: Declared, service: PostgresService, settings: Settings) -> Declared:
        def probe_env() -> Mapping[str, str]:
            # The embedded psql is on no path; on servers the unit itself asks, by the distribution's.
            path = os.pathsep.join([str(postgresql.programs()), os.environ.get("PATH", os.defpath)])
            return {**self.environment(service, settings), "PATH": path}

        return replace(super().outline(bare, service, settings), probe_env=probe_env)

    def declare(self, outline: Declared, service: PostgresService, context: DeclarationContext) -> Declared:
        made = super().declare(outline, service, context)
        programs = Path(service.bin) if service.bin else postgresql.programs()
        _check_version(outline.cwd, programs, service)
        chosen = () if service.bin else ("--bin", str(programs))
        argv = (sys.executable, "-IS", str(POSTGRES_PROGRAM), *chosen, *made.argv[1:])

        def prepare() -> tuple[str, ...]:
            assert made.prepare is not None
            made.prepare()
            return argv

        return replace(made, argv=argv, digest=digest_of(made.digest, str(programs)), prepare=prepare)

    def declare_on_host(
        self, outline: Declared, service: PostgresService, host: HostContext
    ) -> HostDeclaration:
        made = super().declare_on_host(outline, service, host)
        script = host.script(host.names.postgres_script, POSTGRES_PROGRAM)
        return replace(made, resources=(script, *made.resources))


KIND = PostgresKind()


def _client(service: PostgresService, program: str, database: str) -> tuple[str, ...]:
    where = ("-h", service.address, "-p", str(service.port), "-U", service.user, "-w", "-d", database)
    return (f"{service.bin}/{program}" if service.bin else program, *where)


def _statements(*statements: str) -> list[str]:
    return [word for one in statements for word in ("-c", one)]


def _check_version(data: Path, programs: Path, service: PostgresService) -> None:
    """Refuse data of another major version before anything that runs is ended."""
    version = data / "cluster" / "PG_VERSION"
    if not version.exists():
        return
    major = version.read_text().strip()
    there = postgresql.major_of(programs) if service.bin else postgresql.MAJOR
    if major != there:
        raise ConfigError(
            f"the data in {version.parent} are of PostgreSQL {major}, and {programs} has {there or 'none'}",
            hint=f"set `bin` of the service to the programs of {major}, `inv start`, `inv backup`; then without `bin`: "
            f"`inv stop`, move {version.parent} away, `inv start`, `inv restore`",
        )
