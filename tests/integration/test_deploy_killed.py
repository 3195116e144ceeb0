"""A deployer that is killed at any moment: the next deploy ends as if the first had never been cut."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import hosts
from tests.support.servers import PROJECT, agent_servers

TONE = Path(__file__).parent / "agents" / "tone.py"
AGENTS = f"'{PROJECT}-agent@*.service'"


def agents_that_run(host: hosts.Machine) -> dict[str, str]:
    """Unit to main pid, of all agents that run or drain."""
    shown = host.shell(f"systemctl show -p Id,MainPID {AGENTS}").stdout
    units = [dict(line.partition("=")[::2] for line in text.splitlines()) for text in shown.split("\n\n")]
    return {one["Id"]: one["MainPID"] for one in units if one.get("MainPID", "0") != "0"}


@pytest.mark.timeout(480)
def test_a_deployer_killed_at_12_moments_ends_as_if_it_had_run_once(
    tmp_path: Path, prepared_host: hosts.Machine
) -> None:
    servers = agent_servers(tmp_path / "project", [prepared_host], TONE)
    servers.variables["services"]["agent"]["drain_timeout_s"] = 5
    servers.write()
    servers.deploy("--no-call")
    chance = random.Random(int(os.environ.get("VOICEOPS_TEST_SEED", "11")))
    entry = servers.folder / "agent" / "agent.py"
    for number in range(12):
        # A new release each time, with an upload of its own: moments hit files, uploads, starts, overlaps.
        entry.write_text(f"{TONE.read_text()}\nTURN = {number}\n")
        (entry.parent / "voice.bin").write_bytes(chance.randbytes(2 << 20))
        process = servers.spawn("deploy", "--group", "servers", "--no-call")
        with contextlib.suppress(subprocess.TimeoutExpired):  # still running: that is when it is killed
            process.wait(chance.uniform(0.3, 2.6))
        process.kill()
        process.communicate()
    document = servers.deploy()
    assert document["call"]["ok"] is True
    assert servers.deploy()["changed_count"] == 0
    listed = servers.inv("releases", "--group", "servers", "--json").json["hosts"][prepared_host.name]
    release = listed["current"]["agent"]["release"]
    assert "TURN = 11" in prepared_host.shell(f"cat /opt/{PROJECT}/releases/{release}/*.py").stdout
    states = prepared_host.shell(f"systemctl show -p Id,ActiveState,SubState {AGENTS}").stdout
    serving = [text for text in states.split("\n\n") if "ActiveState=active" in text]
    assert len(serving) == 1, states
    assert release in serving[0]
    assert "ActiveState=activating" not in states
    wanted = prepared_host.shell("ls /etc/systemd/system/multi-user.target.wants").stdout.split()
    assert [one for one in wanted if "agent" in one] == [f"{PROJECT}-agent@{release}.service"]
    litter = f"find / -xdev -name '*.voiceops-tmp' -o -xdev -path '/var/lib/{PROJECT}/blobs/*'"
    assert prepared_host.shell(litter).stdout == ""
    servers.inv("drift", "--group", "servers")
    _only_one_is_left(prepared_host)


def _only_one_is_left(host: hosts.Machine, timeout_s: float = 30) -> None:
    """Those that drain have no calls: they end by themselves."""
    ends_at = time.monotonic() + timeout_s
    while len(agents_that_run(host)) > 1:
        assert time.monotonic() < ends_at, json.dumps(agents_that_run(host))
        time.sleep(0.2)
