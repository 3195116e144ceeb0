"""The stack of a server: its units, behind the same operations as this machine's processes."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from voiceops.adapters.livekit.credentials import refusal
from voiceops.adapters.ssh.forward import endpoint_within, reachable_endpoint, url_of_port
from voiceops.deadline import Deadline
from voiceops.errors import VoiceopsError
from voiceops.kinds.model import Declared
from voiceops.model.endpoint import server_id
from voiceops.model.settings import Host, Settings
from voiceops.ports import Transport
from voiceops.remote import verbs
from voiceops.remote.call import call
from voiceops.remote.unit_messages import HoldConnections
from voiceops.stack.livekit_occupancy import LivekitOccupancy, read_live_rooms
from voiceops.stack.model import Instance
from voiceops.stack.results import Progress
from voiceops.stack.room_hooks import clean_before_agents, send_after_restart
from voiceops.stack.stack import LivekitAccess, Stack
from voiceops.stack.systemd.backend import SystemdBackend
from voiceops.stack.systemd.gated_start import gated_start
from voiceops.systemd.names import HostNames

log = logging.getLogger(__name__)

_READ_FILE = 'echo; head -c 1000000 "$1" | base64 -w0'
"""One line, so that what login shells print before it is told apart."""


def systemd_stack(
    host: Host,
    transport: Transport,
    *,
    outline: tuple[Declared, ...],
    services: Callable[[], tuple[Declared, ...]],
    lock: Callable[[Deadline], AbstractContextManager[None]],
    progress: Progress,
    say: Callable[[str], None],
    rooms_memory: Path,
    other_node: str = "",
) -> Stack:
    """The services of a server on systemd; ``rooms_memory`` is the file of what room cleanups observed.

    ``other_node``: the URL of another livekit-server, which this host's hands its callers over to.
    """
    names = HostNames(host.settings.project)
    caller_ports = _caller_ports(host.settings)
    backend = SystemdBackend(
        names,
        transport,
        settle_s=host.settings.deploy.settle_s,
        takeover=_takeover(names, host.settings.livekit.port, other_node),
        caller_ports=caller_ports,
    )
    asked = reachable_endpoint(host, transport)

    access = partial(_access, host, transport, rooms_memory, say)

    @contextmanager
    def hold_callers() -> Iterator[LivekitAccess | None]:
        if host.settings.livekit.url.startswith(("wss:", "https:")):
            yield None  # who asks the server from within the host would meet another name than its certificate's
            return
        with _held(names, transport, caller_ports) as held:
            yield access(endpoint_within(host, transport)) if held else None

    usual = access(asked)
    return Stack(
        services=services,
        outline=outline,
        backend=backend,
        lock=lock,
        occupancy=usual.occupancy,
        before_agents=usual.before_agents,
        after_server=usual.after_server,
        hold_callers=hold_callers,
        progress=progress,
        live_rooms=lambda: read_live_rooms(asked.settings.livekit, host.settings.rooms),
        livekit=asked.settings.livekit,
        refusal=lambda: refusal(asked.settings.livekit),
        want=lambda names, wanted: None if wanted else backend.forget_failures(names),
        gated_start=partial(gated_start, backend),
        host=host.name,
        close=transport.close,
    )


def _access(
    host: Host, transport: Transport, rooms_memory: Path, say: Callable[[str], None], asked: Host
) -> LivekitAccess:
    """``asked`` is the host with the address by which its LiveKit is reached."""
    return LivekitAccess(
        occupancy=LivekitOccupancy(
            livekit=asked.settings.livekit,
            rooms=host.settings.rooms,
            port=host.settings.livekit.port,
            started_with=_Credentials(transport).configuration,
            url_of_port=lambda port: url_of_port(transport, port),
        ),
        before_agents=clean_before_agents(asked, rooms_memory, say, server_id=server_id(host)),
        after_server=send_after_restart(asked, say, server_id=server_id(host)),
    )


def _caller_ports(settings: Settings) -> list[int]:
    """The ports by which callers reach the livekit-server of a host: its own, and those of what stands before it."""
    sites = [one.https_site for one in settings.running.values()]
    return sorted({settings.livekit.port, *(site.port for site in sites if site)})


@contextmanager
def _held(names: HostNames, transport: Transport, ports: list[int]) -> Iterator[bool]:
    request = HoldConnections(state_dir=names.state, table=names.nft_table, ports=ports)
    answer = call(transport, verbs.HOLD_CONNECTIONS, request)
    if not answer["held"]:
        log.info("callers don't wait for the server", extra={"why": answer["why"]})
    yield answer["held"]
    # Where the block has raised, the time limit lets them in.
    if answer["held"]:
        request["ports"] = []
        with contextlib.suppress(VoiceopsError):  # then they are let in some seconds later
            call(transport, verbs.HOLD_CONNECTIONS, request)


def _takeover(names: HostNames, port: int, other_node: str) -> list[str]:
    """The program that leads callers to another node; empty where that can't be reached as this one is."""
    other = urlsplit(other_node)
    if other.scheme != "ws" or not other.hostname:
        return []
    to = ["--to-host", other.hostname, "--to-port", str(other.port or 80)]
    return [names.takeover_script, "--port", str(port), *to]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """systemd keeps the configuration that a unit was started with, as one of its credentials, until it ends."""

    transport: Transport

    def configuration(self, server: Instance) -> str:
        """The livekit.yaml of a running unit; empty where it can't be read."""
        path = f"/run/credentials/{server.launch}/livekit.yaml"
        try:
            ended = self.transport.run(["sh", "-c", _READ_FILE, "sh", path], root=True, timeout_s=10.0)
            return base64.b64decode(ended.last_line).decode()
        except (VoiceopsError, ValueError):
            return ""  # then only the configured keys are left
