"""Paramiko's, the socket's and the resolver's errors as ours, the most specific first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from voiceops.errors import CredentialsError, UnreachableError, VoiceopsError


class UnknownHostKeyError(CredentialsError):
    """The host's key stands in no known_hosts file."""

    def __init__(self, host: str, address: str, kind: str, fingerprint: str) -> None:
        super().__init__(
            f"{host}: its key is not in known_hosts ({kind} {fingerprint})",
            hint=f"compare the fingerprint, then `ssh-keyscan -H {address} >> ~/.ssh/known_hosts`, or --accept-new",
            data={"host": host, "fingerprint": fingerprint},
        )


class ShellRefusalError(CredentialsError):
    """The login works, and its shell runs no commands: nologin, a menu, or a forced command."""

    def __init__(self, host: str, user: str, said: str) -> None:
        super().__init__(
            f"{host}: the login shell of {user} runs no commands",
            hint=f"give {user} a shell there: `usermod --shell /bin/bash {user}`; if it has one, "
            "look for ForceCommand in sshd_config and command= in authorized_keys",
            log_tail=tuple(line for line in said.splitlines() if line.strip())[-5:],
            data={"host": host, "user": user},
        )


def connection_lost(host: str) -> UnreachableError:
    return UnreachableError(f"{host}: the connection was lost", retryable=True, data={"host": host})


@contextmanager
def translated(host: str, address: str) -> Iterator[None]:
    """Raise every foreign error of the block as one of ours."""
    try:
        yield
    except (VoiceopsError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - all of it is translated
        raise translate(error, host, address) from None


def translate(error: Exception, host: str, address: str) -> UnreachableError:
    """The error that says what failed and what to do about it."""
    from paramiko import ssh_exception as ssh

    data = {"host": host, "address": address}
    try_it = f"is the host up, and does `ssh {address}` work? ansible_host and ansible_port say where it is"
    if isinstance(error, ssh.BadHostKeyException):
        return CredentialsError(
            f"{host}: its key changed: known_hosts has another one for {address}",
            hint=f"if you know why, `ssh-keygen -R {address}`; else somebody may be in between",
            data=data,
        )
    if isinstance(error, ssh.PasswordRequiredException):
        return CredentialsError(
            f"{host}: the key has a passphrase", hint="add it to your agent first: `ssh-add`", data=data
        )
    if isinstance(error, (ssh.AuthenticationException, ssh.BadAuthenticationType)):
        return CredentialsError(
            f"{host}: refuses the login",
            hint=f"does `ssh {address}` work? check ansible_user and the key",
            data=data,
        )
    if isinstance(error, ssh.ChannelException):
        return UnreachableError(
            f"{host}: refuses a session, also on a connection of its own ({error})",
            hint="raise MaxSessions in its sshd_config: `sshd -T | grep maxsessions` there shows it",
            data=data,
        )
    if isinstance(error, ssh.NoValidConnectionsError):
        return UnreachableError(
            f"{host}: nothing accepts connections at {address}", hint=try_it, retryable=True, data=data
        )
    if isinstance(error, ssh.ProxyCommandFailure):
        return UnreachableError(
            f"{host}: the proxy command failed", hint="check ansible_ssh_common_args", data=data
        )
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return UnreachableError(
            f"{host}: no answer from {address} in time", hint=try_it, retryable=True, data=data
        )
    if isinstance(error, (ssh.SSHException, EOFError)):
        said = str(error) or "the connection ended during the handshake"
        if "No authentication methods" in said:  # Paramiko has no type for it
            return CredentialsError(f"{host}: there is no key to log in with", hint="`ssh-add -l`", data=data)
        return UnreachableError(f"{host}: {said}", hint=try_it, retryable=True, data=data)
    if isinstance(error, socket.gaierror):
        return UnreachableError(
            f"{host}: the name {address} can't be resolved",
            hint="correct the name, or set ansible_host to an address",
            data=data,
        )
    if isinstance(error, OSError):
        said = error.strerror or str(error)
        return UnreachableError(f"{host}: {said} ({address})", hint=try_it, retryable=True, data=data)
    return UnreachableError(f"{host}: {type(error).__name__}: {error}", hint=try_it, data=data)
