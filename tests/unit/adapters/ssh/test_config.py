"""ssh arguments and ssh_config, as far as they mean something here."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.adapters.ssh.config import read_text, ssh_arguments
from voiceops.errors import ConfigError


def test_the_usual_ansible_ssh_arguments_are_understood() -> None:
    arguments = "-o ProxyJump=jump@10.0.0.1 -oUserKnownHostsFile=/k -i '/my key' -o 'ConnectTimeout 5'"
    assert ssh_arguments({"ansible_ssh_common_args": arguments}).options == {
        "ProxyJump": "jump@10.0.0.1",
        "UserKnownHostsFile": "/k",
        "IdentityFile": "/my key",
        "ConnectTimeout": "5",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "-o StrictHostKeyChecking=no",
            "-o StrictHostKeyChecking=off",
            "-v",
            "-o",
            "--",
            "-F",
            "-L 1:a:1",
            "'",
        ),
        *("-o ProxyJump='a\nb'", "-o LocalCommand=id", "-o HostKeyAlias=x"),
    ],
)
def test_an_argument_that_would_be_ignored_is_an_error(arguments: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ssh_arguments({"ansible_ssh_common_args": arguments})
    assert refused.value.path == "ansible_ssh_common_args"


def test_what_means_nothing_to_one_connection_is_named_as_ignored() -> None:
    arguments = (
        "-C -o ControlMaster=auto -o ControlPersist=60s -oControlPath=/tmp/%r -A -o ServerAliveInterval=30 -q"
    )
    found = ssh_arguments(
        {"ansible_ssh_common_args": arguments, "ansible_ssh_extra_args": "-o controlmaster=no"}
    )
    assert found.options == {}
    assert found.ignored == (
        *("ControlMaster", "Compression", "ControlPersist", "ControlPath"),
        *("ForwardAgent", "ServerAliveInterval", "LogLevel"),
    )


def test_a_configuration_file_a_user_a_port_and_the_checking_of_host_keys() -> None:
    arguments = "-F ~/work.conf -p 2222 -l deploy -o StrictHostKeyChecking=accept-new"
    found = ssh_arguments({"ansible_ssh_common_args": arguments, "ansible_ssh_extra_args": "-p 22"})
    assert found.config_file == Path("~/work.conf").expanduser()
    assert found.options == {"Port": "22", "User": "deploy", "StrictHostKeyChecking": "accept-new"}
    assert ssh_arguments({"ansible_ssh_common_args": "-F none"}).config_file == Path("/dev/null")


def test_a_configuration_file_that_is_named_and_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no ssh_config"):
        read_text(tmp_path / "missing", {})


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
