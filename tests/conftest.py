"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live
from tests.support.timeouts import pytest_runtest_setup, pytest_runtest_teardown

__all__ = ["pytest_runtest_setup", "pytest_runtest_teardown"]

LONGEST = (
    "test_deploy",
    "test_why",
    "test_why_code",
    "test_deploy_mute_releases",
    "test_deploy_bad_releases",
    "test_deploy_roles",
    "test_deploy_agents",
    "test_deploy_bad_fleet",
    "test_deploy_releases",
    "test_deploy_killed",
    "test_call_guards",
    "test_deploy_index",
    "test_odd_hosts",
    "test_deploy_guards",
    "test_deploy_faults",
    "test_why_server",
    "test_deploy_folders",
    "test_deploy_secrets",
    "test_stack_agent",
    "test_worker_guards",
    "test_agentkit_worker",
    "test_transcripts",
    "test_recover",
    "test_agentkit_calls",
    "test_rooms",
    "test_commands_servers",
)
"""Modules that begin first where several run side by side: a long one that begins last keeps all waiting.

The first three need no prepared host: its layer, which all others wait for, is made meanwhile by the fourth's worker.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first, the others as they were found."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def livekit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.LiveServer]:
    """One real livekit-server for the whole run; tests use rooms of their own in it."""
    with live.livekit_server(tmp_path_factory.mktemp("livekit")) as server:
        yield server


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
