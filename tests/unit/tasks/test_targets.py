"""``--host``, ``--group``, ``--limit``: what they match is what a command acts on, and never something else."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from voiceops.cli.program import VoiceopsProgram
from voiceops.tasks import namespace

INVENTORY = {
    "all": {
        "vars": {"project": "demo", "services": {"web": {"kind": "command", "command": ["/bin/sleep", "9"]}}},
        "children": {"servers": {"hosts": {"web1": {"ansible_host": "192.0.2.1"}}}, "nobody_in_it": {}},
    }
}
ARGUMENTS = {"rooms.kick": ["room", "identity"]}
"""Where one positional argument is not the room."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command that takes hosts, with the arguments that it can't do without."""
    for name in sorted({*namespace.task_names} - {"inventory"}):  # asks about hosts, acts on none
        task = namespace[name]
        given = set(inspect.signature(task.body).parameters)
        if {"host", "group", "limit"} <= given:
            yield name, ARGUMENTS.get(name, ["room"] if "room" in task.positional else [])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inventory.yaml").write_text(json.dumps(INVENTORY))
    (tmp_path / "tasks.py").write_text("from voiceops.tasks import namespace\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_commands_to_test() -> None:
    names = {name for name, _ in commands()}
    assert {"deploy", "start", "stop", "recover", "status", "logs", "why", "call", "cleanup-rooms"} < names


@pytest.mark.parametrize(("name", "arguments"), list(commands()))
def test_what_matches_no_host_is_exit_3_and_never_this_machine(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    for flags in (
        ["--host", "nobody"],
        ["--host", "web*"],
        ["--host", "web1,nobody"],
        ["--host", "-oProxyCommand=x@web1"],
        ["--host", ""],
        ["--group", "nobody"],
        ["--group", "nobody_in_it"],
        ["--group", ""],
        ["--limit", "no*body"],
        ["--limit", "web1:!web1"],
        ["--limit", ""],
    ):
        program = VoiceopsProgram(name="voiceops", namespace=namespace, binary="inv")
        with pytest.raises(SystemExit) as ended:
            program.run(["inv", name, *arguments, *flags])
        assert ended.value.code == 3, (name, flags, capsys.readouterr())
    assert sorted(path.name for path in project.iterdir()) == ["inventory.yaml", "tasks.py"]
