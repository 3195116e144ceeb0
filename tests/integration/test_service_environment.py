"""What really is in the environment of each service, and what a stack on loopback listens on."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import live, parts, stacks
from tests.support.servers import IN_THREADS
from voiceops.adapters.process import processes

pytestmark = pytest.mark.timeout(480)
DOTENV = {
    "SUDO_PASSWORD": "sudo-password-of-the-tests",
    "INDEX_URL": "https://me:index-password-of-the-tests@index.example/simple",
    "CRM_TOKEN": "crm-token-of-the-tests",
    "CRM_URL": "crm-url-of-the-tests",
    "DEEPGRAM_API_KEY": "deepgram-key-of-the-tests",
}
SHELL = {"AWS_SECRET_ACCESS_KEY": "aws-key-of-the-tests", "BILLING_TOKEN": "billing-token-of-the-tests"}
KEYS = {"LIVEKIT_API_KEY": live.API_KEY, "LIVEKIT_API_SECRET": live.API_SECRET}


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """A real stack with a full ``.env`` and a full shell; the variables of each service's process."""
    folder = tmp_path_factory.mktemp("environment") / "project"
    (folder / "agent").mkdir(parents=True)
    shutil.copy(stacks.REPOSITORY / "tests/integration/agents/tone.py", folder / "agent" / "agent.py")
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in (DOTENV | KEYS).items()))
    server: dict[str, Any] = {
        "kind": "livekit",
        "binary": str(parts.livekit_server_binary()),
        "rtc_tcp_port": parts.free_port(),
        "rtc_udp_port": parts.free_port(socket.SOCK_DGRAM),
    }
    services: dict[str, dict[str, Any]] = {
        "livekit": server,
        "agent": {"kind": "agent", "entry": "agent/agent.py", "env_from": ["CRM_*"], "env": dict(IN_THREADS)},
        **stacks.cheap_services(["web"], env_from=["CRM_URL", "BILLING_TOKEN"]),
        **stacks.cheap_services(["bare"]),
    }
    url = f"ws://127.0.0.1:{parts.free_port()}"
    with (
        pytest.MonkeyPatch.context() as shell,
        stacks.project(folder, services, livekit={"url": url}) as made,
    ):
        for name, value in SHELL.items():
            shell.setenv(name, value)
        started = made.json("start")["hosts"]["localhost"]["services"]
        pids = {name: one["pids"][0] for name, one in started.items()}
        yield {name: environment_of(pid) for name, pid in pids.items()} | {
            "listeners": listeners(pids["livekit"])
        }


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process was started with, and those of its children."""
    found: dict[str, str] = {}
    family = [pid, *(one.pid for one in processes.descendants(pid, processes.table()))]
    for member in family:
        for entry in Path(f"/proc/{member}/environ").read_bytes().split(b"\0"):
            name, _, value = entry.decode(errors="replace").partition("=")
            found.setdefault(name, value)
    return found


def listeners(pid: int) -> dict[str, str]:
    """TCP sockets on which a process listens, IPv6 too: inode to address as /proc has it."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            own.add(target[8:-1])
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in own:
                found[fields[9]] = f"{table} {fields[1].partition(':')[0]}"
    return found


def test_a_service_gets_what_its_kind_reads_and_it_names_and_nothing_else(
    environments: dict[str, dict[str, str]],
) -> None:
    secrets = DOTENV | SHELL | KEYS
    got = {
        name: {key for key in secrets if environments[name].get(key) is not None}
        for name in ("livekit", "agent", "web", "bare")
    }
    assert got == {
        "livekit": set(),
        "agent": {*KEYS, "CRM_TOKEN", "CRM_URL", "DEEPGRAM_API_KEY"},
        "web": {"CRM_URL", "BILLING_TOKEN"},
        "bare": set(),
    }
    assert environments["agent"]["CRM_TOKEN"] == DOTENV["CRM_TOKEN"]
    assert environments["web"]["BILLING_TOKEN"] == SHELL["BILLING_TOKEN"]


def test_a_service_has_what_any_program_of_the_session_needs(
    environments: dict[str, dict[str, str]],
) -> None:
    for name in ("livekit", "agent", "bare"):
        assert environments[name]["PATH"] == os.environ["PATH"]
        assert environments[name]["HOME"] == os.environ["HOME"]


def test_a_server_that_is_not_public_listens_on_loopback_only(
    environments: dict[str, dict[str, str]],
) -> None:
    # 127.0.0.1 as the kernel prints it; nothing in tcp6.
    assert list(environments["listeners"].values()) == ["tcp 0100007F"]


def test_a_service_that_ends_for_want_of_a_variable_of_dotenv_says_how_to_give_it(tmp_path: Path) -> None:
    program = "import os, time; os.environ['CRM_TOKEN']; print('ready', flush=True); time.sleep(1000)"
    services: dict[str, dict[str, Any]] = {
        "crm": {"kind": "command", "command": [sys.executable, "-c", program], "probe": {"log": "^ready"}}
    }
    with stacks.project(tmp_path / "project", services) as made:
        (made.folder / ".env").write_text("CRM_TOKEN=x\nOTHER=y\n")
        failed = made.json("start", code=1)
        assert "add env_from: [CRM_TOKEN] to the service" in json.dumps(failed)
        services["crm"]["env_from"] = ["CRM_TOKEN"]
        stacks.write_inventory(made.folder, services)
        assert made.json("start")["ok"] is True
