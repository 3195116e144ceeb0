"""Hints are commands that can be pasted: the program as it was typed, with the flags of this run."""

from __future__ import annotations

from pathlib import Path

import pytest

from voiceops.cli.invocation import Invocation, program_as_typed

TYPED = Invocation(
    program="./inv",
    flags={"inventory": "my inventory.yaml", "host": "web1"},
    accepts={
        "start": frozenset({"inventory", "host"}),
        "call": frozenset({"inventory", "host"}),
        "init": frozenset({"inventory"}),
    },
)
INVENTORY = "--inventory 'my inventory.yaml'"


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("inv start --only agent", f"./inv start --only agent {INVENTORY} --host web1"),
        ("inv start --host web2", f"./inv start --host web2 {INVENTORY}"),
        (
            "inv start && inv call",
            f"./inv start {INVENTORY} --host web1 && ./inv call {INVENTORY} --host web1",
        ),
        ("inv init", f"./inv init {INVENTORY}"),
        ("inv help start", "./inv help start"),
        ("timedatectl set-ntp true", "timedatectl set-ntp true"),
        ("sudo inventory start", "sudo inventory start"),
    ],
)
def test_a_command_names_the_program_and_the_flags_of_this_run(command: str, typed: str) -> None:
    assert TYPED.command(command) == typed


def test_only_quoted_commands_of_a_sentence_change() -> None:
    plain = Invocation(program="./inv")
    assert plain.hint("inv is short; run `inv start` first") == "inv is short; run `./inv start` first"


def test_reports_and_documents_change_where_commands_stand() -> None:
    plain = Invocation(program="voiceops")
    assert plain.text("error: x\n  fix: inv start\n| inv start in a log") == (
        "error: x\n  fix: voiceops start\n| inv start in a log"
    )
    assert plain.data(
        {"findings": [{"fix": "inv start", "evidence": ["inv start"]}], "hint": "try `inv why`"}
    ) == {
        "findings": [{"fix": "voiceops start", "evidence": ["inv start"]}],
        "hint": "try `voiceops why`",
    }


def test_the_program_is_named_as_typed_or_by_its_name_where_path_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "inv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_as_typed(str(program)) == "inv"
    assert program_as_typed("./inv") == "./inv"
    assert program_as_typed("../my project/inv") == "'../my project/inv'"
