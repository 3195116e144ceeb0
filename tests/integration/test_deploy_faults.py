"""Deploys to real hosts with faults: what failed is said, what served goes on, and the next run fixes it.

With commands, which are up at once. What agents do: test_deploy_agents.py and test_deploy_releases.py.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts, parts
from tests.support.servers import PROJECT, Servers, cheap_servers, sleeper

UNIT = f"{PROJECT}-web.service"


@pytest.fixture
def servers(tmp_path: Path, fresh_host: hosts.Machine) -> Servers:
    return cheap_servers(tmp_path / "project", [fresh_host])


@pytest.fixture
def deployed(servers: Servers) -> Servers:
    servers.deploy()
    return servers


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, host: hosts.Machine) -> Servers:
    return cheap_servers(tmp_path_factory.mktemp("shared") / "project", [host])


@pytest.fixture
def standing(shared: Servers) -> Servers:
    """The declared state on one host for all, whatever the test before left."""
    shared.variables["services"] = {"web": sleeper()}
    shared.write()
    shared.deploy()
    return shared


def pid(host: hosts.Machine, unit: str = UNIT) -> str:
    return host.shell(f"systemctl show -P MainPID {unit}").stdout.strip()


def test_a_second_run_changes_nothing_and_restarts_nothing(standing: Servers, host: hosts.Machine) -> None:
    before = pid(host)
    assert standing.deploy()["changed_count"] == 0
    standing.inv("drift", "--group", "servers")
    standing.inv("deploy", "--group", "servers", "--check")
    assert pid(host) == before != "0"


def test_a_restart_loop_fails_the_deploy_with_its_cause_and_the_next_one_fixes_it(
    standing: Servers, host: hosts.Machine
) -> None:
    loop = sleeper(command=["/bin/sh", "-c", "echo no such table: calls; sleep 0.5; exit 1"])
    standing.variables["services"]["web"] = loop
    standing.write()
    failed = standing.inv("deploy", "--group", "servers", code=1)
    assert "no such table: calls" in failed.err
    standing.variables["services"]["web"] = sleeper()
    standing.write()
    standing.deploy()
    assert host.shell(f"systemctl is-active {UNIT}").stdout.strip() == "active"


def test_ssh_cut_between_configuration_and_restart_the_next_run_restarts(
    standing: Servers, host: hosts.Machine
) -> None:
    before = pid(host)
    standing.variables["services"]["web"] = sleeper(env={"COLOUR": "red"})
    standing.write()
    process = standing.spawn("deploy", "--group", "servers")
    try:
        _wait_until(lambda: "red" in host.shell(f"cat /etc/{PROJECT}/web.env").stdout)
        host.cut_sessions()
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    standing.deploy()
    after = pid(host)
    assert after != before
    assert "COLOUR=red" in host.shell(f"tr '\\0' '\\n' < /proc/{after}/environ").stdout


def test_two_deploys_at_once_one_waits_or_exits_4_naming_the_owner(
    servers: Servers, fresh_host: hosts.Machine
) -> None:
    servers.variables["deploy"]["settle_s"] = 4.0
    servers.write()
    first = servers.spawn("deploy", "--group", "servers")
    try:
        _wait_until(
            lambda: fresh_host.shell(f"systemctl is-active {UNIT}", check=False).stdout.strip() == "active"
        )
        refused = servers.inv("deploy", "--group", "servers", "--wait", "0", code=4)
        assert "locked by" in refused.err
        assert str(first.pid) in refused.err
        waited = servers.deploy()
        out, err = first.communicate(timeout=60)
        assert first.returncode == 0, out + err
    finally:
        first.kill()
        first.wait()
    assert waited["changed_count"] == 0


def state_of(host: hosts.Machine) -> str:
    """What a deploy could have changed, with when it was changed."""
    folders = f"/etc/{PROJECT} /opt/{PROJECT} /var/lib/{PROJECT} /etc/systemd/system"
    listed = host.shell(
        f"find {folders} ! -name 'payload-*' -printf '%p %C@ %s %m %u\\n' 2>/dev/null | sort; true"
    )
    return listed.stdout


def test_a_changed_host_key_is_refused(deployed: Servers, fresh_host: hosts.Machine) -> None:
    fresh_host.shell("rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
    deployed.variables["services"]["web"] = sleeper(env={"COLOUR": "red"})
    deployed.write()
    before, known = state_of(fresh_host), fresh_host.known_hosts.read_text()
    for flags in ([], ["--accept-new"]):
        refused = deployed.inv("deploy", "--group", "servers", *flags, code=5)
        assert "key" in refused.err
        assert "changed" in refused.err
    assert (state_of(fresh_host), fresh_host.known_hosts.read_text()) == (before, known)


def test_a_wrong_sudo_password_is_exit_5_and_changes_nothing(
    servers: Servers, fresh_host: hosts.Machine
) -> None:
    servers.variables |= {"ansible_user": "pwsudo", "ansible_become_password": "wrong"}
    servers.write()
    before = state_of(fresh_host)
    refused = servers.inv("deploy", "--group", "servers", code=5)
    assert "sudo refuses the password" in refused.err
    assert state_of(fresh_host) == before


def test_sudo_with_a_password_deploys(servers: Servers) -> None:
    servers.variables |= {"ansible_user": "pwsudo", "ansible_become_password": hosts.SUDO_PASSWORD}
    servers.write()
    assert servers.deploy()["changed_count"] > 0
    assert servers.deploy()["changed_count"] == 0


def test_state_of_a_newer_voiceops_is_refused(deployed: Servers, fresh_host: hosts.Machine) -> None:
    fresh_host.shell(f"echo 99 > /var/lib/{PROJECT}/format")
    deployed.variables["services"]["web"] = sleeper(env={"COLOUR": "red"})
    deployed.write()
    before = state_of(fresh_host)
    refused = deployed.inv("deploy", "--group", "servers", code=1)
    assert "99" in refused.err
    assert "newer" in refused.err
    assert state_of(fresh_host) == before


def test_the_state_of_an_older_voiceops_is_read_and_nothing_of_it_is_lost(
    deployed: Servers, fresh_host: hosts.Machine
) -> None:
    before, folder = pid(fresh_host), f"/var/lib/{PROJECT}"
    ledger = [
        {"service": "old", "release": "aaaa00000001", "result": "ok", "at": 1.0, "by": "ann", "host_id": 7},
        {"service": "old", "release": "aaaa00000002", "result": "bad"},
    ]
    journal = [
        {"version": 0, "note": "of a format that had other lines"},
        ["a", "list"],
        {"intent": f"file:/etc/systemd/system/{UNIT}", "wakes": ["systemd:daemon-reload"], "step": 3},
        {"done": f"file:/etc/systemd/system/{UNIT}", "took": 0.1},
    ]
    current = json.loads(fresh_host.read(f"{folder}/current.json"))
    current["services"]["web"] |= {"since": 12, "unit": UNIT}
    fresh_host.write(f"{folder}/releases.jsonl", "".join(json.dumps(line) + "\n" for line in ledger))
    fresh_host.write(f"{folder}/journal", "".join(json.dumps(line) + "\n" for line in journal), mode=0o600)
    fresh_host.write(f"{folder}/current.json", json.dumps(current))
    fresh_host.write(f"{folder}/hashes", json.dumps({"/opt/x": {"sha256": "0"}}), mode=0o600)
    fresh_host.write(f"{folder}/lock", json.dumps({"owner": "ann", "expires": 1}))
    # Killed between "unit file written" and "loaded": systemd knows another one than lies there.
    unit = f"/etc/systemd/system/{UNIT}"
    fresh_host.shell(f"cp {unit} /run/unit; echo '#' >> {unit}; systemctl daemon-reload; cp /run/unit {unit}")
    assert fresh_host.shell(f"systemctl show -P NeedDaemonReload {UNIT}").stdout == "yes\n"
    fresh_host.shell(f"rm {folder}/format")
    assert unit in deployed.inv("drift", "--group", "servers", code=2).out
    changed = deployed.deploy()["hosts"][fresh_host.name]
    assert [one["id"] for one in changed["resources"] if one["result"] == "changed"] == [f"file:{unit}"]
    assert fresh_host.shell(f"systemctl show -P NeedDaemonReload {UNIT}").stdout == "no\n"
    assert fresh_host.read(f"{folder}/format") == "1"
    assert deployed.deploy()["changed_count"] == 0
    assert pid(fresh_host) == before
    document = deployed.inv("releases", "--group", "servers", "--json").json["hosts"][fresh_host.name]
    assert [one["release"] for one in document["releases"]] == ["aaaa00000001", "aaaa00000002"]
    assert json.loads(fresh_host.read(f"{folder}/releases.jsonl").splitlines()[0]) == ledger[0]


def test_a_pattern_that_matches_no_host_is_exit_3(shared: Servers) -> None:
    """Of all commands: tests/unit/tasks/test_targets.py."""
    for flags in (["--host", "nobody"], ["--group", "nobody"], ["--limit", "no*body"], ["--host", ""]):
        shared.inv("deploy", *flags, code=3)


def test_this_machine_is_never_deployed_by_accident(shared: Servers) -> None:
    assert "this machine" in shared.inv("deploy", code=3).err


def test_a_service_that_is_no_longer_declared_is_stopped_and_its_unit_goes(
    standing: Servers, host: hosts.Machine
) -> None:
    standing.variables["services"]["extra"] = sleeper(restart="never")
    standing.write()
    standing.deploy()
    # What has failed stays in systemd's list when its file is gone.
    host.shell(f"systemctl kill -s KILL {PROJECT}-extra")
    _wait_until(lambda: host.shell(f"systemctl is-failed {PROJECT}-extra", check=False).stdout == "failed\n")
    del standing.variables["services"]["extra"]
    standing.write()
    standing.deploy()
    assert standing.deploy()["changed_count"] == 0
    listed = host.shell(
        f"ls /etc/systemd/system /etc/systemd/system/*.wants; systemctl list-units '{PROJECT}-*'"
    )
    assert "extra" not in listed.stdout


@pytest.fixture
def small_opt(fresh_host: hosts.Machine) -> Iterator[hosts.Machine]:
    with (
        fresh_host.small_disk(f"/opt/{PROJECT}", 150 << 20),
        fresh_host.small_disk(f"/var/lib/{PROJECT}", 90 << 20),
    ):
        yield fresh_host


# Takes all that a folder's disk has left as soon as an upload has begun.
_FILLER = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
while not any(part.stat().st_blocks for part in folder.glob("blobs/*.part")):
    time.sleep(0.01)
disk = os.statvfs(folder)
with (folder / "filler").open("wb") as filler:
    os.posix_fallocate(filler.fileno(), 0, disk.f_bavail * disk.f_frsize)
"""


def test_a_full_disk_in_an_upload_leaves_the_old_binary_and_no_litter(
    tmp_path: Path, small_opt: hosts.Machine
) -> None:
    binary = tmp_path / "livekit-server"
    binary.write_bytes(parts.livekit_server_binary().read_bytes())
    binary.chmod(0o755)
    livekit = {"kind": "livekit", "binary": str(binary)}
    servers = cheap_servers(tmp_path / "project", [small_opt], livekit=livekit)
    servers.deploy()
    before = small_opt.shell(f"sha256sum /opt/{PROJECT}/bin/livekit-server").stdout
    running = pid(small_opt, f"{PROJECT}-livekit.service")
    with binary.open("ab") as file:
        file.write(b"\0" * (1 << 20))
    # It fits as long as nobody else writes; somebody does once the upload is on its way.
    small_opt.shell(f"python3 -c {shlex.quote(_FILLER)} /var/lib/{PROJECT} > /dev/null 2>&1 &")
    with small_opt.delayed(round_trip_ms=200):  # so that the upload takes seconds
        failed = servers.inv("deploy", "--group", "servers", code=1)
    assert "the disk is full" in failed.err, "before it began it would be too full"
    assert small_opt.shell(f"sha256sum /opt/{PROJECT}/bin/livekit-server").stdout == before
    assert (
        small_opt.shell(f"ls -A /opt/{PROJECT}/bin /var/lib/{PROJECT}/blobs").stdout.count("livekit-server")
        == 1
    )
    assert pid(small_opt, f"{PROJECT}-livekit.service") == running


def test_a_new_binary_replaces_the_one_that_runs(tmp_path: Path, fresh_host: hosts.Machine) -> None:
    binary = tmp_path / "livekit-server"
    binary.write_bytes(parts.livekit_server_binary().read_bytes())
    binary.chmod(0o755)
    servers = cheap_servers(
        tmp_path / "project", [fresh_host], livekit={"kind": "livekit", "binary": str(binary)}
    )
    servers.deploy()
    before = pid(fresh_host, f"{PROJECT}-livekit.service")
    with binary.open("ab") as file:
        file.write(b"\0")  # an ELF file may have a tail
    changed = servers.deploy()["hosts"][fresh_host.name]
    assert changed["services"]["livekit"]["action"] == "restart"
    assert {one["id"] for one in changed["resources"] if one["result"] == "changed"} == {
        f"file:/opt/{PROJECT}/bin/livekit-server",
        f"file:/etc/{PROJECT}/livekit.env",
    }
    assert servers.deploy()["changed_count"] == 0
    after = pid(fresh_host, f"{PROJECT}-livekit.service")
    assert after not in (before, "0")


def test_a_host_that_is_down_is_exit_5_and_the_others_are_deployed(tmp_path: Path, fleet: Fleet) -> None:
    machines = fleet(3)
    servers = cheap_servers(tmp_path / "project", machines)
    with machines[1].unplugged():
        document = servers.deploy(code=5)
    states = {name: one["ok"] for name, one in document["hosts"].items()}
    assert states == {machines[0].name: True, machines[1].name: False, machines[2].name: True}
    assert servers.deploy()["hosts"][machines[1].name]["changed_count"] > 0


def test_a_first_host_that_fails_keeps_the_others_untouched(tmp_path: Path, fleet: Fleet) -> None:
    machines = fleet(3)
    servers = cheap_servers(tmp_path / "project", machines)
    servers.deploy()
    servers.variables["services"]["web"] = sleeper(command=["/bin/false"])
    servers.write()
    document = servers.deploy(code=1)["hosts"]
    assert "skipped" in document[machines[1].name]
    assert "skipped" in document[machines[2].name]
    running = machines[1].shell(f"systemctl is-active {UNIT}").stdout.strip()
    assert running == "active"


def _wait_until(seen: object, timeout_s: float = 30) -> None:
    assert callable(seen)
    ends_at = time.monotonic() + timeout_s
    while not seen():
        assert time.monotonic() < ends_at, "it never came"
        time.sleep(0.02)


def test_the_json_of_a_deploy_has_the_documented_shape(standing: Servers, host: hosts.Machine) -> None:
    document = standing.deploy()["hosts"][host.name]
    assert document["ok"] is True
    assert document["changed_count"] == 0
    assert {"release", "resources"} <= document.keys()
    assert json.dumps(document)
