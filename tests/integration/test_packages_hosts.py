"""Packages on a real host: apt and dpkg as they are, with a repository on the host itself."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_ssh import wait_until
from tests.support import hosts
from tests.support.hosts_packages import add_repository, build_deb, dnf_layer
from tests.support.hosts_rootfs import PYTHON
from tests.support.hosts_ssh import target
from tests.support.servers import PROJECT, Servers, cheap_servers
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.errors import VoiceopsError
from voiceops.resources import Lease, Package, State, apply, check

SLOW = """
touch /run/slow-began
while [ ! -e /run/slow-may-end ]; do sleep 0.05; done
systemctl enable slowd.service
"""
"""Says that it has begun, waits to be told to go on, and brings a daemon."""
PASSWORD = "p\"w $HOME 'quoted' %s"
DAEMON = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture(scope="module")
def host(host_run: hosts.HostRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hosts.Machine]:
    """A host that can install a few packages."""
    folder = tmp_path_factory.mktemp("debs")
    own = [
        build_deb(folder, "voiceops-slow", {"/lib/systemd/system/slowd.service": DAEMON}, postinst=SLOW),
        build_deb(folder, "voiceops-broken", postinst="echo no room on the moon; exit 3"),
    ]
    with host_run.cluster(1) as (machine,):
        add_repository(machine, "hello", "redis-server", own=own)
        yield machine


@pytest.fixture
def slow(host: hosts.Machine) -> Iterator[State]:
    """A package whose installation waits for ``go_on``; it is gone at the end."""
    yield State("slow", [Package(names=["voiceops-slow"], daemons=False)])
    go_on(host)
    host.shell("dpkg --purge voiceops-slow; rm -f /run/slow-*", check=False)


def go_on(host: hosts.Machine) -> None:
    host.shell("touch /run/slow-may-end")


def status(host: hosts.Machine, name: str) -> str:
    """What dpkg says of a package; empty: nothing."""
    return host.shell(f"dpkg-query -W -f '${{db:Status-Status}}' {name}", check=False).stdout


def once_begun(host: hosts.Machine, act: Callable[[], object]) -> Callable[[str, Mapping[str, Any]], None]:
    """An ``on_event`` that acts while the slow package is being installed."""

    def on_event(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "step":
            wait_until(lambda: host.shell("test -e /run/slow-began", check=False).returncode == 0)
            act()

    return on_event


def test_a_package_is_installed_once_and_removed_once(host: hosts.Machine, transport: SshTransport) -> None:
    there = State("demo", [Package(names=["hello"])])
    looked = check(transport, there)
    assert looked.get("package:hello").changes == ("install hello",)
    assert status(host, "hello") == "", "a check installed it"
    apply(transport, there).raise_for_failure()
    assert host.shell("hello").stdout == "Hello, world!\n"
    assert (apply(transport, there).changed, check(transport, there).as_declared) == (0, True)

    gone = State("demo", [Package(names=["hello"], present=False)])
    assert check(transport, gone).get("package:hello").changes == ("remove hello",)
    apply(transport, gone).raise_for_failure()
    assert host.shell("hello", check=False).returncode == 127
    assert apply(transport, gone).changed == 0


def test_a_name_that_only_others_provide_is_refused_instead_of_changing_for_ever(
    transport: SshTransport,
) -> None:
    report = apply(transport, State("demo", [Package(names=["awk"])]))
    assert "awk is no package's own name" in report.get("package:awk").error


def test_a_package_that_cannot_be_had_fails_with_what_apt_said(transport: SshTransport) -> None:
    report = apply(transport, State("demo", [Package(names=["voiceops-nonesuch"])]))
    assert report.failed == "package:voiceops-nonesuch"
    assert "E: Unable to locate package voiceops-nonesuch" in report.results[0].log


def test_a_package_that_fails_to_configure_is_reported_with_its_own_words(
    host: hosts.Machine, transport: SshTransport
) -> None:
    broken = State("demo", [Package(names=["voiceops-broken"])])
    try:
        for _ in range(2):  # half installed is not installed
            report = apply(transport, broken)
            assert any("no room on the moon" in line for line in report.get("package:voiceops-broken").log)
    finally:
        apply(transport, State("demo", [Package(names=["voiceops-broken"], present=False)]))
    assert status(host, "voiceops-broken") in ("", "not-installed", "config-files")


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(host: hosts.Machine, lock: str) -> Iterator[None]:
    """Somebody else holds one of apt's locks."""
    with (
        closing(SshTransport(target(host))) as other,
        closing(other.start(["python3", "-c", HOLD, lock], root=True)) as holder,
    ):
        assert holder.read(10) == b"held\n"
        yield


@pytest.mark.parametrize("lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"])
def test_an_apt_that_another_uses_is_waited_for_or_named(
    host: hosts.Machine, transport: SshTransport, lock: str
) -> None:
    host.shell("apt-get update; apt-get -y remove hello")
    if "lists" in lock:
        host.shell("touch -d '2 hours ago' /var/lib/apt/lists")
    # What old lists know can be had without new ones.
    name = "voiceops-nonesuch" if "lists" in lock else "hello"
    with held(host, lock):
        log = apply(transport, State("demo", [Package(names=[name], lock_wait_s=1)])).results[0].log
        assert any(lock in line and "python3" in line for line in log), log

    reports = []
    patient = State("demo", [Package(names=["hello"], lock_wait_s=60)])
    waiting = threading.Thread(target=lambda: reports.append(apply(transport, patient)))
    with held(host, lock):
        waiting.start()
        waiting.join(1)  # long enough to meet the lock
        assert reports == []
    waiting.join(60)
    assert reports[0].changed == 1
    assert status(host, "hello") == "installed"


def test_an_installation_goes_on_to_its_end_when_the_connection_is_cut(
    host: hosts.Machine, transport: SshTransport, slow: State
) -> None:
    cut = SshTransport(target(host))
    with pytest.raises(VoiceopsError):
        apply(cut, slow, on_event=once_begun(host, cut.close))
    go_on(host)
    wait_until(lambda: status(host, "voiceops-slow") == "installed")
    apply(transport, slow, lease=Lease(wait_s=20)).raise_for_failure()
    assert host.shell("systemctl is-enabled slowd.service", check=False).stdout == "disabled\n"
    assert apply(transport, slow).changed == 0


def test_what_an_interrupted_dpkg_left_is_finished(
    host: hosts.Machine, transport: SshTransport, slow: State
) -> None:
    programs = "voiceops_payl[o]ad|^apt-get|^/usr/bin/dpkg|voiceops-slow.postin[s]t"

    def kill() -> None:
        host.shell(f"kill -9 $(pgrep -f '{programs}')")

    with pytest.raises(VoiceopsError):
        apply(transport, slow, on_event=once_begun(host, kill))
    assert host.shell("ls /var/lib/dpkg/updates").stdout, "dpkg was not interrupted"
    refused = host.shell("apt-get -y install hello", check=False)
    assert "dpkg was interrupted" in refused.stderr
    host.shell("systemctl enable slowd.service", check=False)
    enable_theirs(host)
    go_on(host)

    apply(transport, slow, lease=Lease(wait_s=20)).raise_for_failure()
    assert status(host, "voiceops-slow") == "installed"
    assert host.shell("systemctl is-enabled slowd.service", check=False).stdout == "disabled\n"
    assert host.shell("ls /usr/sbin/policy-rc.d /var/lib/slow/daemons", check=False).stdout == ""
    assert host.shell("systemctl is-enabled theirs.service").stdout == "enabled\n"
    assert apply(transport, slow).changed == 0


def enable_theirs(host: hosts.Machine) -> None:
    """Somebody brings a daemon of his own meanwhile."""
    host.write("/etc/systemd/system/theirs.service", DAEMON)
    host.shell("systemctl enable theirs.service")


def test_what_others_enable_meanwhile_stays_enabled(
    host: hosts.Machine, transport: SshTransport, slow: State
) -> None:
    def act() -> None:
        enable_theirs(host)
        go_on(host)

    apply(transport, slow, on_event=once_begun(host, act)).raise_for_failure()
    said = host.shell("systemctl is-enabled theirs.service slowd.service", check=False).stdout
    assert said.split() == ["enabled", "disabled"]
    assert host.shell("ls /var/lib/slow/daemons", check=False).stdout == ""


@pytest.mark.parametrize("name", ["hello", "voiceops-broken"])
def test_a_note_that_no_cut_run_left_counts_for_nothing_and_goes(
    host: hosts.Machine, transport: SshTransport, name: str
) -> None:
    host.shell("apt-get update; apt-get -y remove hello")
    enable_theirs(host)
    apply(transport, State("noted", [])).raise_for_failure()
    host.write("/var/lib/noted/daemons", '{"packages": [], "enabled": [], "coming": ["cron"]}')
    before = host.shell("systemctl list-unit-files --state=enabled --no-legend").stdout
    apply(transport, State("noted", [Package(names=[name], daemons=False)]))
    host.shell("dpkg --purge --force-all voiceops-broken", check=False)
    assert host.shell("systemctl list-unit-files --state=enabled --no-legend").stdout == before
    assert host.shell("ls /var/lib/noted/daemons", check=False).stdout == ""


@pytest.fixture
def servers(tmp_path: Path, host: hosts.Machine) -> Servers:
    """A project with a Redis of its own, on the port that Debian's would take."""
    redis = {"kind": "redis", "password": {"env": "PASSWORD"}, "append_only": True}
    made = cheap_servers(tmp_path / "project", [host], redis=redis)
    made.env["PASSWORD"] = PASSWORD
    made.variables["deploy"]["packages"] = ["redis-server"]
    made.write()
    return made


def test_a_deploy_brings_the_packages_that_its_services_need(servers: Servers, host: hosts.Machine) -> None:
    checked = servers.inv("deploy", "--group", "servers", "--check", code=2)
    assert "package:redis-server" in checked.out
    assert status(host, "redis-server") == "", "a check installed it"

    servers.deploy()
    main = host.shell(f"systemctl show -P MainPID {PROJECT}-redis.service").stdout.strip()
    assert host.shell("ss -Hltnp 'sport = :6379'").stdout.count(f"pid={main},") >= 1
    off = host.shell("systemctl is-active redis-server; systemctl is-enabled redis-server", check=False)
    assert off.stdout.split() == ["inactive", "disabled"]
    assert servers.deploy()["changed_count"] == 0
    backs_up_and_restores(servers, host)

    host.shell("dpkg --remove redis-server")
    assert "package:redis-server" in servers.inv("drift", "--group", "servers", code=2).out


def backs_up_and_restores(servers: Servers, host: hosts.Machine) -> None:
    """Its Redis, which reads what is restored only when it starts."""

    def redis(command: str) -> str:
        return host.shell(f"REDISCLI_AUTH={shlex.quote(PASSWORD)} redis-cli {command}").stdout.strip()

    redis("set greeting hello")
    (made,) = servers.inv("backup", "--group", "servers", "--json").json["hosts"][host.name]["backups"]
    assert (made["service"], made["object_count"]) == ("redis", 1)
    redis("set greeting overwritten")
    assert "redis holds 1 key" in servers.inv("restore", "--group", "servers", code=3).err
    servers.inv("restore", "--group", "servers", "--yes")
    host.shell(f"systemctl restart {PROJECT}-redis")
    assert redis("get greeting") == "hello", "the restored data outlive the next start"
    assert servers.deploy()["changed_count"] == 0


@pytest.fixture
def bare(host_run: hosts.HostRun, tmp_path: Path) -> Iterator[tuple[Servers, hosts.Machine]]:
    """A project with one service, and its host without Python."""
    with host_run.cluster(1, python=False) as (machine,):
        machine.write("/etc/apt/apt.conf.d/retries", 'Acquire::Retries "0";')  # nobody will answer
        yield cheap_servers(tmp_path / "project", [machine]), machine


def test_a_deploy_brings_python_to_a_host_without_it(bare: tuple[Servers, hosts.Machine]) -> None:
    servers, host = bare
    checked = servers.inv("deploy", "--group", "servers", "--check", code=2)
    assert "package:python3: install python3" in checked.out
    refused = servers.inv("deploy", "--group", "servers", code=1)
    assert "python3 can't be installed" in refused.err
    assert "'python3' has no installation candidate" in refused.err
    left = host.shell(f"ls -d /usr/bin/python3 /opt/{PROJECT} /var/lib/{PROJECT} /tmp/tmp.*", check=False)
    assert left.stdout == ""

    add_repository(host, "python3", without=PYTHON)
    deployed = servers.deploy()["hosts"][host.name]
    assert deployed["resources"][0] == {
        "id": "package:python3",
        "result": "changed",
        "changes": ["install python3"],
    }
    assert deployed["services"]["web"]["state"] == "ready"
    assert servers.deploy()["changed_count"] == 0

    # Set up anew under its old name, it is known here with a Python that it no longer has.
    host.shell(f"dpkg --purge {' '.join(PYTHON)}")
    assert "package:python3" in servers.inv("drift", "--group", "servers", code=2).out


def test_packages_by_dnf(host_run: hosts.HostRun) -> None:
    def package(*names: str, present: bool = True) -> State:
        return State("demo", [Package(names=names, present=present)])

    with host_run.cluster(1, layer=dnf_layer()) as (host,), closing(SshTransport(target(host))) as transport:
        there = package("voiceops-tiny")
        assert check(transport, there).get("package:voiceops-tiny").changes == ("install voiceops-tiny",)
        assert host.shell("rpm -q voiceops-tiny", check=False).returncode == 1, "a check installed it"
        apply(transport, there).raise_for_failure()
        assert host.read("/usr/share/voiceops-tiny") == "tiny\n"
        assert apply(transport, there).changed == 0
        assert apply(transport, package("voiceops-tiny.noarch")).changed == 0

        gone = package("voiceops-tiny", "voiceops-nonesuch", present=False)
        apply(transport, gone).raise_for_failure()
        assert host.shell("ls /usr/share/voiceops-tiny", check=False).returncode == 2
        assert apply(transport, gone).changed == 0

        missing = apply(transport, package("voiceops-nonesuch")).results[0]
        assert missing.result == "failed"
        assert any("Unable to find a match: voiceops-nonesuch" in line for line in missing.log)
        virtual = apply(transport, package("voiceops-virtual")).results[0]
        assert virtual.error == "voiceops-virtual is no package's own name"


HOLD_DNF = """
import sys, dnf, dnf.lock
base = dnf.Base()
base.conf.read()
with dnf.lock.build_rpmdb_lock(base.conf.persistdir, True):
    print("held", flush=True)
    sys.stdin.read(1)
"""


def test_a_dnf_that_another_uses_is_named_then_waited_for(host_run: hosts.HostRun) -> None:
    with (
        host_run.cluster(1, layer=dnf_layer()) as (host,),
        closing(SshTransport(target(host))) as transport,
        closing(SshTransport(target(host))) as other,
        closing(other.start(["python3", "-c", HOLD_DNF], root=True)) as holder,
    ):
        assert holder.read(20) == b"held\n"
        impatient = State("demo", [Package(names=["voiceops-tiny"], lock_wait_s=0)])
        log = apply(transport, impatient).results[0].log
        assert any("already locked by" in line for line in log), log
        # Long enough for dnf to run into the lock.
        release = threading.Timer(2.0, lambda: holder.write(b"x"))
        patient = State("demo", [Package(names=["voiceops-tiny"])])
        apply(transport, patient, on_event=lambda kind, data: release.start()).raise_for_failure()
        release.join()


def test_what_is_new_in_a_source_of_dnf_is_found(host_run: hosts.HostRun) -> None:
    with host_run.cluster(1, layer=dnf_layer()) as (host,), closing(SshTransport(target(host))) as transport:
        index = "rm -r /srv/rpms/repodata; createrepo_c -q /srv/rpms"
        host.shell(f"mkdir /srv/aside; mv /srv/rpms/*.rpm /srv/aside; {index}; dnf -q makecache")
        host.shell(f"mv /srv/aside/*.rpm /srv/rpms; {index}")
        apply(transport, State("demo", [Package(names=["voiceops-tiny"])])).raise_for_failure()
        assert host.read("/usr/share/voiceops-tiny") == "tiny\n"
