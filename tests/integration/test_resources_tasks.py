"""Users' own tasks on real hosts, and Fabric-speed bookkeeping: how many round trips a no-op takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import hosts
from tests.support.hosts_ssh import target
from voiceops.adapters.ssh.transport import SshTransport
from voiceops.ports import RemoteProcess
from voiceops.resources import File, State, apply


@pytest.fixture
def project(host: hosts.Machine, repository: Path, tmp_path: Path) -> Path:
    """A project of a user: the harden example and an inventory with the host."""
    (tmp_path / "tasks.py").write_text((repository / "examples/harden/tasks.py").read_text())
    inventory = {
        "all": {
            "vars": {"project": "mine"},
            "hosts": {
                "web1": {
                    "ansible_host": host.address,
                    "ansible_user": "pwsudo",
                    "ansible_become_password": {"env": "SUDO_PASSWORD"},
                    "ansible_ssh_private_key_file": str(host.key_path),
                    "ansible_ssh_common_args": f"-o UserKnownHostsFile={host.known_hosts}",
                    "root_login": "no",
                }
            },
        }
    }
    (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
    (tmp_path / ".env").write_text(
        f"SUDO_PASSWORD={json.dumps(hosts.SUDO_PASSWORD).replace('$', chr(92) + '$')}\n"
    )
    return tmp_path


def inv(project: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "voiceops", "--project", str(project), *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_harden_example_checks_applies_and_then_changes_nothing(
    host: hosts.Machine, project: Path, repository: Path
) -> None:
    checked = inv(project, repository, "harden", "--host", "web1", "--check", "--diff")
    assert checked.returncode == 2, checked.stdout + checked.stderr
    assert "+PermitRootLogin no" in checked.stdout
    assert inv(project, repository, "harden", "--host", "web1").returncode == 0
    assert "PermitRootLogin no" in host.read("/etc/ssh/sshd_config.d/10-harden.conf")
    again = inv(project, repository, "harden", "--host", "web1", "--json")
    assert (again.returncode, json.loads(again.stdout)["hosts"]["web1"]["changed_count"]) == (0, 0)
    assert inv(project, repository, "harden", "--host", "web1", "--check").returncode == 0


def test_a_host_that_is_down_is_exit_5(project: Path, repository: Path, host: hosts.Machine) -> None:
    with host.unplugged():
        (project / "inventory.yaml").write_text(
            (project / "inventory.yaml")
            .read_text()
            .replace("UserKnownHostsFile", "ConnectTimeout=1 -o UserKnownHostsFile")
        )
        down = inv(project, repository, "harden", "--host", "web1")
    assert down.returncode == 5
    assert "web1: no answer" in down.stdout
    assert "Traceback" not in down.stderr


class Counting(SshTransport):
    """Counts what goes over the line."""

    started = 0

    def start(self, argv: Sequence[str], *, root: bool = False) -> RemoteProcess:  # type: ignore[override]
        self.started += 1
        return super().start(argv, root=root)


def test_a_run_is_one_exec_with_uploads_or_without(host: hosts.Machine) -> None:
    state = State("counted", [File(path="/etc/counted", content="x" * 1_000_000)])
    with closing(Counting(target(host))) as transport:
        assert apply(transport, state).changed == 1
        assert apply(transport, state).changed == 0
        assert transport.started == 2
