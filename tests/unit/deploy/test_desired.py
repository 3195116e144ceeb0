"""What a host gets, from settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.projects import REPOSITORY
from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.deploy.desired import CLEANUP, DeployInputs, HostState, desired_state
from voiceops.deploy.wheelhouse import Wheelhouse
from voiceops.kinds.command import CommandService
from voiceops.kinds.letta import LettaService
from voiceops.kinds.livekit import LivekitService
from voiceops.kinds.postgres import PostgresService
from voiceops.model.secret import Secret
from voiceops.model.settings import DeploySettings, LivekitSettings, ServiceBase, Settings
from voiceops.resources import File, Package, Venv
from voiceops.systemd.names import HostNames


def _never(*_: object) -> NoReturn:
    raise AssertionError("a command needs neither wheels nor programs")


def state_of(**deploy: Any) -> HostState:
    """The host of a project with one command."""
    materials = DeployInputs(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv={},
        wheels=_never,
        locked_wheels=_never,
        ready_script=b"",
    )
    services: dict[str, ServiceBase] = {"web": CommandService(command=["/bin/sleep", "1000"])}
    settings = Settings(project="frontdesk", services=services, deploy=DeploySettings(**deploy))
    return desired_state(settings, materials)


def test_the_inventory_that_a_host_cleans_its_rooms_with_loads_whatever_its_url(tmp_path: Path) -> None:
    materials = DeployInputs(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv={},
        wheels=lambda: Wheelhouse(requirements="", files={}, uv="uv.whl"),
        locked_wheels=_never,
        ready_script=b"",
    )
    livekit = LivekitSettings(
        url="ws://livekit.example.com:7880", insecure=True, api_key=Secret("key"), api_secret=Secret("s" * 32)
    )
    settings = Settings(
        project="frontdesk",
        livekit=livekit,
        services={"livekit": LivekitService(public=True, binary="/bin/true")},
    )
    (file,) = [
        one
        for one in desired_state(settings, materials).resources
        if isinstance(one, File) and one.path.endswith("/schedule/inventory.yaml")
    ]
    with file.contents()[0].open() as content:
        (tmp_path / "inventory.yaml").write_bytes(content.read())
    assert (
        Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine().settings.livekit.url
        == livekit.url
    )


def test_packages_come_before_everything_and_their_daemons_stay_off() -> None:
    first = state_of(packages=["redis-server", "ffmpeg"]).resources[0]
    assert first == Package(names=["redis-server", "ffmpeg"], daemons=False)
    assert first.id == "package:redis-server,ffmpeg"


def test_packages_are_part_of_what_setup_prepares() -> None:
    prepared = state_of(packages=["ffmpeg"]).prepared()
    assert [one.id for one in prepared.resources if isinstance(one, Package)] == ["package:ffmpeg"]


def test_without_packages_no_package_manager_is_asked() -> None:
    assert not [one for one in state_of().resources if isinstance(one, Package)]


def cleaned_state(url: str) -> HostState:
    """A host with LiveKit and the timer that cleans its rooms."""
    materials = DeployInputs(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv={},
        wheels=lambda: Wheelhouse(requirements="", files={}, uv="uv.whl"),
        locked_wheels=_never,
        ready_script=b"",
    )
    services: dict[str, ServiceBase] = {"livekit": LivekitService(public=True, binary="/bin/true")}
    settings = Settings(project="frontdesk", services=services, livekit=LivekitSettings(url=url))
    return desired_state(settings, materials)


def test_nothing_that_root_manages_lies_where_services_can_write() -> None:
    paths = [str(getattr(one, "path", "")) for one in cleaned_state("ws://127.0.0.1:7880").resources]
    assert HostNames("frontdesk").schedule in paths
    assert [path for path in paths if path.startswith(HostNames("frontdesk").data + "/")] == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("ws://127.0.0.1:7880", ["localhost", "127.0.0.1"]),
        ("ws://localhost:7880", ["localhost"]),
        ("ws://[fd00::1]:7880", ["localhost", "fd00::1"]),
        ("wss://lk.example.com", []),
    ],
)
def test_the_cleanup_talks_to_livekit_alone_where_its_address_is_known(url: str, allowed: list[str]) -> None:
    unit = f"/etc/systemd/system/{HostNames('frontdesk').unit(CLEANUP)}"
    (text,) = [
        str(one.content) for one in cleaned_state(url).resources if isinstance(one, File) and one.path == unit
    ]
    assert [
        line.partition("=")[2] for line in text.splitlines() if line.startswith("IPAddressAllow")
    ] == allowed
    assert ("IPAddressDeny=any\n" in text) == bool(allowed)


def test_letta_runs_in_an_environment_of_its_own(tmp_path: Path) -> None:
    asked: list[Path] = []

    def locked(lock: Path) -> Wheelhouse:
        asked.append(lock)
        return Wheelhouse(requirements="letta==0.16.8\n", files={}, uv="uv.whl")

    materials = DeployInputs(
        root=Path("/nowhere"),
        templates=(REPOSITORY / "templates",),
        dotenv={},
        wheels=_never,
        locked_wheels=locked,
        ready_script=b"",
    )
    services: dict[str, ServiceBase] = {
        "postgres": PostgresService(password=Secret("store")),
        "letta": LettaService(password=Secret("token")),
    }
    made = desired_state(Settings(project="frontdesk", services=services), materials).resources
    (venv,) = (one for one in made if isinstance(one, Venv))
    assert venv.path == "/opt/frontdesk/letta/0.16.8"
    assert {path.name for path in asked} == {"letta.lock"}
    units = {one.path: str(one.content) for one in made if isinstance(one, File)}
    unit = units["/etc/systemd/system/frontdesk-letta.service"]
    (started,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert f"/opt/frontdesk/letta/0.16.8-{venv.digest}/bin/python" in started
    assert "/opt/frontdesk/bin/letta-program" in started
    assert "token" not in unit
