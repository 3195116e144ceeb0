"""Reaching hosts: whom we trust, who we are, what we say when it does not work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import Fleet
from tests.support import hosts
from tests.support.hosts_ssh import target
from voiceops.adapters.ssh.errors import UnknownHostKeyError
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.deploy.ledger import read_ledger
from voiceops.errors import CredentialsError, DeadlineError, HostError, UnreachableError
from voiceops.fleet import on_hosts
from voiceops.model.secret import Secret
from voiceops.ports import Transport
from voiceops.resources import install_python, read_facts
from voiceops.stack.systemd.backend import SystemdBackend
from voiceops.systemd.names import HostNames


@pytest.fixture
def no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the developer's own agent and keys."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(autouse=True)
def all_sockets_are_closed() -> Iterator[None]:
    """Whatever became of the connections of a test, no descriptor and no thread of theirs stays."""
    before = sockets()
    yield
    wait_until(
        lambda: sockets() <= before and not any("paramiko" in str(one) for one in threading.enumerate())
    )


def sockets() -> set[str | threading.Thread]:
    """Those of this process."""
    return {one for one in map(link_of, os.listdir("/proc/self/fd")) if one.startswith("socket:")}


def link_of(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:  # of the listing itself
        return ""


def uid(transport: Transport, *, root: bool = False) -> str:
    with closing(transport):
        return transport.run(["id", "-u"], root=root).stdout.decode().strip()


def test_a_key_that_nobody_vouched_for_is_refused_with_its_fingerprint(
    host: hosts.Machine, tmp_path: Path
) -> None:
    with pytest.raises(UnknownHostKeyError, match="SHA256:"):
        uid(SshTransport(target(host, known_hosts=(tmp_path / "none",))))


def test_accept_new_writes_a_first_key_down_and_then_holds_to_it(host: hosts.Machine, tmp_path: Path) -> None:
    known = tmp_path / "ssh/known_hosts"
    uid(SshTransport(target(host, known_hosts=(known,), accept_new=True)))
    assert uid(SshTransport(target(host, known_hosts=(known,)))) != "0"
    assert len(known.read_text().splitlines()) == 1


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_key_is_refused_always(host: hosts.Machine, tmp_path: Path, accept_new: bool) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True, timeout=10
    )
    known = tmp_path / "known_hosts"
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    known.write_text(f"{host.address} {kind} {key}\n")
    with pytest.raises(CredentialsError, match="changed"):
        uid(SshTransport(target(host, known_hosts=(known,), accept_new=accept_new)))


def test_sudo_works_with_and_without_a_password(host: hosts.Machine) -> None:
    assert uid(SshTransport(target(host)), root=True) == "0"
    password = Secret(hosts.SUDO_PASSWORD)
    assert uid(SshTransport(target(host, user="pwsudo", sudo_password=password)), root=True) == "0"


def test_a_sudo_password_never_ends_up_in_the_input_of_the_program(host: hosts.Machine) -> None:
    password = Secret(hosts.SUDO_PASSWORD)
    for user in ("deploy", "pwsudo"):  # sudo does not ask the first one
        with closing(SshTransport(target(host, user=user, sudo_password=password))) as transport:
            assert transport.run(["cat"], stdin=b"input\n", root=True).stdout == b"input\n"
            assert read_facts(transport, "demo")["uid"] == 0


def test_a_wrong_or_missing_sudo_password_is_named(host: hosts.Machine) -> None:
    with pytest.raises(CredentialsError, match="sudo refuses the password"):
        uid(SshTransport(target(host, user="pwsudo", sudo_password=Secret("wrong"))), root=True)
    transport = SshTransport(target(host, user="pwsudo"))
    with closing(transport), pytest.raises(CredentialsError, match="sudo wants a password"):
        read_facts(transport, "demo")


@pytest.mark.usefixtures("no_agent")
def test_a_login_that_is_refused_is_named(host: hosts.Machine) -> None:
    with pytest.raises(CredentialsError, match="refuses the login"):
        uid(SshTransport(target(host, user="nobody")))


@pytest.mark.usefixtures("no_agent")
def test_a_key_with_a_passphrase_works_by_the_agent_only(
    host: hosts.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "locked"
    key.write_bytes(host.key_path.read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "phrase", "-f", key], check=True, timeout=10)
    with pytest.raises(CredentialsError, match="passphrase"):
        uid(SshTransport(target(host, key_file=key)))
    socket = str(tmp_path / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
            wait_until(lambda: os.path.exists(socket))
            subprocess.run(["ssh-add", "-q", host.key_path], check=True, timeout=10)
            assert uid(SshTransport(target(host, key_file=key))) != "0"
        finally:
            agent.terminate()


def wait_until(happened: Callable[[], bool], timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_ssh_config_names_address_user_and_key_also_in_included_files(
    host: hosts.Machine, tmp_path: Path
) -> None:
    (tmp_path / "more").write_text(
        f"Host web\n  HostName {host.address}\n  User deploy\n  IdentityFile {host.key_path}\n"
        f"  UserKnownHostsFile {host.known_hosts}\n"
    )
    config = tmp_path / "config"
    config.write_text("Include more\n")
    plain = SshTarget(name="web", address="web", ssh_config=config)
    assert uid(SshTransport(plain)) == host.shell("id -u deploy").stdout.strip()


def test_a_host_behind_a_jump_host_is_reached_and_both_keys_are_checked(fleet: Fleet, tmp_path: Path) -> None:
    jump, inner = fleet(2)
    config = tmp_path / "config"
    config.write_text(f"Host {inner.address}\n  ProxyJump deploy@{jump.address}\n")
    # Straight from here the inner host does not listen: only the jump host's address may come in.
    inner.shell(
        f"printf 'Match Address *,!{jump.address}\\n  DenyUsers *\\n' > /etc/ssh/sshd_config.d/jump.conf"
    )
    inner.shell("systemctl restart ssh")
    try:
        with pytest.raises(CredentialsError):
            uid(SshTransport(target(inner)))
        assert uid(SshTransport(target(inner, ssh_config=config)), root=True) == "0"
        only_inner = tmp_path / "known_hosts"
        lines = inner.known_hosts.read_text().splitlines(keepends=True)
        only_inner.write_text("".join(line for line in lines if line.startswith(f"{inner.address} ")))
        with pytest.raises(UnknownHostKeyError):
            uid(SshTransport(target(inner, ssh_config=config, known_hosts=(only_inner,))))
    finally:
        inner.shell("rm /etc/ssh/sshd_config.d/jump.conf; systemctl restart ssh")


def test_one_host_down_does_not_stop_the_others(fleet: Fleet) -> None:
    up, down = fleet(2)
    with down.unplugged():
        transports = [SshTransport(target(machine, connect_timeout_s=1.0)) for machine in (down, up)]
        outcomes = on_hosts(transports, lambda transport: uid(transport))
    assert outcomes[up.name].get() != "0"
    error = outcomes[down.name].error
    assert isinstance(error, UnreachableError)
    assert error.exit_code == 5


def test_a_host_that_freezes_ends_at_the_idle_deadline(fresh_host: hosts.Machine) -> None:
    transport = SshTransport(target(fresh_host))
    with closing(transport), closing(transport.start(["cat"])) as process:
        fresh_host.freeze()
        try:
            with pytest.raises(UnreachableError, match="in time"):
                SshTransport(target(fresh_host, connect_timeout_s=1.0)).run(["true"])
        finally:
            fresh_host.thaw()
        process.write(b"awake\n")
        assert process.read(10) == b"awake\n"


def test_a_host_without_python_is_told_apart(host_run: hosts.HostRun) -> None:
    with host_run.cluster(1, python=False) as (machine,), closing(SshTransport(target(machine))) as transport:
        with pytest.raises(HostError, match="python3 is not installed") as caught:
            read_facts(transport, "demo")
        assert caught.value.data["lacks"] == "python3"


def test_python_that_is_there_is_not_installed_again(host: hosts.Machine) -> None:
    with closing(SshTransport(target(host))) as transport:
        install_python(transport)


def test_noise_from_rc_files_breaks_nothing(fresh_host: hosts.Machine) -> None:
    noise = "echo hello; echo '@@x[1]'; printf 'no newline'; echo oops >&2\n"
    # Debian's .bashrc returns at once when it is not interactive; this one does not.
    fresh_host.write("/home/deploy/.bashrc", noise)
    with closing(SshTransport(target(fresh_host))) as transport:
        assert read_facts(transport, "demo")["uid"] == 0


def test_noise_from_rc_files_hides_no_answer_of_units_or_releases(fresh_host: hosts.Machine) -> None:
    fresh_host.write("/home/deploy/.bashrc", "echo hello; printf 'no newline'\n")
    with closing(SshTransport(target(fresh_host))) as transport:
        assert SystemdBackend(HostNames("demo"), transport).observe([]) == {}
        assert read_ledger(transport, HostNames("demo")).history == []


def test_a_host_that_vanishes_is_noticed_by_the_keepalive_while_nobody_speaks(
    fresh_host: hosts.Machine,
) -> None:
    with closing(SshTransport(target(fresh_host, keepalive_s=1))) as transport:
        process = transport.start(["sleep", "1000"])
        with fresh_host.unplugged():
            assert process.read(60) == b""  # its end, and not the deadline
            with pytest.raises(UnreachableError, match="the connection was lost"):
                process.wait()


def test_silence_ends_at_its_deadline(host: hosts.Machine) -> None:
    with (
        closing(SshTransport(target(host))) as transport,
        closing(transport.start(["cat"])) as process,
        pytest.raises(DeadlineError, match="no sign of life"),
    ):
        process.read(0.2)


FLOOD = """
import pathlib, resource, sys
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import LIMIT_BYTES, SshTransport
name, address, key, known = sys.argv[1:]
transport = SshTransport(SshTarget(name=name, address=address, user="deploy", key_file=pathlib.Path(key),
                                   known_hosts=(pathlib.Path(known),)))
transport.run(["true"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
flood = "head -c 70000000 /dev/zero; head -c 30000000 /dev/zero >&2; echo end; echo end >&2"
ended = transport.run(["sh", "-c", flood])
transport.close()
assert (len(ended.stdout), len(ended.stderr)) == (LIMIT_BYTES, LIMIT_BYTES), ended.exit_code
assert ended.stdout.endswith(b"end\\n") and ended.stderr.endswith(b"end\\n")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_program_that_prints_100_mb_keeps_only_its_end_in_memory(
    host: hosts.Machine, repository: Path
) -> None:
    arguments = [host.name, host.address, str(host.key_path), str(host.known_hosts)]
    done = subprocess.run(
        [sys.executable, "-c", FLOOD, *arguments], cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30  # MB: two limits, two windows, and copies of them


def test_a_port_of_the_hosts_loopback_is_reached_through_the_connection(host: hosts.Machine) -> None:
    answer = "import socket; s = socket.create_server(('127.0.0.1', 4567)); print('up', flush=True)\n"
    answer += "for _ in range(2): c = s.accept()[0]; c.sendall(c.recv(100).upper()); c.close()"
    with closing(SshTransport(target(host))) as transport:
        server = transport.start(["python3", "-c", answer])
        assert server.read(10) == b"up\n"
        port = transport.forward(4567)
        assert transport.forward(4567) == port
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as near:
                near.sendall(b"hello")
                near.shutdown(socket.SHUT_WR)
                assert near.recv(100) == b"HELLO"
                assert near.recv(100) == b""
        # What nobody listens on there is closed here.
        with socket.create_connection(("127.0.0.1", transport.forward(4568)), timeout=10) as refused:
            assert refused.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


CTRL_C = """
import sys, pathlib
from voiceops.adapters.ssh.target import SshTarget
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.fleet import on_hosts
name, address, key, known = sys.argv[1:]
target = SshTarget(name=name, address=address, user="deploy", key_file=pathlib.Path(key),
                   known_hosts=(pathlib.Path(known),))
def work(transport):
    process = transport.start(["sh", "-c", "echo up; exec sleep 987"])
    process.read(10)
    print("up", flush=True)
    return process.read(600)
try:
    on_hosts([SshTransport(target)], work)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_at_once_and_leaves_nothing_on_the_host(host: hosts.Machine, repository: Path) -> None:
    arguments = [host.name, host.address, str(host.key_path), str(host.known_hosts)]
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=repository,
    ) as controller:
        assert controller.stdout is not None
        assert controller.stdout.readline() == b"up\n"
        controller.send_signal(signal.SIGINT)
        _, errors = controller.communicate(timeout=10)
    assert (controller.returncode, errors) == (130, b"")
