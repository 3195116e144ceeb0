"""Redis: joins livekit-servers to one cluster, and keeps what agents put into it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, Union

from voiceops.config import decode
from voiceops.config.checks import check_peer
from voiceops.errors import ConfigError
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


class RedisKind(ProgramKind[RedisService]):
    """Its data outlives releases and stops: a SIGTERM makes it save them."""

    settings = RedisService
    template = "redis.conf"
    keeps_data = True

    def check(self, service: RedisService, decoder: decode.Decoder, path: decode.Path) -> None:
        try:
            ip_address(service.address)
        except ValueError:
            raise decoder.error(
                (*path, "address"), f"{service.address!r} is no IP address", "127.0.0.1, or the host's own"
            ) from None
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

    def environment(self, service: RedisService) -> Mapping[str, str]:
        return {"REDISCLI_AUTH": service.password.reveal()}

    def program(self, service: RedisService, settings: Settings, config: str) -> Program:
        loopback = ip_address(service.address).is_loopback
        # -e: an error reply, as while it loads its data, is an exit code.
        ping = ["redis-cli", "-e", "-h", service.address, "-p", str(service.port), "ping"]
        return Program(
            argv=["/usr/bin/env", "redis-server", config],
            probe=Probe(command=ping),
            port=service.port,
            peers=["localhost"] if loopback and service.peers is None else service.peers,
        )


KIND = RedisKind()
