"""A voiceops project whose hosts are test machines, driven by the command line as a user would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import hosts, parts
from tests.support.command_folder import CommandFolder, environment_of_user
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Answer
from voiceops.model.quoting import json_for_yaml

PROJECT = "frontdesk"
IN_THREADS = {"TONE_JOBS": "thread"}
"""Environment of an agent that is up after half of the work: for tests that are not about the processes of jobs."""
BARE_HOST_S = 300.0
"""What the first deploy of an agent to a bare host may take on a full machine: it builds the environment there."""


@dataclass(slots=True)
class Servers(CommandFolder):
    """One project folder; ``variables`` are those of ``all``."""

    machines: Sequence[hosts.Machine]
    variables: dict[str, Any]
    host_variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[hosts.Machine]] = field(default_factory=dict)
    """Children of the group ``servers``, which is all of them."""
    group_variables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self) -> None:
        """Write inventory.yaml; call it again after changing variables. JSON is YAML."""
        machine = self.machines[0]
        reached = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(machine.key_path),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={machine.known_hosts} -o ConnectTimeout=5",
        }
        listed = {
            one.name: {"ansible_host": one.address, **self.host_variables.get(one.name, {})}
            for one in self.machines
        }
        children = {
            name: {"hosts": {one.name: None for one in machines}, "vars": self.group_variables.get(name, {})}
            for name, machines in self.groups.items()
        }
        servers = {"hosts": listed, "children": children}
        inventory = {"all": {"vars": reached | self.variables, "children": {"servers": servers}}}
        (self.folder / "inventory.yaml").write_text(json_for_yaml(inventory, indent=1))

    def environment(self) -> dict[str, str]:
        keys = {"LIVEKIT_API_KEY": API_KEY, "LIVEKIT_API_SECRET": API_SECRET}
        return environment_of_user() | keys | self.env

    def inv(self, *arguments: str, code: int | None = 0, timeout_s: float = 110) -> Answer:
        """Run one command; ``code`` is what it has to exit with (None: any)."""
        done = self.run(*arguments, timeout_s=timeout_s)
        assert code is None or done.returncode == code, (
            f"inv {' '.join(arguments)} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return Answer(done.returncode, done.stdout, done.stderr, arguments)

    def deploy(self, *arguments: str, code: int | None = 0, timeout_s: float = 110) -> Any:
        """Deploy to all hosts; the JSON document."""
        return self.inv(
            "deploy", "--group", "servers", "--json", *arguments, code=code, timeout_s=timeout_s
        ).json


def agent_servers(
    folder: Path, machines: Sequence[hosts.Machine], entry: Path, **services: dict[str, Any]
) -> Servers:
    """LiveKit and an agent on each host; callers reach the first one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "agent").mkdir()
    (folder / "agent" / "agent.py").write_text(entry.read_text())
    address = machines[0].address
    declared: dict[str, Any] = {
        "livekit": {
            "kind": "livekit",
            "public": True,
            "node_ip": address,
            "binary": str(parts.livekit_server_binary()),
        },
        "agent": {"kind": "agent", "entry": "agent/agent.py", "needs": ["livekit"], "env": dict(IN_THREADS)},
    }
    return _made(folder, machines, address, declared | services)


def cheap_servers(folder: Path, machines: Sequence[hosts.Machine], **services: dict[str, Any]) -> Servers:
    """Only commands: no wheels, up in a second."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _made(folder, machines, "127.0.0.1", services or {"web": sleeper()})
    made.variables["deploy"]["schedule"] = False
    made.write()
    return made


def sleeper(**settings: Any) -> dict[str, Any]:
    """A service that stays up."""
    return {"kind": "command", "command": ["/bin/sleep", "1000"], **settings}


def _made(folder: Path, machines: Sequence[hosts.Machine], address: str, services: dict[str, Any]) -> Servers:
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    variables = {
        "project": PROJECT,
        "livekit": {
            "url": f"ws://{address}:7880",
            "api_key": {"env": "LIVEKIT_API_KEY"},
            "api_secret": {"env": "LIVEKIT_API_SECRET"},
        },
        "services": services,
        "deploy": {"settle_s": 1.0},
    }
    made = Servers(folder=folder, machines=machines, variables=variables)
    made.write()
    return made
