"""Test hosts as voiceops reaches them."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.support import hosts
from voiceops.adapters.ssh.target import SshTarget


def target(machine: hosts.Machine, **changes: Any) -> SshTarget:
    made = SshTarget(
        name=machine.name,
        address=machine.address,
        user="deploy",
        key_file=machine.key_path,
        known_hosts=(machine.known_hosts,),
        connect_timeout_s=5.0,
    )
    return dataclasses.replace(made, **changes)
