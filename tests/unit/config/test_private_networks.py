"""Unencrypted URLs are for loopback and private networks; what is private is judged without DNS."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops import kinds
from voiceops.config.checks import is_private_url
from voiceops.config.project import Configuration
from voiceops.errors import ConfigError


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.8.9.1",
            "localhost",
            "[::1]",
            "0.0.0.0",
            "10.0.0.5",
            "172.31.255.1",
            "192.168.1.2",
        ),
        *(
            "169.254.1.1",
            "[fd00::1]",
            "[fe80::1%25eth0]",
            "[::ffff:10.0.0.1]",
            "livekit",
            "nas.local",
            "a.internal",
        ),
    ],
)
def test_private(host: str) -> None:
    assert is_private_url(f"ws://{host}:7880")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "8.8.8.8",
            "172.32.0.1",
            "192.0.2.1",
            "203.0.113.7",
            "100.64.0.1",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
        ),
        *("livekit.example.com", "local.example.com", "10.0.0.5.example.com", "localhost.example.com"),
    ],
)
def test_public(host: str) -> None:
    assert not is_private_url(f"ws://{host}:7880")


def read(folder: Path, livekit: str) -> Configuration:
    (folder / "inventory.yaml").write_text(
        f"all:\n  vars:\n    project: p\n    livekit:\n{livekit}  hosts: {{web1: {{}}}}\n"
    )
    return Configuration.read(folder / "inventory.yaml", kinds)


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_an_unencrypted_public_url_is_refused_with_its_line(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(ConfigError, match="unencrypted") as refused:
        read(tmp_path, f"      url: {scheme}://livekit.example.com:7880\n")
    assert (refused.value.line, refused.value.path) == (5, "livekit.url")
    assert refused.value.hint is not None
    assert "livekit.insecure: true" in refused.value.hint


@pytest.mark.parametrize(
    "livekit",
    [
        "      url: wss://livekit.example.com\n",
        "      url: ws://10.1.2.3:7880\n",
        "      url: ws://livekit.example.com:7880\n      insecure: true\n",
    ],
)
def test_an_encrypted_private_or_accepted_url_loads(tmp_path: Path, livekit: str) -> None:
    assert read(tmp_path, livekit).this_machine().settings.livekit.url in livekit
