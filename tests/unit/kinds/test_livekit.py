"""The kind ``livekit``: livekit.yaml, ports, digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.support.declarations import SETTINGS, declare, named, with_service
from voiceops.errors import ConfigError
from voiceops.kinds.livekit import KIND, LivekitService
from voiceops.kinds.model import DeclarationContext
from voiceops.model.secret import Secret
from voiceops.model.settings import Settings
from voiceops.stack.declare import outline
from voiceops.systemd.names import HostNames
from voiceops.systemd.units import UnitWriter

WRITER = UnitWriter(HostNames("frontdesk"), [Path(__file__).resolve().parents[3] / "templates"])


def server_config(settings: Settings, context: DeclarationContext) -> dict[str, Any]:
    prepare = named(declare(settings, context), "livekit").prepare
    assert prepare is not None
    argv = prepare()
    assert argv[0] == "/bin/true"
    path = Path(argv[2])
    assert path.stat().st_mode & 0o777 == 0o600
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def test_the_server_stays_on_loopback_and_sends_nobody_to_public_stun(context: DeclarationContext) -> None:
    config = server_config(SETTINGS, context)
    assert config["port"] == 7890
    assert config["bind_addresses"] == ["127.0.0.1"]
    assert config["keys"] == {"key": "s" * 32}
    assert config["rtc"]["stun_servers"] == ["127.0.0.1:3478"]
    assert config["rtc"]["node_ip"] == "127.0.0.1"
    assert config["rtc"]["use_external_ip"] is False


def test_a_public_server_finds_or_is_told_its_address(context: DeclarationContext) -> None:
    config = server_config(with_service("livekit", public=True, redis="r:6379"), context)
    assert "bind_addresses" not in config
    assert config["rtc"]["use_external_ip"] is True
    assert config["redis"] == {"address": "r:6379"}
    config = server_config(with_service("livekit", public=True, node_ip="203.0.113.7"), context)
    assert (config["rtc"]["node_ip"], config["rtc"]["use_external_ip"]) == ("203.0.113.7", False)


def test_own_configuration_is_merged_over_the_template(context: DeclarationContext) -> None:
    extra: dict[str, object] = {"rtc": {"tcp_port": 1}, "room": {"max_participants": 9}}
    config = server_config(with_service("livekit", config=extra), context)
    assert config["rtc"]["tcp_port"] == 1
    assert config["rtc"]["udp_port"] == 7882
    assert config["room"] == {"max_participants": 9}


def test_a_secret_of_the_servers_configuration_is_written_and_changes_its_digest(
    context: DeclarationContext,
) -> None:
    config: dict[str, object] = {"redis": {"password": Secret("one")}, "turn": {"keys": [Secret("two")]}}
    written = server_config(with_service("livekit", config=config), context)
    assert (written["redis"], written["turn"]) == ({"password": "one"}, {"keys": ["two"]})
    before = named(declare(with_service("livekit", config=config), context), "livekit")
    config = {**config, "redis": {"password": Secret("other")}}
    assert named(declare(with_service("livekit", config=config), context), "livekit").digest != before.digest


def test_only_a_public_server_listens_for_media_over_tcp(context: DeclarationContext) -> None:
    assert server_config(SETTINGS, context)["rtc"]["tcp_port"] == 0
    assert named(outline(SETTINGS, context.root), "livekit").ports == (7890,)
    public = with_service("livekit", public=True)
    assert server_config(public, context)["rtc"]["tcp_port"] == 7881
    assert named(outline(public, context.root), "livekit").ports == (7890, 7881)


@pytest.mark.parametrize(
    ("service", "cluster"),
    [
        (LivekitService(), ""),
        (LivekitService(redis="one:6379"), "one:6379"),
        (LivekitService(config={"redis": {"address": "two:6379"}}), "two:6379"),
        (LivekitService(redis="one:6379", config={"redis": {"password": Secret("p")}}), "one:6379"),
    ],
)
def test_nodes_that_share_a_redis_are_a_cluster_whichever_setting_names_it(
    service: LivekitService, cluster: str
) -> None:
    assert service.cluster == cluster
    assert KIND.as_monitored(service).get("redis", "") == cluster


def with_keys(**pairs: str) -> Settings:
    """Settings with these keys: ``api="a", next_api="b"``; each secret is its key, repeated."""
    secrets = {f"{which}_key": Secret(key) for which, key in pairs.items()}
    secrets |= {f"{which}_secret": Secret(key * 32) for which, key in pairs.items()}
    livekit = msgspec.structs.replace(SETTINGS.livekit, **secrets)
    return msgspec.structs.replace(SETTINGS, livekit=livekit)


def test_both_keys_of_a_rotation_are_accepted_and_which_is_in_use_changes_nothing(
    context: DeclarationContext,
) -> None:
    before, after = with_keys(api="b", next_api="a"), with_keys(api="a", previous_api="b")
    assert server_config(before, context)["keys"] == {"a": "a" * 32, "b": "b" * 32}
    assert server_config(after, context) == server_config(before, context)
    digests = {named(declare(one, context), "livekit").digest for one in (before, after)}
    assert len(digests) == 1
    alone = named(declare(with_keys(api="a"), context), "livekit").digest
    assert alone not in digests


def test_a_template_of_ones_own_that_leaves_a_key_out_is_refused(context: DeclarationContext) -> None:
    own = context.root / "templates" / "livekit.yaml"
    own.parent.mkdir()
    own.write_text("port: {{ port }}\nkeys:\n  {{ api_key }}: {{ api_secret }}\n")
    assert server_config(with_keys(api="a"), context)["keys"] == {"a": "a" * 32}
    with pytest.raises(ConfigError, match="1 of the keys"):
        server_config(with_keys(api="a", next_api="b"), context)
