"""Resources on a real host with systemd: as declared, and after every fault ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import hosts
from tests.support.hosts_ssh import target
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.errors import HostError, LockedError, ServiceError, StorageError, VoiceopsError
from voiceops.model.secret import Secret
from voiceops.resources import (
    Blob,
    Command,
    CronEntry,
    Directory,
    File,
    Group,
    HostReport,
    Lease,
    Package,
    State,
    Sysctl,
    Unit,
    User,
    apply,
    check,
)
from voiceops.resources.model import Resource

SERVICE = """\
[Service]
ExecStart=/bin/sh -c 'cat /etc/demo/conf > /run/demo-started-with; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""
LOOP = """\
[Service]
ExecStart=/bin/sh -c 'echo "cannot open the database"; sleep 0.5; exit 1'
Restart=always
RestartSec=100ms
StartLimitIntervalSec=0
"""


def service(config: str = "one") -> list[Resource]:
    """A service with its configuration."""
    folder = Directory(path="/etc/demo")
    conf = File(path="/etc/demo/conf", content=config, mode=0o600)
    unit = File(path="/etc/systemd/system/demo.service", content=SERVICE)
    runs = Unit(name="demo.service", enabled=True, running=True, restart_on=[conf, unit], settle_s=0.3)
    return [folder, conf, unit, runs]


def state(*resources: Resource, project: str = "demo") -> State:
    return State(project, resources)


def main_pid(host: hosts.Machine, unit: str = "demo.service") -> str:
    return host.shell(f"systemctl show -P MainPID {unit}").stdout.strip()


def changes(report: HostReport) -> list[str]:
    return [result.id for result in report.results if result.result == "changed"]


def test_a_service_comes_up_and_a_second_run_restarts_nothing(
    host: hosts.Machine, transport: SshTransport
) -> None:
    desired = state(*service())
    apply(transport, desired).raise_for_failure()
    assert host.shell("systemctl is-enabled demo.service").stdout == "enabled\n"
    pid = main_pid(host)
    again = apply(transport, desired)
    assert (again.changed, main_pid(host)) == (0, pid)
    assert check(transport, desired).as_declared


def test_a_file_changed_by_hand_is_fixed_alone(host: hosts.Machine, transport: SshTransport) -> None:
    other = File(path="/etc/demo/other", content="x")
    desired = state(*service(), other)
    apply(transport, desired).raise_for_failure()
    pid = main_pid(host)
    host.write("/etc/demo/other", "y")
    assert changes(check(transport, desired)) == ["file:/etc/demo/other"]
    assert changes(apply(transport, desired)) == ["file:/etc/demo/other"]
    assert main_pid(host) == pid


def test_a_changed_configuration_restarts_its_service_with_it(
    host: hosts.Machine, transport: SshTransport
) -> None:
    apply(transport, state(*service("before"))).raise_for_failure()
    report = apply(transport, state(*service("after")), diff=True)
    report.raise_for_failure()
    assert changes(report) == ["file:/etc/demo/conf", "unit:demo.service"]
    assert "-before" in report.get("file:/etc/demo/conf").diff
    assert host.read("/run/demo-started-with") == "after"


def test_a_changed_unit_file_is_loaded_before_the_restart(
    host: hosts.Machine, transport: SshTransport
) -> None:
    apply(transport, state(*service())).raise_for_failure()
    changed = [*service()]
    changed[2] = File(path="/etc/systemd/system/demo.service", content=SERVICE.replace("sleep", "/bin/sleep"))
    apply(transport, state(*changed)).raise_for_failure()
    assert "/bin/sleep infinity" in host.shell("tr '\\0' ' ' < /proc/" + main_pid(host) + "/cmdline").stdout
    assert host.shell("systemctl show -P NeedDaemonReload demo.service").stdout == "no\n"


def test_a_restart_loop_fails_with_its_cause_every_time(host: hosts.Machine, transport: SshTransport) -> None:
    unit = File(path="/etc/systemd/system/loop.service", content=LOOP)
    desired = state(unit, Unit(name="loop.service", running=True, restart_on=[unit]), project="loop")
    for _ in range(2):
        report = apply(transport, desired)
        assert report.failed == "unit:loop.service"
        with pytest.raises(ServiceError) as caught:
            report.raise_for_failure()
        assert "cannot open the database" in caught.value.log_tail
    host.shell("systemctl stop loop.service")


def test_a_loop_that_began_after_a_good_run_is_noticed(host: hosts.Machine, transport: SshTransport) -> None:
    host.write("/etc/systemd/system/turn.service", LOOP)
    host.shell("systemctl daemon-reload; systemctl start turn.service")
    report = apply(transport, state(Unit(name="turn.service", running=True), project="turn"))
    assert report.failed == "unit:turn.service"
    host.shell("systemctl stop turn.service")


def test_ssh_cut_between_configuration_and_restart_is_made_good(
    host: hosts.Machine, transport: SshTransport
) -> None:
    apply(transport, state(*service("old"))).raise_for_failure()
    folder, conf, unit, runs = service("new")
    pause = Command(name="pause", argv=["sleep", "0.7"], on_change=[conf])
    cut = SshTransport(target(host))

    def on_event(kind: str, data: Mapping[str, Any]) -> None:
        if data.get("id") == "command:pause":
            cut.close()

    with pytest.raises(VoiceopsError):
        apply(cut, state(folder, conf, pause, unit, runs), on_event=on_event)
    assert (host.read("/etc/demo/conf"), host.read("/run/demo-started-with")) == ("new", "old")
    report = apply(transport, state(folder, conf, unit, runs), lease=Lease(wait_s=10))
    report.raise_for_failure()
    assert changes(report) == ["unit:demo.service"]
    assert host.read("/run/demo-started-with") == "new"


DEPLOY = """
import sys
from tests.integration.test_resources_hosts import service, state
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.resources import Blob, apply
from pathlib import Path
name, address, key, known, version, blob = sys.argv[1:]
transport = SshTransport(SshTarget(name=name, address=address, user="deploy", key_file=Path(key),
                                   known_hosts=(Path(known),)))
print("up", flush=True)
apply(transport, state(*service(version), Blob(path="/etc/demo/blob", source=Path(blob))))
"""


def test_a_deployer_killed_at_any_moment_leaves_what_the_next_run_finishes(
    host: hosts.Machine, transport: SshTransport, repository: Path, tmp_path: Path
) -> None:
    moments = random.Random(5)
    blob = tmp_path / "blob"
    for number in range(20):
        blob.write_bytes(random.Random(number).randbytes(2 << 20))
        arguments = [
            host.name,
            host.address,
            str(host.key_path),
            str(host.known_hosts),
            f"v{number}",
            str(blob),
        ]
        with subprocess.Popen(
            [sys.executable, "-c", DEPLOY, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=repository,
            start_new_session=True,
        ) as deployer:
            assert deployer.stdout is not None
            deployer.stdout.readline()
            time.sleep(moments.uniform(0.2, 1.2))  # the moment itself is what is tested
            os.kill(deployer.pid, signal.SIGKILL)
        if number % 3 == 2:  # and sometimes the payload dies as well
            host.kill_in_sessions()
        if number % 4 == 3 or number % 4 == 1:
            desired = state(*service(f"v{number}"), Blob(path="/etc/demo/blob", source=blob))
            apply(transport, desired, lease=Lease(wait_s=20)).raise_for_failure()
            assert host.read("/run/demo-started-with") == f"v{number}"
            assert apply(transport, desired).changed == 0
    assert host.shell("ls -A /var/lib/demo/blobs; find /etc/demo -name '.*tmp'").stdout == ""


def test_a_full_disk_keeps_the_old_binary_and_leaves_no_litter(
    host: hosts.Machine, transport: SshTransport, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(random.Random(1).randbytes(6 << 20))
    blob = Blob(path="/opt/small/bin", source=tmp_path / "new")
    for full in ("/opt/small", "/var/lib/full"):
        host.write("/opt/small/bin", "old")
        with host.small_disk(full, 4 << 20):
            host.write("/opt/small/bin", "old")
            with pytest.raises(StorageError, match="disk is"):
                apply(transport, state(blob, project="full")).raise_for_failure()
            assert host.read("/opt/small/bin") == "old"
            assert host.shell("ls -A /opt/small").stdout == "bin\n"
            assert host.shell("ls -A /var/lib/full/blobs 2>/dev/null", check=False).stdout == ""


def test_a_disk_that_fills_up_in_the_middle_of_an_upload_keeps_nothing_of_it(
    host: hosts.Machine, transport: SshTransport, tmp_path: Path
) -> None:
    (tmp_path / "new").write_bytes(random.Random(2).randbytes(12 << 20))
    filled: list[int] = []

    def fill(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "upload" and not filled:
            filled.append(data["sent"])
            host.shell("head -c 20M /dev/zero > /var/lib/filling/filler", check=False)

    with host.small_disk("/var/lib/filling", 16 << 20):
        desired = state(Blob(path="/opt/filled", source=tmp_path / "new"), project="filling")
        with pytest.raises(StorageError, match="disk is full"):
            apply(transport, desired, on_event=fill)
        assert host.shell("ls -A /var/lib/filling/blobs").stdout == ""
        host.shell("rm /var/lib/filling/filler")
        apply(transport, desired).raise_for_failure()


def test_of_two_deploys_at_once_one_waits_or_is_told_who_is_there(
    host: hosts.Machine, transport: SshTransport
) -> None:
    conf = File(path="/etc/two", content=str(time.time()))
    slow = state(conf, Command(name="slow", argv=["sleep", "1.5"], on_change=[conf]), project="two")
    begun = threading.Event()
    first: list[HostReport] = []

    def deploy() -> None:
        first.append(
            apply(transport, slow, lease=Lease(owner="ann"), on_event=lambda kind, data: begun.set())
        )

    thread = threading.Thread(target=deploy)
    thread.start()
    assert begun.wait(20)
    second = SshTransport(target(host))
    with pytest.raises(LockedError, match="locked by ann"):
        apply(second, slow)
    waited: list[str] = []
    report = apply(second, slow, lease=Lease(wait_s=20), on_event=lambda kind, data: waited.append(kind))
    thread.join(20)
    second.close()
    assert waited == ["waiting"]
    assert (first[0].changed, report.changed) == (2, 0)


def test_a_state_of_a_newer_voiceops_is_refused(host: hosts.Machine, transport: SshTransport) -> None:
    host.write("/var/lib/newer/format", "99")
    for run in (apply, check):
        with pytest.raises(HostError, match="format 99"):
            run(transport, state(File(path="/etc/newer", content=""), project="newer"))


def test_accounts_schedule_and_kernel_settings_are_set_once(
    host: hosts.Machine, transport: SshTransport
) -> None:
    desired = state(
        Group(name="demogroup", system=True),
        User(
            name="demouser",
            system=True,
            groups=["demogroup"],
            home="/var/lib/demo",
            shell="/usr/sbin/nologin",
        ),
        Directory(path="/var/log/demo", owner="demouser", group="demogroup", mode=0o750),
        CronEntry(name="demo", schedule="*/5 * * * *", command="date +%s > /dev/null", user="demouser"),
        Sysctl(path="/etc/sysctl.d/60-demo.conf", values={"net.core.rmem_max": "5000000"}),
        Package(names=["cron", "sudo"]),
        project="accounts",
    )
    assert check(transport, desired).changed == 5
    apply(transport, desired).raise_for_failure()
    assert apply(transport, desired).changed == 0
    assert "demogroup" in host.shell("id -nG demouser").stdout
    assert "container" in apply(transport, desired).get("sysctl:/etc/sysctl.d/60-demo.conf").note


def test_no_secret_is_ever_in_an_argument_list_or_in_a_log(
    host: hosts.Machine, transport: SshTransport
) -> None:
    secret = "topsecret-8d1f"
    conf = File(path="/etc/secret", content=Secret(f"{secret}-{time.time()}"))
    use = Command(
        name="use", argv=["sleep", "1"], on_change=[conf], env={"A": Secret(secret)}, stdin=Secret(secret)
    )
    seen: list[str] = []
    applied = threading.Event()

    def sample() -> None:
        while not applied.is_set():
            seen.append(host.shell("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", check=False).stdout)

    with ThreadPoolExecutor(1) as sampler:
        sampling = sampler.submit(sample)
        try:
            done = apply(transport, state(conf, use, project="secret"), diff=True)
        finally:
            applied.set()
        sampling.result()
    done.raise_for_failure()
    assert any("sleep 1" in one for one in seen)
    assert not any(secret in one for one in seen)
    assert host.shell(f"grep -r {secret} /var/lib/secret /var/log /tmp", check=False).stdout == ""
    assert secret not in host.journal()
    assert host.shell("stat -c %a /etc/secret").stdout == "600\n"
