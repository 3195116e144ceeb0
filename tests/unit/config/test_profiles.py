"""The profiles of ``inv init``: what their inventories declare, and on which ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops import kinds
from voiceops.config import scaffold
from voiceops.config.project import Configuration
from voiceops.config.project_ports import ProjectPorts, default_ports
from voiceops.errors import UsageError
from voiceops.model.settings import Settings

KEYS = "LIVEKIT_API_KEY=key\nLIVEKIT_API_SECRET=a-secret-of-32-characters-or-more\nLETTA_PASSWORD=x\n"


def made(folder: Path, profile: str, shift: int = 0) -> Settings:
    """The settings of a project of the profile on this machine."""
    ports = ProjectPorts(default_ports(scaffold.sample_inventory(profile), kinds), shift)
    scaffold.write(folder, scaffold.plan("shop", ports, profile) | {".env": KEYS}, force=False)
    (host,) = Configuration.read(folder / "inventory.yaml", kinds).select(
        host="localhost", group="", limit=""
    )
    return host.settings


def test_the_profile_letta_is_seven_services_in_the_order_of_their_needs(tmp_path: Path) -> None:
    settings = made(tmp_path, "letta")
    assert {name: service.kind for name, service in settings.running.items()} == {
        "postgres": "postgres",
        "letta": "letta",
        "livekit": "livekit",
        "agent": "agent",
        "web": "web",
        "cors": "web",
        "monitor": "monitor",
    }
    assert settings.services["agent"].needs == {"livekit": "ready", "letta": "started"}
    uses = default_ports(scaffold.sample_inventory("letta"), kinds)
    assert {use.port for use in uses if use.protocol == "TCP"} >= {5432, 8283, 7880, 8888, 9000}
    assert "LettaClient" in (tmp_path / "agent" / "agent.py").read_text()


@pytest.mark.parametrize("profile", scaffold.PROFILES)
def test_a_second_project_gets_other_ports_everywhere(tmp_path: Path, profile: str) -> None:
    settings = made(tmp_path, profile, shift=70)
    written = (tmp_path / "inventory.yaml").read_text()
    for use in default_ports(scaffold.sample_inventory(profile), kinds):
        assert use.port + 70 in {
            one.port
            for name, service in settings.services.items()
            for one in kinds.kind_of(service).ports(name, service, settings)
        }
    assert "127.0.0.1:7880" not in written
    assert "127.0.0.1:8283" not in written


def test_a_profile_that_there_is_not_names_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match="no profile 'leta'") as refused:
        scaffold.sample_inventory("leta")
    assert refused.value.hint == "did you mean 'letta'?"
    with pytest.raises(UsageError) as refused:
        scaffold.sample_inventory("../../etc")
    assert refused.value.hint == "known here: agent, letta"
