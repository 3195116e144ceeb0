"""Inventory files, programs and folders: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.config.source import sources
from voiceops.config.source.sources import read_inventory
from voiceops.errors import ConfigError


def program(path: Path, body: str) -> Path:
    """An inventory program."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("hosts.ini", "[web]\nweb1\n", ".ini", "ansible-inventory -i"),
        ("hosts", "[web]\nweb1 ansible_host=1.2.3.4\n", "", "ansible-inventory -i"),
        ("inventory.yaml", "", "empty", "all:"),
        ("inventory.yaml", "- web1\n", "mapping of groups", "INI"),
        ("inventory.yaml", "plugin: aws_ec2\n", "plugins", "executable"),
        ("inventory.yaml", "$ANSIBLE_VAULT;1.1;AES256\n61\n", "encrypted", "ansible-vault"),
        ("inventory.yaml", "all: {hosts: {1: }}\n", "must be text", "quote"),
        ("inventory.yaml", "web: [a]\n", "mapping with hosts", None),
        ("inventory.yaml", "all: {hosts: {a: text}}\n", "mapping of variables", "colon"),
        ("inventory.yaml", "all: {vars: {ansible_group_priority: high}}\n", "number", None),
        ("inventory.yaml", "a: &a {vars: {x: *a}}\n", "", None),
        ("inventory.yaml", "all: {vars: {x: !!python/object:os.system 1}}\n", "tag", None),
        ("inventory.yaml", "all: {vars: {d: 2024-13-45}}\n", "no valid value", "quote"),
        ("inventory.yaml", "all: {vars: {a: 1}}\n---\nall:\n", "single document", None),
    ],
)
def test_what_is_no_inventory_is_refused(
    tmp_path: Path, name: str, text: str, message: str, hint: str | None
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError) as failed:
        read_inventory(tmp_path / name)

    assert message in failed.value.message
    assert hint is None or hint in (failed.value.hint or "")


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_bytes(b"all:\n  vars:\n    a: \xff\n")

    with pytest.raises(ConfigError) as failed:
        read_inventory(tmp_path / "inventory.yaml")

    assert failed.value.line == 3


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing here")

    with pytest.raises(ConfigError, match="no inventory source"):
        read_inventory(tmp_path)


def test_a_yaml_file_with_an_executable_bit_is_still_yaml(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("all: {hosts: {web1: }}\n")
    inventory.chmod(0o755)

    assert list(read_inventory(inventory).hosts) == ["web1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo broken >&2; exit 3", "exited with 3"),
        ("echo no json", "no JSON"),
        ("echo '[]'", "JSON object"),
        ('echo \'{"g": {"hosts": "web1"}}\'', "must be lists"),
        ('echo \'{"g": {"hosts": [1]}}\'', "no name"),
        ('echo \'{"_meta": {"hostvars": []}}\'', "hostvars"),
    ],
)
def test_a_program_that_misbehaves_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_inventory(program(tmp_path / "dynamic", body))


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SCRIPT_TIMEOUT_S", 0.2)

    with pytest.raises(ConfigError, match="longer than"):
        read_inventory(program(tmp_path / "dynamic", "exec sleep 60"))


def test_a_program_without_interpreter_says_so(tmp_path: Path) -> None:
    path = program(tmp_path / "dynamic", "")
    path.write_text("#!/no/such/interpreter\n")

    with pytest.raises(ConfigError, match="can't be run"):
        read_inventory(path)
