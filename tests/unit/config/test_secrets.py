"""Secrets stand elsewhere, are fetched when needed, and show themselves nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.config.secrets import is_secret_name
from voiceops.errors import ConfigError
from voiceops.kinds.livekit import LivekitService
from voiceops.model.secret import Secret
from voiceops.model.settings import Host

Load = Callable[..., Host]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads an inventory whose api_secret is the given YAML."""

    def read(secret: str, extra: str = "") -> Host:
        (tmp_path / "inventory.yaml").write_text(
            "all:\n  vars:\n    project: p\n    livekit:\n      api_key: key\n"
            f"      api_secret: {secret}\n{extra}"
        )
        return Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine()

    return read


def reveal(host: Host) -> str:
    return host.settings.livekit.api_secret.reveal()


def test_env_comes_from_the_environment_before_dotenv(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("ONE=from-file\nTWO=from-file\n")
    monkeypatch.setenv("ONE", "from-environment")

    assert reveal(load("{env: ONE}")) == "from-environment"
    assert reveal(load("{env: TWO}")) == "from-file"


def test_a_file_or_command_loses_one_newline_only(load: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("text\n\n")

    assert reveal(load("{file: key}")) == "text\n"
    assert reveal(load('{command: "cat key"}')) == "text\n"


def test_a_command_is_run_once_and_only_when_it_is_needed(load: Load, tmp_path: Path) -> None:
    script = tmp_path / "pass"
    script.write_text("#!/bin/sh\necho run >> runs\necho value\n")
    script.chmod(0o755)
    host = load('{command: "./pass"}')
    assert bool(host.settings.livekit.api_secret)
    assert repr(host)
    assert not (tmp_path / "runs").exists()

    assert reveal(host) == reveal(host) == "value"
    assert (tmp_path / "runs").read_text() == "run\n"


def test_a_command_sees_no_shell(load: Load, tmp_path: Path) -> None:
    assert reveal(load("""{command: "printf %s 'a;touch owned' $HOME"}""")) == "a;touch owned$HOME"
    assert not (tmp_path / "owned").exists()


def test_a_failing_command_is_named_without_its_output(load: Load) -> None:
    host = load('{command: ["sh", "-c", "echo leaked; echo leaked >&2; exit 7"]}')

    with pytest.raises(ConfigError) as failed:
        reveal(host)

    assert "exited with 7" in failed.value.message
    assert failed.value.line == 6
    assert failed.value.path == "livekit.api_secret"
    assert "leaked" not in failed.value.message


@pytest.mark.parametrize(
    "reference", ["{env: NOT_SET_ANYWHERE}", "{file: missing}", "{command: no-such-program}"]
)
def test_a_secret_that_is_not_there_names_the_line_of_its_reference(load: Load, reference: str) -> None:
    host = load(reference)

    with pytest.raises(ConfigError) as failed:
        reveal(host)

    assert (failed.value.line, failed.value.path) == (6, "livekit.api_secret")


def test_secrets_never_show_in_text_json_or_template_variables(load: Load) -> None:
    host = load(
        "hunter2-hunter2",
        "    ansible_become_password: hunter2\n    smtp: {password: hunter2, token: {env: HOME}}\n"
        "    services: {x: {kind: command, command: [y], env: {API_KEY: {file: hunter2}}}}\n",
    )
    shown = f"{host!r} {host} {json.dumps(host.vars, default=str)} {json.dumps(host.settings.livekit.url)}"

    assert "hunter2" not in shown
    assert isinstance(host.vars["ansible_become_password"], Secret)
    smtp = host.vars["smtp"]
    assert isinstance(smtp, dict)
    assert smtp["password"].reveal() == "hunter2"


def test_a_reference_anywhere_in_livekit_config_is_a_secret(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_PASSWORD='p\"w'\nTURN=t\n")
    (tmp_path / "inventory.yaml").write_text(
        "all: {vars: {project: p, services: {livekit: {kind: livekit, config: {redis: {password: "
        "{env: REDIS_PASSWORD}, username: {env: TURN}}, turn: {list: [{env: TURN}, plain, 3]}}}}}}\n"
    )
    host = Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine()
    service = host.settings.services["livekit"]
    assert isinstance(service, LivekitService)
    redis, turn = service.config["redis"], service.config["turn"]
    assert isinstance(redis, dict)
    assert isinstance(turn, dict)
    assert redis["password"].reveal() == 'p"w'
    assert [turn["list"][0].reveal(), *turn["list"][1:]] == ["t", "plain", 3]
    assert "Secret" in repr(host.vars)
    assert "REDIS_PASSWORD" not in repr(host.vars)


def test_keys_default_to_the_usual_variables(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text("all: {vars: {project: p}}\n")
    (tmp_path / ".env").write_text("LIVEKIT_API_KEY=k\n")

    settings = Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine().settings

    assert settings.livekit.api_key.reveal() == "k"
    secret = settings.livekit.api_secret
    assert (secret.form, secret.reference) == ("env", "LIVEKIT_API_SECRET")


@pytest.mark.parametrize(
    "name", ["password", "ansible_ssh_pass", "API_KEY", "OPENAI_API_KEY", "db_secret", "token"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["token_ttl_s", "password_file", "monkey", "compass", "secrets_dir", "passenger"]
)
def test_names_that_only_sound_like_secrets_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)
