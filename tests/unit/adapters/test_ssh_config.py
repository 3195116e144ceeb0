"""ssh arguments and ssh_config, as far as they mean something here."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.adapters.ssh_config import options_of, read_text
from voiceops.errors import ConfigError


def test_the_usual_ansible_ssh_arguments_are_understood() -> None:
    arguments = "-o ProxyJump=jump@10.0.0.1 -oUserKnownHostsFile=/k -i '/my key' -o 'ConnectTimeout 5'"
    assert options_of(arguments) == {
        "ProxyJump": "jump@10.0.0.1",
        "UserKnownHostsFile": "/k",
        "IdentityFile": "/my key",
        "ConnectTimeout": "5",
    }


@pytest.mark.parametrize("arguments", ["-o StrictHostKeyChecking=no", "-v", "-o", "--", "-o ProxyJump=a\nb"])
def test_an_argument_that_would_be_ignored_is_an_error(arguments: str) -> None:
    with pytest.raises(ConfigError):
        options_of(arguments)


def test_includes_are_spelled_out_and_options_come_first(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b").write_text("User second")
    (tmp_path / "d/a").write_text("User first\n")
    (tmp_path / "config").write_text("Include d/*\nHost x\n  Port 1\n")
    text = read_text(tmp_path / "config", {"User": "option"})
    assert text.index("option") < text.index("first") < text.index("second\n") < text.index("Host x")


def test_a_file_that_includes_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Include config\n")
    with pytest.raises(ConfigError, match="includes itself"):
        read_text(tmp_path / "config", {})
