"""Alert channels in an inventory: what Apprise knows, and where a mistake stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from apprise.manager_plugins import NotificationManager

from voiceops import kinds
from voiceops.config.alert_schemes import ALERT_SCHEMES
from voiceops.config.project import Configuration
from voiceops.errors import ConfigError

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_schemes_are_those_of_the_locked_apprise() -> None:
    assert set(NotificationManager().schemas()) == ALERT_SCHEMES  # type: ignore[no-untyped-call]


def read(folder: Path, alerts: str) -> None:
    text = f"all:\n  vars:\n    project: p\n    alerts:\n      {alerts}\n  hosts: {{localhost: {{ansible_connection: local}}}}\n"
    (folder / "inventory.yaml").write_text(text)
    Configuration.read(folder / "inventory.yaml", kinds)


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ('channels: ["slakc://secret-token/channel"]', "there is no alert channel 'slakc'"),
        ('channels: ["secret-token"]', "this is no URL of a channel"),
        (f"{{webhook_url: 'ftp://host/x', webhook_key: {KEY}}}", "must start with https://, http://"),
        (f"{{webhook_url: 'http://example.com/x', webhook_key: {KEY}}}", "unencrypted"),
        ("{webhook_url: 'https://example.com/x', webhook_key: short}", "at least 16 characters"),
        ("webhook_url: https://example.com/x", "webhook_key is empty"),
        (f"webhook_key: {KEY}", "webhook_url is empty"),
        ("window_s: -1", "more than 0"),
        ("answer_rate: 1.5", "from 0 to 1|to 1"),
        ("max_rooms: 0", "1 or more"),
    ],
)
def test_a_mistake_is_named_with_file_and_line_and_without_the_token(
    tmp_path: Path, alerts: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, alerts)
    assert "inventory.yaml:5: " in str(caught.value) or "inventory.yaml:4: " in str(caught.value)
    assert "secret-token" not in f"{caught.value} {caught.value.hint}"


def test_good_channels_are_accepted(tmp_path: Path) -> None:
    read(
        tmp_path,
        f"{{channels: ['slack://a/b/c', {{env: SLACK}}], webhook_url: 'https://example.com/x', webhook_key: {KEY}}}",
    )
