"""A project of several roles on test hosts: Redis, two livekit-servers, agents, and a watcher."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from tests.support import hosts, parts
from tests.support.servers import IN_THREADS, Servers, agent_servers

ROLES = {
    "store": ["redis"],
    "media": ["livekit"],
    "agents": ["agent"],
    "watch": ["watch"],
}
REDIS_PASSWORD = "password-of-redis-that-nobody-may-see-0008"
_WATCH = """\
import sys, time, urllib.error, urllib.request
while True:
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:
            print("livekit answers", answer.status, flush=True)
    except urllib.error.URLError as error:
        print("livekit fails", error, flush=True)
    time.sleep(1)
"""


def bring_redis(machine: hosts.Machine) -> None:
    """Debian's redis-server and redis-cli with their libraries: the host has no internet."""
    for tool in ("redis-server", "redis-cli"):
        program = shutil.which(tool)
        if program is None:
            parts.missing(tool, "install Debian's redis-server")
        machine.copy_in(Path(os.path.realpath(program)), f"/usr/bin/{tool}", mode=0o755)
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            name, _, rest = line.strip().partition(" => ")
            path = rest.partition(" (")[0]
            if path and machine.shell(f"test -e {path}", check=False).returncode:
                machine.copy_in(Path(path), f"/usr/local/lib/{name}")
    machine.shell("ldconfig")


def role_servers(folder: Path, machines: Sequence[hosts.Machine], entry: Path) -> Servers:
    """``machines``: one for Redis, two for LiveKit, one to watch, the rest for agents."""
    store, first, second, watch, *agents = machines
    redis = f"{store.address}:6379"
    livekit = {
        "kind": "livekit",
        "public": True,
        "binary": str(parts.livekit_server_binary()),
        "redis": redis,
        "needs": ["redis"],
        "config": {"redis": {"password": {"env": "REDIS_PASSWORD"}}},
    }
    servers = agent_servers(folder, machines, entry)
    servers.variables["services"] = {
        "redis": {
            "kind": "redis",
            "address": store.address,
            "peers": ["localhost", f"{store.address.rpartition('.')[0]}.0/24"],
        },
        "livekit": livekit,
        "agent": {"kind": "agent", "entry": "agent/agent.py", "env": dict(IN_THREADS)},
        "watch": {
            "kind": "command",
            "command": ["/usr/bin/python3", "-c", _WATCH, f"http://{first.address}:7880"],
            "needs": ["livekit"],
        },
    }
    servers.env["REDIS_PASSWORD"] = REDIS_PASSWORD
    servers.variables["deploy"] |= {"schedule": False}
    servers.variables["livekit"]["url"] = f"ws://{first.address}:7880"
    for node in (first, second):
        servers.host_variables[node.name] = {
            "livekit": {"url": f"ws://{node.address}:7880"},
            "services": {"livekit": {"node_ip": node.address}},
        }
    for agent, node in zip(agents, cycle((first, second))):
        servers.host_variables[agent.name] = {"livekit": {"url": f"ws://{node.address}:7880"}}
    servers.groups = {
        "store": [store],
        "media": [first, second],
        "watch": [watch],
        "agents": list(agents),
    }
    servers.group_variables = {name: {"run": run} for name, run in ROLES.items()}
    servers.write()
    return servers
