"""The comparison rows of ``bench.drop``: new code on the same host as other tools bring it, and the agent's unit restarted.

All of them put the file into the folder of the release that serves. The agent is the same, and so is its unit, except that
its stop timeout is that of the tool: 90 s is systemd's own, 10 s Docker's. What drains for longer is killed.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Iterator

from tests.support import parts
from tests.support.bad_releases import AGENT
from tests.support.hosts import Machine
from tests.support.servers import PROJECT, Servers

DOCKER_STOP_S = 10.0
_DROP_IN = f"/run/systemd/system/{PROJECT}-agent@.service.d/50-stop.conf"
_PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - copy: {{src: "{source}", dest: "{target}", mode: "0640", group: "vo-{project}"}}
      notify: restart
  handlers:
    - name: restart
      systemd: {{name: "{unit}", state: restarted}}
"""


@contextlib.contextmanager
def stopped_within(machine: Machine, stop_s: float) -> Iterator[None]:
    """The agent's units with this stop timeout."""
    machine.write(_DROP_IN, f"[Service]\nTimeoutStopSec={stop_s:g}\n")
    machine.shell("systemctl daemon-reload")
    try:
        yield
    finally:
        machine.shell(f"rm {_DROP_IN}; systemctl daemon-reload")


def serving_unit(machine: Machine) -> str:
    """The unit of the agent that takes calls."""
    listed = machine.shell(
        f"systemctl list-units --plain --no-legend --state=active '{PROJECT}-agent@*'"
    ).stdout
    return listed.split()[0]


def agent_file(machine: Machine, unit: str) -> str:
    """Where the release of a unit has the agent's file."""
    release = unit.partition("@")[2].removesuffix(".service").partition(".")[0]
    folder = f"/opt/{PROJECT}/releases/{release}/"
    found = machine.shell(f"find {folder} -name {AGENT.name} -not -path '*/site-packages/*'").stdout
    assert found, f"no {AGENT.name} in {folder}"
    return found.split()[0]


def restart_each(made: Servers, count: int, chance: random.Random, stop_s: float) -> str:
    """The files put in place, then ``systemctl restart``."""
    (machine,) = made.machines
    unit = serving_unit(machine)
    with stopped_within(machine, stop_s):
        for _ in range(count):
            machine.copy_in(made.folder / AGENT, agent_file(machine, unit))
            machine.shell(f"systemctl restart {unit}", timeout_s=stop_s + 120)
            time.sleep(3.0)
    return f"{count} times systemctl restart, killed after {stop_s:g} s"


def stop_and_start_each(made: Servers, count: int, chance: random.Random, stop_s: float) -> str:
    """The old one is stopped, and killed after ``DOCKER_STOP_S``; then the new one is started."""
    (machine,) = made.machines
    unit = serving_unit(machine)
    with stopped_within(machine, DOCKER_STOP_S):
        for _ in range(count):
            machine.copy_in(made.folder / AGENT, agent_file(machine, unit))
            machine.shell(f"systemctl stop {unit}; systemctl start {unit}", timeout_s=120)
            time.sleep(3.0)
    return f"{count} times stop and start, killed after {DOCKER_STOP_S:g} s"


def playbook_each(made: Servers, count: int, chance: random.Random, stop_s: float) -> str:
    """Ansible copies the file and restarts the unit by a handler, as roles do."""
    (machine,) = made.machines
    unit = serving_unit(machine)
    target = agent_file(machine, unit)
    playbook = made.folder / "playbook.yaml"
    text = _PLAYBOOK.format(source=made.folder / AGENT, target=target, project=PROJECT, unit=unit)
    playbook.write_text(text)
    reached = (
        f"{machine.name} ansible_host={machine.address} ansible_user=root"
        f" ansible_ssh_private_key_file={machine.key_path}"
        f" ansible_ssh_common_args='-o UserKnownHostsFile={machine.known_hosts}'\n"
    )
    (made.folder / "ansible-hosts").write_text(reached)
    program = [str(parts.ansible()), "-m", "ansible.cli.playbook"]
    with stopped_within(machine, stop_s):
        for _ in range(count):
            with (made.folder / AGENT).open("a") as file:
                file.write(f"TURN = {chance.random()}\n")
            done = subprocess.run(
                [*program, "-i", str(made.folder / "ansible-hosts"), str(playbook)],
                capture_output=True,
                text=True,
                timeout=stop_s + 180,
                check=False,
                cwd=made.folder,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "RUNNING HANDLER" in done.stdout, done.stdout
            time.sleep(3.0)
    return f"{count} runs of an Ansible role, killed after {stop_s:g} s"
