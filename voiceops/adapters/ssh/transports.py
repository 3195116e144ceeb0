"""The way to a host of the inventory, from its Ansible variables."""

from __future__ import annotations

from pathlib import Path

from voiceops.adapters.process.local import LocalTransport
from voiceops.adapters.ssh.config import ssh_arguments
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.model.settings import Host
from voiceops.ports import Transport

_SUDO = ("ansible_become_password", "ansible_become_pass", "ansible_sudo_pass")
_LOGIN = ("ansible_ssh_password", "ansible_ssh_pass", "ansible_password")


def transport_to(host: Host, *, accept_new: bool = False) -> Transport:
    """Not connected yet. ``accept_new``: write the key of a host seen for the first time to known_hosts."""
    if host.local:
        return LocalTransport(host.name, sudo_password=_secret(host, _SUDO))
    key_file = host.vars.get("ansible_ssh_private_key_file") or host.vars.get("ansible_private_key_file")
    arguments = ssh_arguments(host.vars)
    return SshTransport(
        SshTarget(
            name=host.name,
            address=host.address,
            user=host.user,
            port=host.port,
            key_file=Path(str(key_file)) if key_file else None,
            password=_secret(host, _LOGIN),
            sudo_password=_secret(host, _SUDO),
            accept_new=accept_new,
            ssh_config=arguments.config_file,
            options=arguments.options,
        )
    )


def _secret(host: Host, names: tuple[str, ...]) -> Secret | None:
    for name in names:
        value = host.vars.get(name)
        if value is None or value == "":
            continue
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ConfigError(f"{host.name}: {name} is no text")
        return Secret(value)
    return None
