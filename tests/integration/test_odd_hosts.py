"""Hosts that are set up in an unusual way: what works works, and what can't names its cause."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support import hosts, parts
from tests.support.hosts_ssh import target
from tests.support.servers import Servers, cheap_servers
from voiceops.adapters.ssh.errors import ShellRefusalError
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.errors import CredentialsError, UnreachableError
from voiceops.model.secret import Secret
from voiceops.resources import read_facts

MENU = """\
#!/bin/sh
while :; do
    echo 'Welcome. 1) restart the printer  2) log out'
    read -r choice || exit 1
    [ "$choice" = 2 ] && exit 0
done
"""


@pytest.fixture
def servers(tmp_path: Path, fresh_host: hosts.Machine) -> Servers:
    return cheap_servers(tmp_path / "project", [fresh_host])


def old_python(version: str) -> Path:  # noqa: RET503 - missing() does not return
    """The folder of an interpreter that is too old for hosts."""
    for candidate in (Path.home() / ".pyenv/versions").glob(f"{version}.*"):
        return candidate
    parts.missing(f"python{version}", "a Python that is too old; install it by pyenv")


def test_an_old_python_is_named_with_what_is_needed(
    servers: Servers, fresh_host: hosts.Machine, tmp_path: Path
) -> None:
    source, folder = old_python("3.8"), tmp_path / "python"
    shutil.copytree(
        source / "lib/python3.8",
        folder / "lib/python3.8",
        ignore=shutil.ignore_patterns("test", "site-packages", "lib2to3", "idlelib", "config-*", "*.a"),
    )
    (folder / "bin").mkdir()
    shutil.copy2(source / "bin/python3.8", folder / "bin/python3")
    for library in (source / "lib").glob("libpython3.8.so*"):
        shutil.copy2(library, folder / "lib")
    fresh_host.copy_in(folder, "/usr/local")
    fresh_host.shell("ldconfig")
    assert fresh_host.ssh("python3 --version").stdout.startswith("Python 3.8.")
    for user in ("root", "deploy"):
        servers.variables["ansible_user"] = user
        servers.write()
        for command in ("deploy", "lock", "unlock"):
            failed = servers.inv(command, "--group", "servers", code=None)
            assert failed.code == 1, failed.err
            assert "Python 3.8 is too old; 3.9 or newer is needed" in failed.err
            assert "install Python 3.10 or newer" in failed.err


@pytest.mark.parametrize("shell", ["nologin", "menu"])
def test_a_login_shell_that_runs_no_commands_is_named(
    tmp_path: Path, fresh_host: hosts.Machine, shell: str
) -> None:
    path = "/usr/sbin/nologin"
    if shell == "menu":
        path = "/usr/local/bin/menu"
        fresh_host.write(path, MENU, mode=0o755)
    said = "not available" if shell == "nologin" else "restart the printer"
    with ExitStack() as ending:
        running = {}
        for user in ("root", "deploy"):  # side by side: a menu is listened to for half a minute
            fresh_host.shell(f"usermod --shell {path} {user}")
            servers = cheap_servers(tmp_path / user, [fresh_host])
            servers.variables["ansible_user"] = user
            servers.write()
            running[user] = servers.spawn("deploy", "--group", "servers")
            ending.callback(running[user].wait)
            ending.callback(running[user].kill)
        for user, process in running.items():
            out, refused = process.communicate(timeout=110)
            assert process.returncode == 5, out + refused
            assert f"the login shell of {user} runs no commands" in refused
            assert "usermod --shell" in refused
            assert said in refused


def test_sudo_that_wants_a_terminal_is_told_from_sudo_that_wants_a_password(
    host: hosts.Machine,
) -> None:
    password = Secret(hosts.SUDO_PASSWORD)
    host.shell("printf 'Defaults requiretty\\n' > /etc/sudoers.d/tty && chmod 0440 /etc/sudoers.d/tty")
    try:
        for user, secret in (("deploy", None), ("pwsudo", None), ("pwsudo", password)):
            with closing(SshTransport(target(host, user=user, sudo_password=secret))) as transport:
                with pytest.raises(CredentialsError, match="wants a terminal \\(requiretty\\)"):
                    transport.run(["id"], root=True)
                with pytest.raises(CredentialsError, match="wants a terminal \\(requiretty\\)"):
                    read_facts(transport, "demo")
    finally:
        host.shell("rm /etc/sudoers.d/tty")
    with (
        closing(SshTransport(target(host, user="pwsudo"))) as transport,
        pytest.raises(CredentialsError, match="sudo wants a password"),
    ):
        transport.run(["id"], root=True)


def test_sudo_that_allows_single_programs_is_not_asked_for_a_password(host: hosts.Machine) -> None:
    host.shell(
        "useradd --create-home --shell /bin/bash limited && mkdir ~limited/.ssh && "
        "cp ~deploy/.ssh/authorized_keys ~limited/.ssh/ && chown -R limited: ~limited/.ssh && "
        "echo 'limited ALL=(ALL) NOPASSWD: /usr/bin/true' > /etc/sudoers.d/limited"
    )
    with (
        closing(SshTransport(target(host, user="limited"))) as transport,
        pytest.raises(CredentialsError) as refused,
    ):
        transport.run(["id"], root=True)
    assert "password" not in refused.value.message or "wants" in refused.value.message
    assert refused.value.log_tail, "what sudo said"


@pytest.fixture
def one_session(fresh_host: hosts.Machine) -> hosts.Machine:
    fresh_host.write("/etc/ssh/sshd_config.d/sessions.conf", "MaxSessions 1\n")
    fresh_host.shell("systemctl restart ssh")
    fresh_host.wait_up()
    return fresh_host


@pytest.mark.timeout(480)
def test_a_host_that_allows_one_session_at_a_time_is_deployed(
    servers: Servers, one_session: hosts.Machine
) -> None:
    document = servers.deploy()
    assert document["hosts"][one_session.name]["services"]["web"]["state"] == "ready"
    assert servers.deploy()["changed_count"] == 0
    servers.inv("check-running", "--group", "servers")
    servers.inv("restart", "--group", "servers")


def test_a_host_that_allows_no_session_says_what_to_raise(host: hosts.Machine) -> None:
    host.write("/etc/ssh/sshd_config.d/sessions.conf", "MaxSessions 0\n")
    host.shell("systemctl restart ssh")
    host.wait_up()
    try:
        with (
            closing(SshTransport(target(host))) as transport,
            pytest.raises(UnreachableError, match="refuses a session") as refused,
        ):
            transport.run(["id"])
        assert "raise MaxSessions" in (refused.value.hint or "")
    finally:
        host.shell("rm /etc/ssh/sshd_config.d/sessions.conf; systemctl restart ssh")


def test_what_a_program_says_of_many_lines_does_not_hide_that_it_ran(host: hosts.Machine) -> None:
    """More than what is kept of an error output: the marks before it must not be missed."""
    with closing(SshTransport(target(host))) as transport:
        script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 7"
        ended = transport.run(["sh", "-c", script], root=True)
    assert ended.exit_code == 7
    assert set(ended.stderr) == {ord("x")}


def test_a_shell_refusal_names_the_user(host: hosts.Machine) -> None:
    host.shell("usermod --shell /bin/false pwsudo")
    try:
        with closing(SshTransport(target(host, user="pwsudo"))) as transport:
            with pytest.raises(ShellRefusalError) as refused:
                transport.run(["id"])
            assert refused.value.data == {"host": host.name, "user": "pwsudo"}
    finally:
        host.shell("usermod --shell /bin/bash pwsudo")
