"""``./inv`` in copies of the checkout. The builds are real; most install only uv, to be quick."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from voiceops.bootstrap import _pinned

MAIN = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "prefix": sys.prefix}))
"""


def environment(**changed: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if name != "VOICEOPS_PYTHON"}
    return base | {"VOICEOPS_PYTHON": ""} | changed


def call(
    inv: Path, *arguments: str, folder: Path | None = None, **changed: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(inv), *arguments],
        cwd=folder,
        env=environment(**changed),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def environments(checkout: Path) -> list[str]:
    return sorted(p.name for p in (checkout / ".voiceops/venvs").iterdir() if p.is_dir())


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A checkout of its own with a space in its path, whose voiceops only says how it was called."""
    root = tmp_path / "a checkout"
    (root / "voiceops").mkdir(parents=True)
    shutil.copy(repository / "inv", root / "inv")
    shutil.copy(repository / "voiceops/bootstrap.py", root / "voiceops/bootstrap.py")
    (root / "voiceops/__init__.py").touch()
    (root / "voiceops/__main__.py").write_text(MAIN)
    (root / "requirements.lock").write_text(_pinned((repository / "requirements.lock").read_text(), "uv"))
    return root


def test_first_use_builds_and_later_ones_do_not_through_a_link_from_any_folder(
    checkout: Path, tmp_path: Path
) -> None:
    link = tmp_path / "bin" / "inv"
    link.parent.mkdir()
    link.symlink_to(Path("..") / checkout.name / "inv")

    first = call(link, "start", "--only", "a b", folder=Path("/"))
    assert "building the environment" in first.stderr
    assert answer(first)["arguments"] == [
        "--project",
        str(checkout),
        "--invoked-as",
        str(link),
        "start",
        "--only",
        "a b",
    ]

    second = call(link, "start", folder=tmp_path)
    assert second.stderr == ""
    assert answer(second)["folder"] == str(tmp_path)
    assert Path(answer(second)["prefix"]).parent == checkout / ".voiceops/venvs"


def test_ten_first_uses_at_once_build_once(checkout: Path) -> None:
    running = [
        subprocess.Popen(
            [checkout / "inv"],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    errors = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 10
    assert sum("building the environment" in error for error in errors) == 1
    assert len(environments(checkout)) == 1


def test_a_killed_first_use_is_repaired_by_the_next(checkout: Path) -> None:
    process = subprocess.Popen([checkout / "inv"], env=environment(), stderr=subprocess.PIPE)
    wait_until(lambda: (checkout / ".voiceops/venvs").is_dir() and environments(checkout) != [])
    process.kill()
    process.communicate(timeout=10)
    half_made = environments(checkout)
    assert not (checkout / ".venv").exists()

    answer(call(checkout / "inv"))
    assert len(environments(checkout)) == 1
    assert environments(checkout) != half_made


def test_an_interrupt_ends_the_build_and_leaves_nothing(checkout: Path) -> None:
    process = subprocess.Popen(
        [checkout / "inv"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (checkout / ".voiceops/venvs").is_dir() and environments(checkout) != [])
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    assert environments(checkout) == []


def test_a_changed_lock_switches_new_commands_and_leaves_running_ones_alone(checkout: Path) -> None:
    old = answer(call(checkout / "inv"))["prefix"]
    agent = subprocess.Popen([f"{old}/bin/python", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for comment in ("# one\n", "# two\n"):
            with (checkout / "requirements.lock").open("a") as lock:
                lock.write(comment)
            new = answer(call(checkout / "inv"))["prefix"]
            assert new != old
            assert (Path(old) / "bin/uv").exists()
    finally:
        agent.communicate(b"\n", timeout=10)
    assert agent.returncode == 0
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# three\n")
    answer(call(checkout / "inv"))
    assert not Path(old).exists()


def test_a_moved_checkout_needs_no_new_build(checkout: Path, tmp_path: Path) -> None:
    answer(call(checkout / "inv"))
    moved = checkout.rename(tmp_path / "elsewhere")
    done = call(moved / "inv")
    assert done.stderr == ""
    assert answer(done)["arguments"] == ["--project", str(moved), "--invoked-as", str(moved / "inv")]


def test_an_environment_whose_interpreter_is_gone_is_built_again(checkout: Path) -> None:
    prefix = Path(answer(call(checkout / "inv"))["prefix"])
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").symlink_to("/gone/python3")
    done = call(checkout / "inv")
    assert "building the environment" in done.stderr
    assert answer(done)["prefix"] != str(prefix)


def test_a_foreign_venv_folder_is_not_touched(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/mine").touch()
    done = call(checkout / "inv")
    assert done.returncode == 1
    assert "a folder that ./inv did not make" in done.stderr
    assert (checkout / ".venv/mine").exists()


def test_an_unreachable_registry_is_named(checkout: Path) -> None:
    nowhere = "http://127.0.0.1:9/simple"
    done = call(checkout / "inv", PIP_INDEX_URL=nowhere, UV_DEFAULT_INDEX=nowhere, PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "could not download uv" in done.stderr
    assert "hint: check the network" in done.stderr
    assert environments(checkout) == []


def test_a_read_only_checkout_is_an_error_without_traceback(checkout: Path) -> None:
    (checkout / ".voiceops").write_text("in the way")
    done = call(checkout / "inv")
    assert done.returncode == 1
    assert "can't build the environment" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unsuitable_interpreter_asked_for_by_name_is_refused(checkout: Path) -> None:
    done = call(checkout / "inv", VOICEOPS_PYTHON="/bin/false")
    assert done.returncode == 3
    assert "VOICEOPS_PYTHON=/bin/false" in done.stderr


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A PATH like that of a Debian without python3-venv, whose apt-get notes what it is asked for."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("readlink", "cmp", "basename", "sed", "sh", "env"):
        (tools / name).symlink_to(shutil.which(name) or name)
    script(tools / "python3.11", "echo /usr/bin/python3.11; exit 2")
    script(tools / "apt-get", f'echo "$@" >> {tmp_path}/apt.log; ln -sf {sys.executable} {tools}/python3.11')
    return tools


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_debian_without_venv_says_which_package_to_install(checkout: Path, debian: Path) -> None:
    script(debian / "id", "echo 1000")
    done = call(checkout / "inv", PATH=str(debian), HOME=str(debian), PYENV_ROOT="")
    assert done.returncode == 1
    assert "hint: sudo apt-get install python3.11-venv" in done.stderr


def test_debian_without_venv_gets_the_package_when_root(checkout: Path, debian: Path, tmp_path: Path) -> None:
    script(debian / "id", "echo 0")
    (debian / "ln").symlink_to("/bin/ln")
    done = call(checkout / "inv", PATH=str(debian), HOME=str(debian), PYENV_ROOT="")
    assert "installing python3.11-venv" in done.stderr
    assert "install -qq -y python3.11-venv" in (tmp_path / "apt.log").read_text()
    answer(done)


def wait_until(condition: Any) -> None:
    ends_at = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.01)
