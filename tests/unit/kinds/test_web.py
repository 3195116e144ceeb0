"""The kind ``web``: on loopback by itself, keys by its environment only, and what it refuses to start with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named
from voiceops.errors import ConfigError
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.web import WebService
from voiceops.model.secret import Secret
from voiceops.model.settings import PortUse, Settings
from voiceops.model.web import OPERATORS_TOKEN_ENV, SETTINGS_ENV, WebSettings
from voiceops.wiring.project import Project


def with_page(**changes: object) -> Settings:
    services = {**SETTINGS.services, "page": WebService(**changes)}  # type: ignore[arg-type]
    return msgspec.structs.replace(SETTINGS, services=services)


def started_with(context: DeclarationContext, **changes: object) -> WebSettings:
    declared = named(declare(with_page(**changes), context), "page")
    return msgspec.json.decode(declared.env[SETTINGS_ENV], type=WebSettings)


def test_it_serves_on_loopback_and_calls_the_only_agent(context: DeclarationContext) -> None:
    own = started_with(context)
    assert (own.address, own.port, own.cors_port) == ("127.0.0.1", 8888, None)
    assert (own.livekit_url, own.browser_url, own.agent_name) == (
        "ws://127.0.0.1:7890",
        "ws://127.0.0.1:7890",
        "bob",
    )


def test_its_keys_are_in_its_environment_and_nowhere_else(context: DeclarationContext) -> None:
    settings = with_page(operators_token=Secret("t" * 20))
    declared = named(declare(settings, context), "page")
    assert declared.env["LIVEKIT_API_SECRET"] == "s" * 32
    assert declared.env[OPERATORS_TOKEN_ENV] == "t" * 20
    shown = (*declared.argv, declared.env[SETTINGS_ENV])
    assert not [one for one in shown if "s" * 32 in one or "t" * 20 in one]
    other = msgspec.structs.replace(SETTINGS.livekit, api_secret=Secret("o" * 32))
    changed = named(declare(msgspec.structs.replace(settings, livekit=other), context), "page")
    assert changed.digest != declared.digest


def test_without_a_page_its_only_port_is_the_one_for_other_origins(context: DeclarationContext) -> None:
    service = WebService(port=9000, page=False, origins=["https://example.com"])
    declared = named(
        declare(with_page(port=9000, page=False, origins=["https://example.com"]), context), "page"
    )
    assert declared.ports == (9000,)
    own = started_with(context, port=9000, page=False, origins=["https://example.com"])
    assert (own.port, own.cors_port, service.page_port) == (9000, 9000, None)


def test_for_other_origins_it_has_a_second_port(context: DeclarationContext) -> None:
    settings = with_page(origins=["https://example.com"])
    declared = named(declare(settings, context), "page")
    assert declared.ports == (8888, 9000)
    own = started_with(context, origins=["https://example.com"], trusted_proxies=["localhost", "10.0.0.2"])
    assert (own.cors_port, own.origins) == (9000, ("https://example.com",))
    assert own.trusted_proxies == ("127.0.0.0/8", "10.0.0.2/32")


def test_a_public_page_says_where_browsers_reach_livekit(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="browsers elsewhere can't reach LiveKit") as refused:
        started_with(context, public=True)
    assert refused.value.path == "services.page.livekit_url"
    own = started_with(context, public=True, livekit_url="wss://livekit.example.com")
    assert (own.address, own.browser_url) == ("0.0.0.0", "wss://livekit.example.com")


def test_a_short_operators_token_is_refused(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="shorter than 16"):
        started_with(context, operators_token=Secret("short"))


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ('origins: ["https://example.com/page"]', "no origin"),
        ('origins: ["example.com"]', "must start with http://"),
        ('origins: ["https://Example.com"]', "no origin"),
        ("trusted_proxies: [proxy]", "no peer"),
        ("livekit_url: example.com", "must start with ws://"),
        ('origins: ["https://example.com"], cors_port: 8888', "own port"),
        ("requests_per_minute: 0", "requests_per_minute"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(tmp_path: Path, setting: str, mistake: str) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(f"all: {{vars: {{project: p, services: {{page: {{kind: web, {setting}}}}}}}}}\n")
    with pytest.raises(ConfigError, match=mistake) as refused:
        Project.load(inventory=str(inventory))
    assert refused.value.line == 1


def test_its_port_is_known_to_whoever_looks_for_a_free_one() -> None:
    settings = with_page(port=8899)
    uses = [PortUse("TCP", 8899, ("services", "page", "port"))]
    from voiceops.kinds import kind_of

    service = settings.services["page"]
    assert list(kind_of(service).ports("page", service, settings)) == uses
