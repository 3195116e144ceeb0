"""Redis: joins livekit-servers to one cluster, and keeps what agents put into it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Union

import msgspec

from voiceops.config import decode
from voiceops.config.checks import check_ip, check_peer
from voiceops.errors import ConfigError
from voiceops.kinds.backup import BackupMethod, DataCall
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.secret import Secret
from voiceops.model.settings import Port, Probe, ServiceBase, Settings

if TYPE_CHECKING:
    from voiceops.adapters.binaries.progress import OnProgress


class RedisService(ServiceBase, tag_field="kind", tag="redis", frozen=True, kw_only=True):
    """A redis-server of the distribution."""

    passwords: ClassVar[tuple[str, ...]] = ("password",)

    port: Port = 6379
    address: str = "127.0.0.1"
    """Where it listens; another one than loopback only on request."""
    password: Secret = Secret("")
    """None or empty: the variable SERVICE_PASSWORD."""
    peers: Union[list[str], None] = None
    """On servers: addresses and networks that reach it, all others are denied. None: on loopback this host alone,
    else no limit."""
    append_only: bool = False
    """Every write goes to the disk within a second; else snapshots, the last one when it is stopped."""
    stop_timeout_s: float = 30.0


_PLACE = """\
set -e
umask 077
cat > restored.rdb
if [ "$1" = append-only ]; then
    # Redis reads nothing else then: the backup becomes the base of a new log.
    rm -rf restored.aof appendonlydir.old
    mkdir restored.aof
    mv restored.rdb restored.aof/appendonly.aof.1.base.rdb
    echo 'file appendonly.aof.1.base.rdb seq 1 type b' > restored.aof/appendonly.aof.manifest
    if [ -e appendonlydir ]; then mv appendonlydir appendonlydir.old; fi
    mv restored.aof appendonlydir
    rm -rf appendonlydir.old
else
    mv restored.rdb dump.rdb
fi
sync
"""


class RedisBackup(BackupMethod[RedisService]):
    """By its own snapshot format, RDB; a restore needs a stop, as Redis reads one only when it starts."""

    suffix = ".rdb"
    magic = b"REDIS"
    counted = "key"

    def dump(self, service: RedisService) -> DataCall:
        return DataCall(argv=(*_client(service), "--rdb", "-"))

    def count(self, service: RedisService) -> DataCall:
        return DataCall(argv=(*_client(service), "info", "keyspace"))

    def count_of(self, printed: str) -> int:
        return sum(int(number) for number in re.findall(r"keys=(\d+)", printed))

    def scratch(self, service: RedisService, *, port: int, password: Secret, here: bool) -> RedisService:
        return msgspec.structs.replace(
            service, port=port, address="127.0.0.1", password=password, env={}, env_from=[]
        )

    def place(self, service: RedisService) -> Sequence[DataCall]:
        how = "append-only" if service.append_only else "snapshots"
        return (DataCall(argv=("sh", "-c", _PLACE, "sh", how), takes_backup=True),)


class RedisKind(ProgramKind[RedisService]):
    """Its data outlives releases and stops: a SIGTERM makes it save them."""

    settings = RedisService
    template = "redis.conf"
    keeps_data = True
    backup = RedisBackup()

    def check(self, service: RedisService, decoder: decode.Decoder, path: decode.Path) -> None:
        check_ip(service.address, decoder, (*path, "address"))
        for index, peer in enumerate(service.peers or ()):
            check_peer(peer, decoder, (*path, "peers", index))

    def fetch(self, service: RedisService, on_fetch: OnProgress) -> None:
        for program in ("redis-server", "redis-cli"):
            if shutil.which(program) is None:
                raise ConfigError(
                    f"{program} is not installed here",
                    hint="on Debian: apt install redis-server, then systemctl disable --now redis-server",
                )

    def variables(self, service: RedisService, settings: Settings) -> Mapping[str, object]:
        return {
            "address": service.address,
            "port": service.port,
            "password": service.password.reveal(),
            "append_only": service.append_only,
        }

    def environment(self, service: RedisService, settings: Settings) -> Mapping[str, str]:
        return {"REDISCLI_AUTH": service.password.reveal()}

    def program(self, service: RedisService, settings: Settings, config: str) -> Program:
        loopback = ip_address(service.address).is_loopback
        return Program(
            argv=["/usr/bin/env", "redis-server", config],
            probe=Probe(command=[*_client(service), "ping"]),
            refusals=["WRONGPASS", "NOAUTH"],
            port=service.port,
            peers=["localhost"] if loopback and service.peers is None else service.peers,
        )


KIND = RedisKind()


def _client(service: RedisService) -> tuple[str, ...]:
    # -e: an error reply, as while it loads its data, is an exit code.
    return ("redis-cli", "-e", "-h", service.address, "-p", str(service.port))
