"""The kind ``caddy``: one https address for page and LiveKit, which the page is told of; low ports by a capability alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named
from voiceops.errors import ConfigError
from voiceops.kinds.caddy import KIND, CaddyService
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.web import WebService
from voiceops.model.settings import PortUse, Settings
from voiceops.model.web import SETTINGS_ENV, WebSettings
from voiceops.wiring.project import Project


def with_caddy(**changes: object) -> Settings:
    caddy = CaddyService(**{"domain": "voice.example.com", **changes})  # type: ignore[arg-type]
    services = {**SETTINGS.services, "page": WebService(port=8999), "caddy": caddy}
    return msgspec.structs.replace(SETTINGS, services=services)


def configuration(context: DeclarationContext, **changes: object) -> str:
    declared = named(declare(with_caddy(**changes), context), "caddy")
    assert declared.prepare is not None
    declared.prepare()
    return (context.config_folder / "caddy.caddyfile").read_text()


def test_it_passes_on_to_the_page_and_livekits_signalling(context: DeclarationContext) -> None:
    text = configuration(context)
    assert "https://voice.example.com {" in text
    assert "reverse_proxy 127.0.0.1:8999" in text
    assert "@livekit path /rtc /rtc/*" in text
    assert "reverse_proxy 127.0.0.1:7890" in text
    assert "tls internal" not in text
    assert "\ttls internal\n" in configuration(context, tls="internal")


def test_addresses_in_which_callers_have_tokens_are_not_logged(context: DeclarationContext) -> None:
    assert "exclude http.log.error" in configuration(context)


@pytest.mark.parametrize(
    ("port", "url"), [(443, "wss://voice.example.com"), (8443, "wss://voice.example.com:8443")]
)
def test_the_page_sends_browsers_to_it_and_believes_what_it_says(
    context: DeclarationContext, port: int, url: str
) -> None:
    declared = named(declare(with_caddy(port=port), context), "page")
    own = msgspec.json.decode(declared.env[SETTINGS_ENV], type=WebSettings)
    assert (own.browser_url, own.address) == (url, "127.0.0.1")
    assert own.trusted_proxies == ("127.0.0.0/8",)


def test_its_ports_are_known_to_clash(context: DeclarationContext) -> None:

    settings = with_caddy()
    caddy = settings.services["caddy"]
    assert isinstance(caddy, CaddyService)
    assert list(KIND.ports("caddy", caddy, settings)) == [
        PortUse("TCP", 443, ("services", "caddy", "port")),
        PortUse("TCP", 80, ("services", "caddy", "http_port")),
    ]


@pytest.mark.parametrize(
    "settings",
    [
        "domain: 'a b'",
        "domain: 'x.test {\\n}'",
        "domain: voice.test, email: 'me'",
        "domain: voice.test, tls: none",
        "domain: voice.test, port: 80",
        "port: 443",
    ],
)
def test_what_it_can_not_serve_is_refused(tmp_path: Path, settings: str) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text(f"all: {{vars: {{project: p, services: {{caddy: {{kind: caddy, {settings}}}}}}}}}\n")
    with pytest.raises(ConfigError) as error:
        Project.load(inventory=str(file))
    assert "inventory.yaml:1" in error.value.message


def test_without_a_page_it_says_which_service_to_name(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="name the service of kind web"):
        declare(with_caddy(serves="other"), context)
