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
REDIS = "/usr/local/bin/redis-server"
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
    """Debian's redis-server with its libraries: the host has no internet."""
    program = shutil.which("redis-server")
    if program is None:
        parts.missing("redis-server", "install Debian's redis-server")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    machine.copy_in(Path(os.path.realpath(program)), REDIS, mode=0o755)
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
            "kind": "command",
            # As docs/deploy.md has it: the password by standard input.
            "command": [
                "/bin/sh",
                "-c",
                f"exec {REDIS} - --bind {store.address} --save '' << END\nrequirepass $REDIS_PASSWORD\nEND",
            ],
            "env": {"REDIS_PASSWORD": {"env": "REDIS_PASSWORD"}},
            "probe": {"tcp": redis},
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
