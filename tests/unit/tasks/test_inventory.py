"""``inv inventory`` prints what ansible-inventory prints, with literal secrets masked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.program import Program

from voiceops.tasks import namespace

Inv = Callable[..., tuple[int, str, str]]


@pytest.fixture
def inv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Inv:
    """Runs ``inv inventory`` on a small inventory; gives exit code, stdout, stderr."""
    (tmp_path / "inventory.yaml").write_text(
        "all:\n  vars: {project: p, rooms: wrong on purpose}\n"
        "web: {hosts: {web1: {ansible_password: hunter2, api_key: {env: X}}, web2: }}\n"
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            Program(namespace=namespace, version="0").run(
                ["inv", "inventory", "--inventory", str(tmp_path / "inventory.yaml"), *arguments]
            )
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_tree_is_the_default_and_needs_no_valid_settings(inv: Inv) -> None:
    tree = "@all:\n  |--@ungrouped:\n  |--@web:\n  |  |--web1\n  |  |--web2\n"

    assert inv() == inv("--graph") == (0, tree, "")
    assert json.loads(inv("--graph", "--json")[1]) == {"ok": True, "graph": tree.splitlines()}


def test_the_tree_starts_at_a_group_and_shows_variables(inv: Inv) -> None:
    _, out, _ = inv("--graph", "--group", "web", "--vars")

    assert out.splitlines()[:3] == ["@web:", "  |--web1", "  |  |--{ansible_password = ****}"]


def test_list_masks_literal_secrets_and_shows_references(inv: Inv) -> None:
    code, out, _ = inv("--list")

    assert code == 0
    assert "hunter2" not in out
    assert json.loads(out)["_meta"]["hostvars"]["web1"]["api_key"] == {"env": "X"}


def test_list_takes_a_limit(inv: Inv) -> None:
    assert json.loads(inv("--list", "--limit", "web2")[1])["web"] == {"hosts": ["web2"]}


def test_host_shows_one_host(inv: Inv) -> None:
    assert json.loads(inv("--host", "web2")[1])["project"] == "p"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--host", "wbe1"),
        ("--host", "web"),
        ("--graph", "--group", "wbe"),
        ("--list", "--limit", "x"),
        ("--list", "--graph"),
    ],
)
def test_what_does_not_exist_is_exit_3(inv: Inv, arguments: tuple[str, ...]) -> None:
    code, out, err = inv(*arguments)

    assert (code, out) == (3, "")
    assert err.startswith("error: ")
