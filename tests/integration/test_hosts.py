"""The test hosts themselves: what all tests on them rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import hosts, hosts_prepared


def test_a_host_is_up_with_systemd_and_all_users_reach_it_by_ssh(host: hosts.Machine) -> None:
    assert host.shell("systemctl is-system-running").stdout == "running\n"
    for user in ("root", "deploy", "pwsudo"):
        assert host.ssh("id -un; hostname", user=user).stdout.split() == [user, host.name]


def test_sudo_needs_a_password_for_one_user_only(host: hosts.Machine) -> None:
    assert host.ssh("sudo -n id -u", user="deploy").stdout == "0\n"
    assert host.ssh("sudo -n id -u", user="pwsudo", check=False).returncode == 1
    asked = host.ssh("sudo -S -p '' id -u", user="pwsudo", input=hosts.SUDO_PASSWORD + "\n")
    assert asked.stdout == "0\n"


def test_files_arrive_with_their_mode(host: hosts.Machine, tmp_path: Path) -> None:
    (tmp_path / "run me").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run me").chmod(0o750)
    host.copy_in(tmp_path, "/srv/it's here")
    assert host.shell("'/srv/it'\\''s here/run me'").stdout == "ran\n"
    host.copy_in(tmp_path / "run me", "/srv/copy")
    assert host.shell("stat -c %a /srv/copy").stdout == "750\n"


def test_a_cut_network_hangs_ssh_but_not_the_host(host: hosts.Machine) -> None:
    with host.unplugged():
        with pytest.raises(subprocess.TimeoutExpired):
            host.ssh("true", timeout_s=0.5)
        assert host.shell("echo here").stdout == "here\n"
    assert host.ssh("echo back").stdout == "back\n"


def test_a_delay_lengthens_every_round_trip(host: hosts.Machine) -> None:
    with host.delayed(round_trip_ms=100):
        begun = time.monotonic()
        host.ssh("true")
        # ssh needs at least five round trips; a loaded machine only adds to that.
        assert time.monotonic() - begun > 5 * 0.1
    assert host.ssh("echo direct").stdout == "direct\n"


def test_a_small_disk_runs_full_and_goes_away(host: hosts.Machine) -> None:
    with host.small_disk("/srv/small", 1 << 20):
        assert "No space left" in host.shell("head -c 2M /dev/zero > /srv/small/x", check=False).stderr
    assert host.shell("ls /srv/small").stdout == ""


def test_a_host_without_python(host_run: hosts.HostRun) -> None:
    with host_run.cluster(1, python=False) as (bare,):
        assert bare.ssh("python3 -V", check=False).returncode == 127


def test_a_prepared_host_is_as_setup_leaves_it_and_has_names_and_keys_of_its_own(
    host: hosts.Machine, prepared_host: hosts.Machine, tmp_path: Path
) -> None:
    servers = hosts_prepared.agent_project(tmp_path / "project", prepared_host)
    servers.inv("setup", "--group", "servers", "--check")  # exit 2 if anything were to change
    assert prepared_host.shell("ls /opt/frontdesk/releases").stdout == ""
    look = "hostname; cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub"
    here, there = prepared_host.shell(look).stdout.split(), host.shell(look).stdout.split()
    assert [one for one in here if one in there] == ["ssh-ed25519"]


def test_pulling_the_plug_keeps_the_disk_and_the_host_key(fresh_host: hosts.Machine) -> None:
    fresh_host.write("/srv/kept", "x")
    fresh_host.power_off()
    with pytest.raises(subprocess.TimeoutExpired):
        fresh_host.ssh("true", timeout_s=0.5)
    fresh_host.power_on()
    assert fresh_host.ssh("cat /srv/kept").stdout == "x"


def test_what_a_killed_run_left_behind_is_removed_by_the_next(host_run: hosts.HostRun) -> None:
    script = (
        "from tests.support import hosts\n"
        "with hosts.cluster(1) as (host,):\n"
        "    print(host.folder.parent, host._init_pid, flush=True)\n"
        "    input()\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    folder, init_pid = victim.stdout.readline().split()
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=10)
    assert Path(folder).exists()

    with hosts.run():
        pass

    assert not Path(folder).exists()
    assert not Path(f"/proc/{init_pid}/root/etc").exists()
    assert folder not in Path("/proc/self/mounts").read_text()
    assert Path(f"/sys/class/net/{host_run.bridge}").exists(), "a live run was swept away"
