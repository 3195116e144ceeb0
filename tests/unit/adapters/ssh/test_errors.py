"""No foreign error gets through: each becomes one of ours with the right exit code."""

from __future__ import annotations

import socket

import paramiko
import pytest
from paramiko import ssh_exception

from voiceops.adapters.ssh.errors import translate, translated
from voiceops.errors import ConfigError, CredentialsError, UnreachableError

KEY = paramiko.ECDSAKey.generate()
REFUSED: list[Exception] = [
    ssh_exception.AuthenticationException("no"),
    ssh_exception.PasswordRequiredException("locked"),
    ssh_exception.BadAuthenticationType("no", ["publickey"]),
    ssh_exception.PartialAuthentication(["password"]),
    ssh_exception.UnableToAuthenticate([]),
    ssh_exception.BadHostKeyException("web", KEY, KEY),
    ssh_exception.SSHException("No authentication methods available"),
]
UNREACHABLE: list[Exception] = [
    ssh_exception.SSHException("Error reading SSH protocol banner"),
    ssh_exception.ChannelException(4, "Resource shortage"),
    ssh_exception.ProxyCommandFailure("nc", "gone"),
    ssh_exception.NoValidConnectionsError({("10.0.0.1", 22): ConnectionRefusedError()}),
    ssh_exception.ConfigParseError("bad"),
    ssh_exception.CouldNotCanonicalize("web"),
    ssh_exception.IncompatiblePeer("old"),
    ssh_exception.MessageOrderError("wrong"),
    EOFError(),
    socket.gaierror(-2, "Name or service not known"),
    TimeoutError(),
    ConnectionRefusedError(111, "Connection refused"),
    OSError(101, "Network is unreachable"),
    ValueError("whatever comes next"),
]


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_refused_credentials_are_told_apart(error: Exception) -> None:
    translated = translate(error, "web", "10.0.0.1")
    assert isinstance(translated, CredentialsError)
    assert translated.hint


@pytest.mark.parametrize("error", UNREACHABLE, ids=lambda error: type(error).__name__)
def test_everything_else_is_unreachable_and_names_the_host(error: Exception) -> None:
    translated = translate(error, "web", "10.0.0.1")
    assert isinstance(translated, UnreachableError)
    assert not isinstance(translated, CredentialsError)
    assert translated.exit_code == 5
    assert translated.message.startswith("web: ")
    assert translated.hint


def test_no_error_of_paramiko_is_forgotten() -> None:
    known = {type(error) for error in (*REFUSED, *UNREACHABLE)}
    there = {
        kind
        for kind in vars(ssh_exception).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and kind.__module__ == ssh_exception.__name__
    }
    assert there - known == set()


def test_an_error_of_ours_stays_what_it_is() -> None:
    with pytest.raises(ConfigError, match="there is no ssh_config"), translated("web1", "10.0.0.1"):
        raise ConfigError("there is no ssh_config x")
