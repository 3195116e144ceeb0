"""The kind ``command``: its folder, and its unit by probe, port and peers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.declarations import declare, with_service
from tests.support.units import command_unit
from voiceops.errors import ConfigError
from voiceops.kinds.command import CommandService
from voiceops.kinds.model import DeclarationContext
from voiceops.model.settings import Probe
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter

WRITER = UnitWriter(HostNames("frontdesk"), [Path(__file__).resolve().parents[3] / "templates"])


def test_a_folder_that_is_missing_is_a_configuration_error(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        declare(with_service("web", cwd="nowhere"), context)


def test_only_a_service_that_notifies_is_waited_for_by_notification() -> None:
    notifies = CommandService(command=["/bin/true"], probe=Probe(notify=True))
    assert "Type=notify\n" in command_unit(WRITER, "x", notifies, cwd="/").text
    assert "Type=exec\n" in command_unit(WRITER, "x", CommandService(command=["/bin/true"]), cwd="/").text


def test_a_port_and_a_probe_are_asked_for_by_one_program() -> None:
    service = CommandService(
        command=["/bin/true"], port=80, probe=Probe(tcp="127.0.0.1:80"), ready_timeout_s=7
    )
    text = command_unit(WRITER, "x", service, cwd="/").text
    said = 'ExecStartPost="/opt/frontdesk/bin/voiceops-ready" "--timeout-s" "7" "--port" "80" "--tcp" "127.0.0.1:80"\n'
    assert said in text
    assert (
        "ExecStartPost" not in command_unit(WRITER, "x", CommandService(command=["/bin/true"]), cwd="/").text
    )


def test_only_a_service_with_peers_is_kept_from_all_others() -> None:
    def told(peers: list[str] | None) -> list[str]:
        text = command_unit(WRITER, "x", CommandService(command=["/bin/true"], peers=peers), cwd="/").text
        return [line for line in text.splitlines() if line.startswith("IPAddress")]

    assert told(None) == []
    assert told([]) == ["IPAddressDeny=any"]
    assert told(["localhost", "10.0.0.0/8"]) == [
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=10.0.0.0/8",
    ]
