"""Folders on hosts: whose they are, who may read them, and what happens when they are full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import hosts
from tests.support.servers import PROJECT, cheap_servers

FOLDERS = {
    f"/opt/{PROJECT}": "releases/7/settings.json",
    f"/etc/{PROJECT}": "server.key",
    f"/var/lib/{PROJECT}": "customers.db",
    f"/var/cache/{PROJECT}": "thumbnails",
}


@pytest.mark.parametrize("folder", list(FOLDERS))
def test_a_folder_that_somebody_else_made_is_refused_before_anything_changed(
    tmp_path: Path, fresh_host: hosts.Machine, folder: str
) -> None:
    servers = cheap_servers(tmp_path / "project", [fresh_host])
    file = f"{folder}/{FOLDERS[folder]}"
    fresh_host.write(file, "theirs", mode=0o600)
    fresh_host.shell(f"chown -R daemon: {folder} && chown root: {folder} && chmod 700 {folder}")
    listed = (
        f"find {folder} -printf '%p %m %u %g %T@\\n'; ls -d /opt/{PROJECT} /etc/{PROJECT}; id vo-{PROJECT}"
    )
    before = fresh_host.shell(listed, check=False).stdout
    for command in (["deploy"], ["deploy", "--check"], ["setup"], ["drift"]):
        refused = servers.inv(*command, "--group", "servers", code=3)
        assert f"{folder} is there already, and voiceops did not make it" in refused.err
        assert f"move {folder} away" in refused.err
    assert fresh_host.shell(listed, check=False).stdout == before
    # Both ways out.
    fresh_host.shell(f"mv {folder} {folder}.theirs")
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0
    assert fresh_host.read(f"{folder}.theirs/{FOLDERS[folder]}") == "theirs"


def test_a_folder_that_is_left_to_voiceops_keeps_what_is_in_it(
    tmp_path: Path, fresh_host: hosts.Machine
) -> None:
    servers = cheap_servers(tmp_path / "project", [fresh_host])
    fresh_host.write(f"/etc/{PROJECT}/server.key", "theirs", mode=0o600)
    refused = servers.inv("deploy", "--group", "servers", code=3)
    consent = refused.err.partition("if voiceops may have it: `")[2].partition("`")[0]
    fresh_host.shell(consent)
    servers.deploy()
    assert fresh_host.read(f"/etc/{PROJECT}/server.key") == "theirs"
    assert servers.deploy()["changed_count"] == 0


def test_empty_folders_and_those_of_an_older_voiceops_are_taken(
    tmp_path: Path, fresh_host: hosts.Machine
) -> None:
    servers = cheap_servers(tmp_path / "project", [fresh_host])
    fresh_host.shell(f"mkdir -p /opt/{PROJECT}/lost+found /var/lib/{PROJECT}")
    servers.deploy()
    fresh_host.shell(f"rm /opt/{PROJECT}/.voiceops /etc/{PROJECT}/.voiceops")
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0
    # Without the folder of the state, too, all else is known as ours.
    fresh_host.shell(f"rm -r /var/lib/{PROJECT}")
    servers.deploy()
    assert servers.deploy()["changed_count"] == 0


def test_a_full_state_folder_is_named_with_the_next_step_by_every_command(
    tmp_path: Path, fresh_host: hosts.Machine
) -> None:
    servers = cheap_servers(tmp_path / "project", [fresh_host])
    servers.deploy()
    servers.variables["services"]["web"]["env"] = {"CHANGED": "1"}
    servers.write()
    folder = f"/var/lib/{PROJECT}"
    with fresh_host.small_disk(folder, 1 << 20):
        fresh_host.shell(f"cat /dev/zero > {folder}/fill", check=False)
        for command in ("deploy", "restart", "lock", "unlock"):
            failed = servers.inv(command, "--group", "servers", code=1)
            assert f"free on {folder}" in failed.err, command
            assert "free space there" in failed.err, command
    servers.deploy()
    with fresh_host.small_disk(folder, 1 << 20):
        # As it fills up under a host that was deployed well.
        fresh_host.shell(f"cp -a /var/lib/{PROJECT}/. /tmp/ 2>/dev/null; touch {folder}/format {folder}/lock")
        fresh_host.shell(f"cat /dev/zero > {folder}/fill", check=False)
        failed = servers.inv("lock", "--group", "servers", code=1)
        assert folder in failed.err
