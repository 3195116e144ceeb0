"""Open the connections to servers, before everything else that a deploy imports is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voiceops.adapters.ssh.opening import Opening
from voiceops.adapters.ssh.transports import transport_to
from voiceops.model.settings import Host

if TYPE_CHECKING:
    from voiceops.deploy.fleet import Fleet, HostRun


def open_fleet(
    hosts: Sequence[Host],
    *,
    parallel: int = 0,
    accept_new: bool = False,
    on_done: Callable[[HostRun], None] = lambda run: None,
) -> Fleet:
    """The servers of one run, with connections that are being opened while the rest is imported and made."""
    at_once = parallel or hosts[0].settings.deploy.parallel
    transports = [transport_to(host, accept_new=accept_new) for host in hosts]
    # Connecting is mostly waiting, and everything else that a deploy imports is imported meanwhile. So
    # Fabric comes first and alone, and a handshake's thread gets its turn after 0.2 ms instead of 5.
    importlib.import_module("voiceops.adapters.ssh.connect")
    sys.setswitchinterval(0.0002)
    openings = [Opening(transport).wait for transport in transports[:at_once]]
    openings += [transport.open for transport in transports[at_once:]]
    from voiceops.deploy.fleet import Fleet, HostRun

    runs = [HostRun(*each) for each in zip(hosts, transports, openings, strict=True)]
    return Fleet(runs=runs, parallel=at_once, on_done=on_done)
