"""Limits that hold on servers only are said where they do not hold."""

from __future__ import annotations

import pytest

from voiceops.commands.local_limits import lines_of
from voiceops.kinds.command import CommandService
from voiceops.kinds.postgres import PostgresService
from voiceops.model.settings import Host, Settings
from voiceops.model.states import ServiceState
from voiceops.stack.results import ServiceResult


def host(*, local: bool) -> Host:
    services = {
        "web": CommandService(command=["x"], memory_max_bytes=1, cpus_max=0.5),
        "api": CommandService(command=["x"], open_files_max=9),
        "db": PostgresService(memory_max_bytes=1),
    }
    return Host(name="h", local=local, address="", settings=Settings(project="test", services=services))


@pytest.mark.parametrize(
    ("local", "changed", "said"),
    [
        (
            True,
            True,
            [
                "warning: memory_max_bytes and cpus_max of web hold on servers only: nothing limits it here",
                "warning: memory_max_bytes of db holds on servers only: nothing limits it here",
            ],
        ),
        (True, False, []),
        (False, True, []),
    ],
)
def test_a_start_here_says_what_nothing_limits(local: bool, changed: bool, said: list[str]) -> None:
    one = host(local=local)
    started = dict.fromkeys(one.settings.services, ServiceResult(ServiceState.READY, changed=changed))
    assert list(lines_of(one, started)) == said
