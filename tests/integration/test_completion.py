"""Tab in the real shells: what `inv completion --install` writes is found by bash, zsh and fish, for ./inv too."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import parts
from voiceops.cli.completion import BASH_COMPLETION

INVENTORY = """\
all:
  vars:
    project: p
    services:
      agent: {kind: command, command: [/bin/sleep, "9"]}
      front-desk: {kind: command, command: [/bin/sleep, "9"]}
  children:
    local: {hosts: {localhost: {ansible_connection: local}}}
    voice: {hosts: {voice1: {}, other1: {}}}
"""
PROMPT = "READY> "
TAB_TIMEOUT_S = 60.0


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until ``text`` stands on the terminal."""
        ends_at = time.monotonic() + TAB_TIMEOUT_S
        while text not in self.seen:
            left = ends_at - time.monotonic()
            readable, _, _ = select.select([self._descriptor], [], [], max(left, 0))
            assert readable, f"{text!r} did not come:\n{self.seen}"
            self.seen += os.read(self._descriptor, 65536).decode(errors="replace")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "inventory.yaml").write_text(INVENTORY)
    (folder / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    (folder / "inv").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m voiceops --project "{folder}" --invoked-as "$0" "$@"\n'
    )
    (folder / "inv").chmod(0o755)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def environment(home: Path, repository: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ZDOTDIR"))}
    return kept | {"HOME": str(home), "TERM": "dumb", "PYTHONPATH": str(repository), "PS1": PROMPT}


@contextmanager
def terminal(argv: list[str], folder: Path, variables: dict[str, str]) -> Iterator[Terminal]:
    pid, descriptor = pty.fork()
    if pid == 0:  # the child: nothing of pytest may run here
        os.chdir(folder)
        os.execvpe(argv[0], argv, variables)
    try:
        yield Terminal(descriptor)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def shell(name: str) -> str:
    """The shell's path; installed by ``tests.support.install_parts``."""
    return shutil.which(name) or parts.missing(name, f"install the package {name}")


def install(name: str, project: Path, variables: dict[str, str]) -> str:
    command = ["./inv", "completion", "--shell", name, "--install"]
    first = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=True)
    again = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=True)
    assert "nothing to do" in again.stdout
    return first.stdout


def test_fish_offers_commands_flags_services_and_hosts(project: Path, home: Path, repository: Path) -> None:
    fish = shell("fish")
    variables = environment(home, repository)
    assert str(home / ".config/fish/conf.d/voiceops.fish") in install("fish", project, variables)

    def offered(line: str) -> list[str]:
        asked = [fish, "-c", f'complete -C "{line}"']
        done = subprocess.run(
            asked, cwd=project, env=variables, capture_output=True, text=True, timeout=60, check=True
        )
        return [word.partition("\t")[0] for word in done.stdout.splitlines()]

    assert offered("./inv rooms.s") == ["rooms.selftest", "rooms.show"]
    assert offered("./inv logs ") == ["agent", "front-desk"]
    assert offered("./inv start --host voi") == ["voice1"]
    assert offered("./inv start --repl") == ["--replace"]


def test_bash_completes_commands_services_and_values(project: Path, home: Path, repository: Path) -> None:
    bash = shell("bash")
    variables = environment(home, repository)
    install("bash", project, variables)
    with (home / ".bashrc").open("a") as rc:  # what Debian's own .bashrc does
        rc.write(f"PS1='{PROMPT}'; [ -f {BASH_COMPLETION} ] && . {BASH_COMPLETION}\n")
    with terminal([bash, "-i"], project, variables) as line:
        line.wait_for(PROMPT)
        line.send("./inv rooms.disp\t")
        line.wait_for("./inv rooms.dispatch ")
        line.send("\x15./inv restart fro\t")
        line.wait_for("./inv restart front-desk ")
        line.send("\x15./inv start --host=oth\t")
        line.wait_for("--host=other1")


def test_zsh_completes_commands_services_and_values(project: Path, home: Path, repository: Path) -> None:
    zsh = shell("zsh")
    variables = environment(home, repository)
    written = install("zsh", project, variables)
    assert str(home / ".zshrc") in written
    with terminal([zsh, "-i"], project, variables) as line:
        line.send("echo up=$((40+2))\n")
        line.wait_for("up=42")
        line.send("./inv rooms.disp\t")
        line.wait_for("rooms.dispatch ")
        line.send("\x15./inv restart fro\t")
        line.wait_for("front-desk ")
        line.send("\x15./inv start --host oth\t")
        line.wait_for("other1 ")


def test_a_zshrc_of_ones_own_is_kept(project: Path, home: Path, repository: Path) -> None:
    (home / ".zshrc").write_text("setopt no_beep")
    install("zsh", project, environment(home, repository))
    text = (home / ".zshrc").read_text()
    assert text.startswith("setopt no_beep\n")
    assert text.count("voiceops completion >>>") == 1
