"""The first local start makes strong keys, once, whatever else happens at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voiceops.config.local_keys import ensure_local_keys, new_keys_notice
from voiceops.config.source.dotenv import Environment, parse
from voiceops.errors import ConfigError, StorageError
from voiceops.wiring.project import Project

NAMES: Any = {"key": "LIVEKIT_API_KEY", "secrets": ["LIVEKIT_API_SECRET"]}


def test_missing_keys_are_written_for_the_owner_alone(tmp_path: Path) -> None:
    environment = Environment(tmp_path, {})

    assert ensure_local_keys(environment, **NAMES) == ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")

    assert len(environment.get("LIVEKIT_API_SECRET") or "") >= 32
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [".env"]


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    ensure_local_keys(Environment(tmp_path, {}), **NAMES)
    before = (tmp_path / ".env").read_bytes()

    assert ensure_local_keys(Environment(tmp_path, {}), **NAMES) == ()
    assert (tmp_path / ".env").read_bytes() == before


def test_what_the_file_holds_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nOTHER='x'\nLIVEKIT_API_KEY=mine\nLIVEKIT_API_SECRET=")

    assert ensure_local_keys(Environment(tmp_path, {}), **NAMES) == ("LIVEKIT_API_SECRET",)

    text = (tmp_path / ".env").read_text()
    assert text.startswith("# mine\nOTHER='x'\nLIVEKIT_API_KEY=mine\n")
    assert parse(text)["LIVEKIT_API_KEY"] == "mine"
    assert len(parse(text)["LIVEKIT_API_SECRET"]) >= 32


def test_keys_of_the_environment_need_no_file(tmp_path: Path) -> None:
    environment = Environment(tmp_path, {"LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s"})

    assert ensure_local_keys(environment, **NAMES) == ()
    assert not (tmp_path / ".env").exists()


def test_a_file_that_can_not_be_understood_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A='open")

    with pytest.raises(ConfigError):
        ensure_local_keys(Environment(tmp_path, {}), **NAMES)
    assert (tmp_path / ".env").read_text() == "A='open"


def test_processes_at_once_agree_on_one_pair(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from voiceops.config.source.dotenv import Environment\n"
        "from voiceops.config.local_keys import ensure_local_keys\n"
        "one = Environment(Path(sys.argv[1]), {}); sys.stdin.read(1)\n"
        "ensure_local_keys(one, key='K', secrets=['S']); print(one.get('K'), one.get('S'))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(12)
    ]
    answers = {process.communicate("x", timeout=60)[0] for process in started}

    assert len(answers) == 1
    assert os.listdir(tmp_path) == [".env"]
    assert (tmp_path / ".env").read_text().count("K=") == 1


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        ensure_local_keys(Environment(tmp_path / "gone", {}), **NAMES)


@pytest.mark.parametrize(
    ("host", "services", "made"),
    [
        ("localhost", "{s: {kind: livekit}}", 2),
        ("localhost", "{}", 0),
        ("deploy@far.example.com", "{s: {kind: livekit}}", 0),
    ],
    ids=["server here", "no server of ours", "server elsewhere"],
)
def test_keys_are_made_only_for_a_server_of_this_machine(
    tmp_path: Path, host: str, services: str, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIVEKIT_API_KEY", raising=False)
    monkeypatch.delenv("LIVEKIT_API_SECRET", raising=False)
    (tmp_path / "inventory.yaml").write_text(f"all: {{vars: {{project: p, services: {services}}}}}\n")

    project = Project.load(inventory=str(tmp_path / "inventory.yaml"), host=host)

    said: list[str] = []
    assert len(project.ensure_local_keys(said.append)) == made
    assert len(said) == bool(made)
    assert (tmp_path / ".env").exists() == bool(made)


def test_the_notice_names_the_variable_that_was_meant_and_where_the_old_keys_are(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LIVEKIT_API_KEYS=a\nOTHER=b\n")
    told = new_keys_notice(("LIVEKIT_API_KEY",), Environment(tmp_path, {}), old_in=".voiceops")
    assert "LIVEKIT_API_KEY was set neither in the environment nor in .env" in told
    assert "LIVEKIT_API_KEYS is set there: if that is what was meant, correct the name" in told
    assert "started with stand in .voiceops" in told
    assert "OTHER" not in told
