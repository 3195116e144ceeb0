"""From settings to programs, and when a service counts as changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declaration_context, declare, named, with_service
from voiceops.errors import ConfigError
from voiceops.kinds.model import DeclarationContext
from voiceops.model.secret import Secret
from voiceops.model.settings import LivekitSettings
from voiceops.stack.declare import outline


@pytest.fixture
def context(tmp_path: Path) -> DeclarationContext:
    return declaration_context(tmp_path)


def test_no_service_gets_more_of_dotenv_than_its_kind_reads_and_it_names(context: DeclarationContext) -> None:
    before = {one.name: one for one in declare(SETTINGS, context)}
    for declared in before.values():
        assert not {"CRM_TOKEN", "SUDO_PASSWORD"} & set(declared.env), declared.name
    for name in before:
        after = named(declare(with_service(name, env_from=["CRM_*"]), context), name)
        assert (after.env["CRM_TOKEN"], "SUDO_PASSWORD" in after.env) == ("crm", False)
        assert after.digest != before[name].digest


def test_a_log_that_names_a_withheld_variable_hints_at_env_from(context: DeclarationContext) -> None:
    web = named(declare(SETTINGS, context), "web")
    assert web.missing_variable(["KeyError: 'CRM_TOKEN'"]) == (
        "CRM_TOKEN stands in .env, but web does not get it: add env_from: [CRM_TOKEN] to the service"
    )
    assert web.missing_variable(["MY_CRM_TOKEN_2 is wrong", "no variable"]) is None
    given = named(declare(with_service("web", env_from=["CRM_TOKEN"]), context), "web")
    assert given.missing_variable(["KeyError: 'CRM_TOKEN'"]) is None


def test_a_name_in_env_from_that_is_set_nowhere_is_a_configuration_error(context: DeclarationContext) -> None:
    with pytest.raises(ConfigError, match="CRM_TOKEM") as refused:
        declare(with_service("web", env_from=["CRM_TOKEM"]), context)
    assert refused.value.path == "services.web"


def test_secrets_show_in_no_repr(context: DeclarationContext) -> None:
    assert "hidden" not in repr(declare(SETTINGS, context))
    assert "s" * 32 not in repr(declare(SETTINGS, context))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("livekit", {"rtc_udp_port": 1}),
        ("livekit", {"version": "9.9.9"}),
        ("agent", {"drain_timeout_s": 1.0}),
        ("agent", {"env": {"X": "1"}}),
        ("web", {"command": ["web", "-v"]}),
        ("web", {"env": {"TOKEN": Secret("other")}}),
    ],
)
def test_a_change_of_one_service_changes_its_digest_and_no_other(
    context: DeclarationContext, name: str, changes: dict[str, Any]
) -> None:
    before = {service.name: service.digest for service in declare(SETTINGS, context)}
    after = {service.name: service.digest for service in declare(with_service(name, **changes), context)}
    assert {key for key in before if before[key] != after[key]} == {name}


def test_looking_at_services_fetches_no_secret(context: DeclarationContext) -> None:
    def fetch() -> str:
        raise AssertionError("fetched")

    livekit = LivekitSettings(api_key=Secret.of("env", "A", fetch), api_secret=Secret.of("env", "B", fetch))
    services = outline(msgspec.structs.replace(SETTINGS, livekit=livekit), context.root)
    assert [service.name for service in services] == ["livekit", "agent", "web"]
