"""The kind ``redis``: never without a password, on loopback, its data in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.support.declarations import SETTINGS, declare, named
from voiceops.errors import ConfigError
from voiceops.kinds.model import DeclarationContext
from voiceops.kinds.redis import RedisService
from voiceops.model.secret import Secret
from voiceops.model.settings import Settings
from voiceops.wiring.project import Project


def with_redis(**changes: object) -> Settings:
    settings = {"password": Secret('p"w $HOME'), **changes}
    services = {**SETTINGS.services, "redis": RedisService(**settings)}  # type: ignore[arg-type]
    return msgspec.structs.replace(SETTINGS, services=services)


def test_its_configuration_has_the_password_as_it_is_and_listens_on_loopback(
    context: DeclarationContext,
) -> None:
    declared = named(declare(with_redis(), context), "redis")
    assert declared.prepare is not None
    assert "redis-server" in declared.prepare()
    lines = (context.config_folder / "redis.conf").read_text().splitlines()
    assert 'requirepass "p\\"w $HOME"' in lines
    assert "bind 127.0.0.1" in lines
    assert declared.cwd == context.root / ".voiceops" / "data" / "redis"
    assert declared.cwd.stat().st_mode & 0o777 == 0o700


def test_a_changed_password_is_another_configuration(context: DeclarationContext) -> None:
    before = named(declare(with_redis(), context), "redis").digest
    assert named(declare(with_redis(), context), "redis").digest == before
    assert named(declare(with_redis(password=Secret("other")), context), "redis").digest != before


def project(folder: Path, settings: str) -> Project:
    (folder / "inventory.yaml").write_text(
        f"all: {{vars: {{project: p, services: {{my-store: {{kind: redis{settings}}}}}}}}}\n"
    )
    return Project.load(inventory=str(folder / "inventory.yaml"))


@pytest.mark.parametrize("settings", ["", ", password: null", ', password: ""'])
def test_a_password_that_nobody_has_set_is_made_up_once(
    tmp_path: Path, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_STORE_PASSWORD", raising=False)
    said: list[str] = []
    assert project(tmp_path, settings).ensure_local_keys(said.append) == ("MY_STORE_PASSWORD",)
    (service,) = project(tmp_path, settings).hosts[0].settings.services.values()
    assert isinstance(service, RedisService)
    assert len(service.password.reveal()) == 43
    assert project(tmp_path, settings).ensure_local_keys(said.append) == ()
    assert len(said) == 1


def test_an_address_is_an_ip_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no IP address") as refused:
        project(tmp_path, ", address: store.example.com")
    assert refused.value.line == 1
