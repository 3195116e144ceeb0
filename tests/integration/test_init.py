"""Projects outside of the checkout: made by init, or with voiceops installed as a package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.support import parts
from voiceops.config.source.dotenv import parse

SHIPPED_FILES = ("inventory.yaml", ".env.example", "requirements.lock")
SERVER = {
    "project": "frontdesk",
    "livekit": {
        "url": "ws://10.9.8.7:7880",
        "api_key": "key",
        "api_secret": "a-secret-of-32-characters-or-more",
    },
    "services": {"agent": {"kind": "agent", "entry": "agent/agent.py"}},
}
FACTS = {"hostname": "web1", "machine": "x86_64", "libc": ["glibc", "2.36"], "python": [3, 11, 2]}
TWO_LINES = "from voiceops.tasks import namespace\n__all__ = ['namespace']\n"


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # A busy test machine must not make the agent refuse the call.
        | {"VOICEOPS_LOAD_LIMIT": "off"}
        | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def voiceops(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-I", "-m", "voiceops", *arguments, folder=folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "My first Project"
    folder.mkdir()
    done = voiceops("init", folder=folder)
    assert done.returncode == 0, done.stderr
    # What this test runs with may not be what an ./inv of the checkout would build.
    script = folder / "inv"
    lines = script.read_text().splitlines(keepends=True)
    script.write_text(
        "".join("made_with=/gone/voiceops\n" if x.startswith("made_with=") else x for x in lines)
    )
    return folder


@pytest.fixture
def on_path(tmp_path: Path) -> str:
    """A PATH on which ``voiceops`` is the one that this test belongs to."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "voiceops").write_text(f'#!/bin/sh\nexec {sys.executable} -I -m voiceops "$@"\n')
    (tools / "voiceops").chmod(0o755)
    return f"{tools}:{os.environ['PATH']}"


def free_ports(inventory: Path) -> None:
    """Move the sample inventory off its default ports."""
    text = inventory.read_text()
    for pattern, new in (
        (r"#?url: ws://127.0.0.1:\d+", f"url: ws://127.0.0.1:{parts.free_port()}"),
        (r"#?rtc_tcp_port: \d+", f"rtc_tcp_port: {parts.free_port()}"),
        (r"#?rtc_udp_port: \d+", f"rtc_udp_port: {parts.free_port()}"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    inventory.write_text(text)


def test_a_new_project_starts_at_once_and_its_agent_is_heard(project: Path, on_path: str) -> None:
    parts.livekit_server_binary()
    free_ports(project / "inventory.yaml")
    try:
        started = run("./inv", "start", "--json", folder=project, PATH=on_path)
        assert started.returncode == 0, started.stderr
        services: dict[str, Any] = json.loads(started.stdout)["hosts"]["localhost"]["services"]
        assert {name: service["state"] for name, service in services.items()} == {
            "livekit": "ready",
            "agent": "ready",
            "monitor": "ready",
        }
        call = run("./inv", "call", "--json", folder=project, PATH=on_path)
        assert call.returncode == 0, call.stdout
        assert json.loads(call.stdout)["answered_count"] == 1
    finally:
        stopped = run("./inv", "stop", "--yes", folder=project, PATH=on_path)
    assert stopped.returncode == 0, stopped.stderr


def test_init_names_the_project_after_its_folder_and_hides_nothing_from_git(project: Path) -> None:
    assert "project: my-first-project\n" in (project / "inventory.yaml").read_text()
    assert "entry: agent/agent.py" in (project / "inventory.yaml").read_text()
    assert (project / "agent/agent.py").exists()
    assert ".env" in (project / ".gitignore").read_text().split()
    assert os.access(project / "inv", os.X_OK)


def test_init_makes_strong_keys_of_its_own_that_a_first_deploy_finds(project: Path) -> None:
    keys = parse((project / ".env").read_text())
    assert (project / ".env").stat().st_mode & 0o777 == 0o600
    assert len(keys["LIVEKIT_API_SECRET"]) >= 43
    known = project / ".voiceops" / "hosts" / "10.9.8.7-10.9.8.7-22.json"
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(FACTS))
    parts.livekit_server_binary()
    rendered = voiceops("render", "--host", "deploy@10.9.8.7:22", "--json", folder=project)
    assert rendered.returncode == 0, rendered.stderr
    assert keys["LIVEKIT_API_SECRET"] not in rendered.stdout


def test_init_keeps_keys_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / ".env").write_text("LIVEKIT_API_KEY=mine\nOTHER=x\n")
    assert voiceops("init", folder=folder).returncode == 0
    keys = parse((folder / ".env").read_text())
    assert (keys["LIVEKIT_API_KEY"], keys["OTHER"]) == ("mine", "x")
    assert len(keys["LIVEKIT_API_SECRET"]) >= 43


def test_a_second_init_changes_nothing_and_a_missing_file_comes_back(project: Path) -> None:
    (project / "inventory.yaml").write_text("# mine\n")
    assert json.loads(voiceops("init", "--json", folder=project).stdout)["changed_count"] == 0
    (project / ".gitignore").unlink()
    assert json.loads(voiceops("init", "--json", folder=project).stdout)["changed_count"] == 1
    assert (project / "inventory.yaml").read_text() == "# mine\n"


def test_init_refuses_a_folder_with_other_things_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    refused = voiceops("init", folder=tmp_path)
    assert refused.returncode == 3
    assert "thesis.txt" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert voiceops("init", "--yes", folder=tmp_path).returncode == 0


def test_a_project_whose_voiceops_is_gone_says_how_to_get_it_back(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "empty"
    tools.mkdir()
    (tools / "sh").symlink_to("/bin/sh")
    done = run("./inv", "start", folder=project, PATH=str(tools))
    assert done.returncode == 1
    assert "hint: install it again (pip install voiceops)" in done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A fresh environment with the wheel in it; what the wheel needs is lent by this one."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in ("voiceops", "templates", "examples"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", *SHIPPED_FILES):
        shutil.copy(repository / name, source / name)
    uv = Path(sys.executable).with_name("uv")
    built = run(
        *(uv, "build", "--wheel", "--no-build-isolation", "--quiet"),
        *("--python", sys.executable, "--out-dir", work, source),
        folder=work,
    )
    assert built.returncode == 0, built.stderr
    environment = work / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=work)
    python = environment / "bin/python"
    wheel = next(work.glob("*.whl"))
    done = run(uv, "pip", "install", "--no-deps", "--offline", "--python", python, wheel, folder=work)
    assert done.returncode == 0, done.stderr
    site = next((environment / "lib").glob("python*")) / "site-packages"
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_plain_invoke_runs_the_tasks_of_an_installed_voiceops(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TWO_LINES)
    done = run(installed, "-I", "-m", "invoke", "--list", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"start", "stop", "check-running", "init"} <= set(done.stdout.split())


def test_an_installed_voiceops_carries_its_templates_and_makes_projects(
    installed: Path, tmp_path: Path
) -> None:
    assert run(installed.with_name("voiceops"), "init", folder=tmp_path).returncode == 0
    listed = run("./inv", "--list", folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    program = "from voiceops.config.shipped import shipped; print(shipped('templates/livekit.yaml'))"
    found = run(installed, "-I", "-c", program, folder=tmp_path)
    assert found.stdout.startswith(str(installed.parent.parent))


def test_an_installed_voiceops_deploys_what_a_checkout_deploys(installed: Path, tmp_path: Path) -> None:
    """The same pinned packages, the same wheel of voiceops: so the same release."""
    assert voiceops("init", folder=tmp_path).returncode == 0
    host = {"ansible_host": "192.0.2.1"}
    inventory = {"all": {"vars": SERVER, "children": {"web": {"hosts": {"web1": host}}}}}
    (tmp_path / "inventory.yaml").write_text(json.dumps(inventory))
    known = tmp_path / ".voiceops" / "hosts" / "web1-192.0.2.1-22.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps(FACTS))
    render = ("-I", "-m", "voiceops", "--project", tmp_path, "render", "--host", "web1", "--json")
    ours, theirs = (run(python, *render, folder=tmp_path) for python in (sys.executable, installed))
    assert theirs.returncode == 0, theirs.stderr
    rendered = json.loads(theirs.stdout)["hosts"]["web1"]["files"]
    assert any("/releases/" in path for path in rendered)
    assert json.loads(ours.stdout)["hosts"]["web1"]["files"] == rendered


def test_a_second_project_gets_ports_that_the_first_one_does_not_use(tmp_path: Path) -> None:
    def ports(name: str) -> list[str]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = run(
            sys.executable,
            "-I",
            "-m",
            "voiceops",
            "init",
            folder=folder,
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )
        assert done.returncode == 0, done.stderr
        return re.findall(
            r"url: ws://127.0.0.1:(\d+)|rtc_\w+_port: (\d+)", (folder / "inventory.yaml").read_text()
        )

    first, second, third = ports("one"), ports("two"), ports("three")
    flat = [port for found in (first, second, third) for pair in found for port in pair if port]
    assert len(flat) == len(set(flat)) == 9
    assert ports("two") == second, "what is there stays"
    shutil.rmtree(tmp_path / "one")
    assert ports("four") == first, "a project that is gone keeps no ports"
