"""Fixtures for tests on real parts: hosts are made on first use and thrown away after their scope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support import hosts, hosts_prepared
from tests.support.hosts_ssh import target
from voiceops.adapters.ssh.transport import SshTransport

Fleet = Callable[[int], list[hosts.Machine]]


@pytest.fixture(scope="session")
def host_run() -> Iterator[hosts.HostRun]:
    """The bridge and the keys of this test run; no host yet."""
    with hosts.run() as run:
        yield run


@pytest.fixture(scope="module")
def host(host_run: hosts.HostRun) -> Iterator[hosts.Machine]:
    """One fresh host for the tests of a module that don't disturb each other."""
    with host_run.cluster(1) as machines:
        yield machines[0]


@pytest.fixture(scope="session")
def agent_layer(host_run: hosts.HostRun) -> Iterator[Path]:
    """What ``inv setup`` makes of a host that runs an agent, to lie over a bare one."""
    with hosts_prepared.agent_layer(host_run) as layer:
        yield layer


@pytest.fixture(scope="module")
def prepared_host(host_run: hosts.HostRun, agent_layer: Path) -> Iterator[hosts.Machine]:
    """One host for the tests of a module, set up for agents of the project ``frontdesk``; nothing is deployed.

    For tests that need an agent on a host and are not about how its environment is built.
    """
    with host_run.cluster(1, layer=agent_layer) as machines:
        yield machines[0]


@pytest.fixture
def fresh_host(host_run: hosts.HostRun) -> Iterator[hosts.Machine]:
    """One fresh host for this test alone; costs about 0.6 s."""
    with host_run.cluster(1) as machines:
        yield machines[0]


@pytest.fixture(scope="module")
def fleet(host_run: hosts.HostRun) -> Iterator[Fleet]:
    """``fleet(3)`` gives three hosts, the same ones to every test of the module."""
    with ExitStack() as running:
        machines: list[hosts.Machine] = []

        def of_size(count: int) -> list[hosts.Machine]:
            if count > len(machines):
                machines.extend(running.enter_context(host_run.cluster(count - len(machines))))
            return machines[:count]

        yield of_size


@pytest.fixture
def transport(host: hosts.Machine) -> Iterator[SshTransport]:
    with closing(SshTransport(target(host))) as made:
        yield made
