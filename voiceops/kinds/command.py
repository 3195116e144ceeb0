"""Any other program, as the inventory describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import msgspec

from voiceops.config import decode
from voiceops.config.checks import check_peer, check_probe
from voiceops.config.source.dotenv import parse
from voiceops.config.source.yamlfile import read_text
from voiceops.kinds.program import Program, ProgramKind
from voiceops.model.environment import RESERVED_VARIABLES
from voiceops.model.settings import AboveZero, AtLeastOne, Port, Probe, ServiceBase, Settings
from voiceops.util.suggest import did_you_mean

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL")


class CommandService(ServiceBase, tag_field="kind", tag="command", frozen=True, kw_only=True):
    """Anything else."""

    command: list[str]
    cwd: str | None = None
    probe: Probe | None = None
    """None: ready when it has stayed alive for 0.5 s."""
    env_file: str | None = None
    """A file of ``NAME=value`` lines from the inventory's folder, all of which it gets; ``env`` and ``env_from`` win."""
    before_start: list[list[str]] = msgspec.field(default_factory=list)
    """Commands that run to their end before each start, one after the other; where one fails, it is not started."""
    oneshot: bool = False
    """It runs to its end, once: with exit 0 it is completed, and is run again only when it has changed."""
    after_ready: list[list[str]] = msgspec.field(default_factory=list)
    """Commands that run to their end once it is ready; it counts as ready when all of them have exited with 0."""
    user: Union[str, None] = None
    """Whose it is, by name; None: here whoever starts it, on servers the project's own user."""
    open_files_max: Union[AtLeastOne, None] = None
    """Files and sockets that its process may have open; None: what the session allows, on servers 65536."""
    cpus_max: Union[AboveZero, None] = None
    """On servers: CPUs that it takes at most, such as 1.5; None: no limit."""
    stop_signal: str = "TERM"
    port: Port | None = None
    """The TCP port that it owns; a foreign owner is a stray."""
    peers: list[str] | None = None
    """On servers: addresses and networks that it exchanges packets with, ``localhost`` among them; all others
    are denied (IPAddressAllow, IPAddressDeny). None: no limit."""

    @property
    def has_probe(self) -> bool:
        return self.probe is not None

    @property
    def limits_on_servers(self) -> tuple[str, ...]:
        return (*super().limits_on_servers, *(("cpus_max",) if self.cpus_max is not None else ()))


class CommandKind(ProgramKind[CommandService]):
    """The inventory says all of it."""

    settings = CommandService

    def check(self, service: CommandService, decoder: decode.Decoder, path: decode.Path) -> None:
        if not service.command or not service.command[0]:
            raise decoder.error(
                (*path, "command"), "the command is empty", 'write it as a list: ["program", "argument"]'
            )
        if service.oneshot:
            _check_oneshot(service, decoder, path)
        if service.stop_signal not in _SIGNALS:
            known = did_you_mean(service.stop_signal.removeprefix("SIG"), _SIGNALS)
            raise decoder.error((*path, "stop_signal"), f"no signal {service.stop_signal!r}", known)
        for name in ("before_start", "after_ready"):
            for index, argv in enumerate(getattr(service, name)):
                if not argv or not argv[0]:
                    raise decoder.error((*path, name, index), "the command is empty")
        if service.user is not None and not _USER.fullmatch(service.user):
            raise decoder.error((*path, "user"), f"{service.user!r} is no name of a user")
        if service.env_file is not None:
            file = decoder.environment.folder / service.env_file
            if not file.is_file():
                raise decoder.error((*path, "env_file"), f"there is no file {service.env_file}")
            reserved = RESERVED_VARIABLES & set(_variables(file))
            if reserved:
                raise decoder.error(
                    (*path, "env_file"),
                    f"{service.env_file} sets {min(reserved)}, which voiceops itself sets",
                )
        if service.probe is not None:
            check_probe(service.probe, decoder, (*path, "probe"))
        for index, peer in enumerate(service.peers or ()):
            check_peer(peer, decoder, (*path, "peers", index))

    def as_monitored(self, service: CommandService) -> dict[str, object]:
        return {**super().as_monitored(service), "oneshot": service.oneshot}

    def file_environment(self, service: CommandService, root: Path) -> Mapping[str, str]:
        return _variables(root / service.env_file) if service.env_file else {}

    def program(self, service: CommandService, settings: Settings, config: str) -> Program:
        return Program(
            argv=service.command,
            cwd=service.cwd,
            probe=service.probe,
            before=service.before_start,
            after=service.after_ready,
            user=service.user,
            open_files_max=service.open_files_max,
            cpus_max=service.cpus_max,
            port=service.port,
            stop_signal=service.stop_signal,
            peers=service.peers,
        )


KIND = CommandKind()


def _check_oneshot(service: CommandService, decoder: decode.Decoder, path: decode.Path) -> None:
    if service.restart == "always":
        raise decoder.error(
            (*path, "restart"),
            "a one-shot ends by itself: it can't be started again always",
            "write on-failure or never",
        )
    for name in ("probe", "port", "after_ready"):
        if getattr(service, name):
            raise decoder.error(
                (*path, name),
                f"a one-shot has no {name}: it is completed when it has ended with 0",
                "take that out, or take `oneshot` out",
            )


def _variables(file: Path) -> dict[str, str]:
    return parse(read_text(file, str(file)), str(file))
