"""The kind ``monitor``: what it needs, when it counts as changed, and what it adds to livekit.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from tests.support.declarations import SETTINGS, declare, named
from tests.support.units import command_unit
from voiceops.errors import ConfigError
from voiceops.kinds.caddy import CaddyService
from voiceops.kinds.command import CommandService
from voiceops.kinds.livekit import LivekitService, render, variables
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.monitor import MonitorService
from voiceops.kinds.monitor_host import SecretReferences, host_inventory
from voiceops.kinds.web import WebService
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings, RoomsSettings, ServiceBase, Settings
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter
from voiceops.wiring.project import Project


def monitored(**changes: object) -> Settings:
    services = {**SETTINGS.services, "monitor": MonitorService(needs=["livekit"], **changes)}  # type: ignore[arg-type]
    return msgspec.structs.replace(SETTINGS, services=services)


def test_it_needs_nothing_since_it_has_to_run_while_its_livekit_does_not(context: DeclarationContext) -> None:
    assert named(declare(monitored(), context), "monitor").needs == ()


def test_it_counts_as_changed_when_what_it_watches_does(context: DeclarationContext) -> None:
    before = named(declare(monitored(), context), "monitor").digest
    assert named(declare(monitored(), context), "monitor").digest == before
    other = msgspec.structs.replace(monitored(), rooms=RoomsSettings(stale_after_s=1.0))
    assert named(declare(other, context), "monitor").digest != before


@pytest.mark.parametrize(("port", "urls"), [(7883, ["http://127.0.0.1:7883/livekit"]), (None, None)])
def test_livekit_sends_its_webhooks_where_the_monitor_takes_them(
    context: DeclarationContext, port: int | None, urls: list[str] | None
) -> None:
    settings = monitored(webhook_port=port)
    service = settings.services["livekit"]
    assert isinstance(service, LivekitService)
    text = render(context.template("livekit.yaml"), variables(service, settings), {})
    webhook = yaml.safe_load(text).get("webhook")
    assert (webhook and webhook["urls"]) == urls
    assert (webhook and webhook["api_key"]) == (urls and settings.livekit.api_key.reveal())


@pytest.mark.parametrize(
    ("policy", "line"), [("always", "always"), ("on-failure", "on-failure"), ("never", "no")]
)
def test_the_restart_policy_is_systemd_s_on_servers(
    context: DeclarationContext, policy: str, line: str
) -> None:
    writer = UnitWriter(HostNames("frontdesk"), [context.template("livekit.yaml").parent])
    service = CommandService(command=["/bin/true"], restart=policy)  # type: ignore[arg-type]
    assert f"\nRestart={line}\n" in command_unit(writer, "x", service, cwd="/").text


def test_a_stack_without_a_livekit_needs_no_keys(context: DeclarationContext) -> None:
    def missing() -> str:
        raise ConfigError("LIVEKIT_API_KEY is not set")

    key = Secret.of("env", "LIVEKIT_API_KEY", missing)
    settings = Settings(
        project="test",
        livekit=LivekitSettings(api_key=key, api_secret=key),
        services={"monitor": MonitorService()},
    )
    (declared,) = declare(settings, context)
    assert declared.digest


def test_the_monitor_of_a_server_reads_conditions_and_one_shots(tmp_path: Path) -> None:
    services: dict[str, ServiceBase] = {
        "page": WebService(),
        "task": CommandService(command=["/bin/task"], oneshot=True, restart="on-failure"),
        "api": CommandService(command=["/bin/api"], needs={"page": "healthy", "task": "completed"}),
    }
    said = host_inventory(Settings(project="test", services=services), SecretReferences())
    (tmp_path / "inventory.yaml").write_text(json.dumps(said))
    (host,) = Project.load(inventory=str(tmp_path / "inventory.yaml")).hosts
    seen = host.settings.services
    assert (seen["task"].oneshot, seen["task"].restart_policy) == (True, "on-failure")
    assert seen["api"].need_conditions == {"page": "ready", "task": "completed"}


def test_the_monitor_of_a_server_knows_whose_certificate_to_look_at(tmp_path: Path) -> None:
    services: dict[str, ServiceBase] = {
        "page": WebService(),
        "caddy": CaddyService(domain="voice.example.com", port=8443, http_port=8080, address="127.0.0.1"),
    }
    said = host_inventory(Settings(project="test", services=services), SecretReferences())
    (tmp_path / "inventory.yaml").write_text(json.dumps(said))
    (host,) = Project.load(inventory=str(tmp_path / "inventory.yaml")).hosts
    assert host.settings.services["caddy"].https_site == services["caddy"].https_site is not None
