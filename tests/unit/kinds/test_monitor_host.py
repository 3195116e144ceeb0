"""The monitor of a server: what it knows of its host, and what its unit may do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS
from tests.support.projects import REPOSITORY
from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.kinds.monitor import MonitorService
from voiceops.kinds.monitor_host import SecretReferences, host_inventory, monitor_units
from voiceops.model.quoting import json_for_yaml
from voiceops.model.secret import Secret
from voiceops.model.settings import AlertSettings, HistorySettings, Settings
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter

CHANNELS = ["slack://aaaaaaaaa/bbbbbbbbb/cccccccccccc", "json://example.com/hidden"]


def declared() -> Settings:
    return msgspec.structs.replace(
        SETTINGS,
        services={**SETTINGS.services, "monitor": MonitorService(webhook_port=7893)},
        alerts=AlertSettings(channels=[Secret(one) for one in CHANNELS]),
        history=HistorySettings(keep_days=7.0),
    )


def test_the_inventory_of_a_host_loads_there_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = SecretReferences()
    text = json_for_yaml(host_inventory(declared(), secrets), indent=1)
    for secret in ("hidden", "s" * 32, *CHANNELS):
        assert secret not in text, "what is world-readable has no secret in it"
    (tmp_path / "inventory.yaml").write_text(text)
    (tmp_path / "tasks.py").touch()
    for name, value in secrets.environment.items():
        monkeypatch.setenv(name, value)
    host = Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine()
    read, wanted = host.settings, declared()
    assert host.local
    assert {name: (one.role, one.restart, one.agent_name) for name, one in read.running.items()} == {
        name: (one.role, one.restart, one.agent_name) for name, one in wanted.running.items()
    }
    assert read.running["agent"].max_concurrent_jobs == 3
    assert read.running["monitor"].webhook_port == 7893
    assert (read.livekit.url, read.livekit.api_secret.reveal()) == (wanted.livekit.url, "s" * 32)
    assert [one.reveal() for one in read.alerts.channels] == CHANNELS
    assert (read.rooms, read.history.keep_days) == (wanted.rooms, 7.0)


def test_a_host_without_livekit_needs_no_keys() -> None:
    def missing() -> str:
        raise AssertionError("nobody has set it")

    key = Secret.of("env", "LIVEKIT_API_KEY", missing)
    livekit = msgspec.structs.replace(SETTINGS.livekit, api_key=key, api_secret=key)
    services = {"web": SETTINGS.services["web"], "monitor": MonitorService()}
    settings = msgspec.structs.replace(SETTINGS, livekit=livekit, services=services)
    secrets = SecretReferences()
    host_inventory(settings, secrets)
    assert secrets.environment == {}


def test_only_the_helper_runs_as_root_and_without_any_capability() -> None:
    writer = UnitWriter(HostNames("frontdesk"), [REPOSITORY / "templates"])
    unit, socket, helper = monitor_units(
        writer, "monitor", MonitorService(), python="/opt/python", folder="/etc/frontdesk/monitor"
    )
    assert "\nUser=vo-frontdesk\n" in unit.text
    assert "User=" not in helper.text
    assert "\nCapabilityBoundingSet=\n" in helper.text
    assert "Environment=HOME" not in helper.text
    assert "EnvironmentFile" not in helper.text
    assert "\nSocketMode=0660\n" in socket.text
    assert {unit.name, socket.name, helper.name} == {
        "frontdesk-monitor.service",
        "frontdesk-monitor-restart.socket",
        "frontdesk-monitor-restart@.service",
    }


def test_the_environment_of_a_host_has_what_its_monitor_imports_and_no_more() -> None:
    settings = msgspec.structs.replace(declared(), alerts=AlertSettings())
    service = settings.services["monitor"]
    assert kinds.kind_of(service).requirements(service, settings) == ()
    assert kinds.kind_of(service).requirements(service, declared()) == ("apprise",)
    database = HistorySettings(url=Secret("postgresql://u:p@db/x"))
    settings = msgspec.structs.replace(settings, history=database)
    assert kinds.kind_of(service).requirements(service, settings) == ("sqlalchemy", "pg8000")
