"""What a host gets, from settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from tests.projects import REPOSITORY
from voiceops.deploy.desired import HostState, Materials, desired_state
from voiceops.model.settings import CommandService, DeploySettings, Service, Settings
from voiceops.resources import Package


def _never(*_: object) -> NoReturn:
    raise AssertionError("a command needs neither wheels nor programs")


def state_of(**deploy: Any) -> HostState:
    """The host of a project with one command."""
    materials = Materials(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv={},
        livekit_binary=_never,
        wheels=_never,
        ready_script=b"",
    )
    services: dict[str, Service] = {"web": CommandService(command=["/bin/sleep", "1000"])}
    settings = Settings(project="frontdesk", services=services, deploy=DeploySettings(**deploy))
    return desired_state(settings, materials)


def test_packages_come_before_everything_and_their_daemons_stay_off() -> None:
    first = state_of(packages=["redis-server", "ffmpeg"]).resources[0]
    assert first == Package(names=["redis-server", "ffmpeg"], daemons=False)
    assert first.id == "package:redis-server,ffmpeg"


def test_packages_are_part_of_what_setup_prepares() -> None:
    prepared = state_of(packages=["ffmpeg"]).prepared()
    assert [one.id for one in prepared.resources if isinstance(one, Package)] == ["package:ffmpeg"]


def test_without_packages_no_package_manager_is_asked() -> None:
    assert not [one for one in state_of().resources if isinstance(one, Package)]
