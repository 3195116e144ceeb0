"""Opening one Fabric connection the careful way. Imported on first use: Fabric costs 0.2 s."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

from voiceops.adapters.ssh.config import read_text
from voiceops.adapters.ssh.errors import UnknownHostKeyError
from voiceops.adapters.ssh.fabric_import import fabric, paramiko
from voiceops.adapters.ssh.target import SshTarget

_USER_FILE = Path("~/.ssh/known_hosts")
_SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")
LOST_AFTER = 4
"""Keepalives without an answer."""
_WRITING = threading.Lock()
# Without a handler Python prints Paramiko's tracebacks on stderr; its errors reach us as exceptions.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class VerifiedConnection(fabric.Connection):  # type: ignore[misc]
    """A Fabric connection that knows whom it talks to. Its jump hosts are checked as well."""

    def __init__(self, host: str, *, target: SshTarget, **options: object) -> None:
        # Set before Fabric takes over attributes: its __init__ asks get_gateway().
        object.__setattr__(self, "_target", target)
        super().__init__(host, **options)
        self.client = paramiko.SSHClient()
        files = known_hosts_files(target, self.ssh_config)
        for file in files:
            if file.exists():
                self.client.load_system_host_keys(str(file))
        accept_new = target.accept_new or self.ssh_config.get("stricthostkeychecking") == "accept-new"
        self.client.set_missing_host_key_policy(_HostKeyPolicy(target.name, files[0], accept_new=accept_new))
        timeout_s = float(self.ssh_config.get("connecttimeout") or target.connect_timeout_s)
        self.connect_timeout: int | None = max(1, int(timeout_s))
        self.connect_kwargs.update(
            banner_timeout=timeout_s, auth_timeout=timeout_s, channel_timeout=timeout_s
        )

    def get_gateway(self) -> object:
        """As Fabric's, with every hop checked."""
        jumps = self.ssh_config.get("proxyjump", "")
        if not jumps or jumps == "none":
            return self.ssh_config.get("proxycommand") or self.config.gateway
        gateway: VerifiedConnection | None = None
        for hop in jumps.split(","):
            if self.derive_shorthand(hop)["host"] == self.host:
                return None  # a wildcard entry that names its own jump host
            target = object.__getattribute__(self, "_target")
            kwargs: dict[str, object] = {"gateway": gateway} if gateway else {"gateway": False}
            gateway = VerifiedConnection(
                hop, target=target, config=self.config, connect_kwargs=_login(target), **kwargs
            )
        return gateway

    def close(self) -> None:
        """Close the connection and its socket; safe to call twice, and after the connection was lost."""
        super().close()
        # Fabric leaves alone what is not connected: a jump host whose key was refused, the socket of an ssh-agent.
        self.client.close()
        if isinstance(self.gateway, fabric.Connection):
            self.gateway.close()


class _HostKeyPolicy(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuse an unknown key, or write it down where that was asked for."""

    def __init__(self, name: str, file: Path, *, accept_new: bool) -> None:
        self._name = name
        self._file = file
        self._accept_new = accept_new

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if not self._accept_new:
            digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
            raise UnknownHostKeyError(self._name, hostname, key.get_name(), f"SHA256:{digest}")
        line = f"{hostname} {key.get_name()} {key.get_base64()}\n"
        with _WRITING:  # many hosts at once, one file
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)


def known_hosts_files(target: SshTarget, ssh_config: Any) -> list[Path]:
    """Those of the target, else those that ssh_config names, else ssh's own."""
    if target.known_hosts:
        return list(target.known_hosts)
    named = [
        *ssh_config.get("userknownhostsfile", "").split(),
        *ssh_config.get("globalknownhostsfile", "").split(),
    ]
    if named:
        return [Path(name).expanduser() for name in named]
    return [_USER_FILE.expanduser(), _SYSTEM_FILE]


def connect(target: SshTarget) -> VerifiedConnection:
    """Open the connection; Paramiko's errors pass through."""
    connection = VerifiedConnection(
        target.address,
        target=target,
        user=target.user,
        port=target.port,
        config=_config(target),
        connect_kwargs=_login(target),
    )
    if not connection.gateway:
        timeout_s = connection.connect_kwargs["banner_timeout"]
        sock = _socket(connection.host, connection.port, timeout_s, target.keepalive_s)
        connection.connect_kwargs["sock"] = sock
        connection.connect_timeout = None
    try:
        connection.open()
    except BaseException:
        connection.close()
        raise
    connection.transport.set_keepalive(target.keepalive_s)
    return connection


def _socket(host: str, port: int, timeout_s: float, keepalive_s: int) -> socket.socket:
    # As bytes: for text, Python imports the tables of international names first.
    address: Any = host.encode() if host.isascii() else host
    sock = socket.create_connection((address, port), timeout_s)
    # The handshake is small messages to and fro: Nagle would hold each back for 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # ssh's keepalive only sends. Unanswered for so long, the kernel gives the connection up, after 15 min else.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER * keepalive_s * 1000)
    sock.settimeout(None)
    return sock


def _login(target: SshTarget) -> dict[str, Any]:
    kwargs: dict[str, object] = {}
    if target.key_file is not None:
        kwargs.update(key_filename=[str(target.key_file.expanduser())], look_for_keys=False)
    if target.password is not None:
        kwargs["password"] = target.password.reveal()
    return kwargs


def _config(target: SshTarget) -> fabric.Config:
    """ssh_config honoured; Fabric's own configuration files are not asked."""
    ssh_config = paramiko.SSHConfig.from_text(read_text(target.ssh_config, target.options))
    return fabric.Config(ssh_config=ssh_config, system_prefix="/nonexistent/", user_prefix="/nonexistent/")
