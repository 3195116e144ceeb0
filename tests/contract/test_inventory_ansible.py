"""voiceops and the real Ansible resolve the same inventories to the same hosts and variables."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract import inventories
from tests.support import parts
from voiceops.config.inventory import listing
from voiceops.config.inventory.model import Inventory
from voiceops.config.inventory.patterns import match
from voiceops.config.source.sources import read_inventory
from voiceops.errors import UsageError

COUNT = 240
Case = tuple[Inventory, list[str], dict[str, Any]]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Generated inventories as voiceops reads them, with what Ansible says of each."""
    folder = tmp_path_factory.mktemp("inventories")
    jobs: list[dict[str, Any]] = []
    ours: list[tuple[Inventory, list[str]]] = []
    for seed in range(COUNT):
        source = inventories.write(seed, folder / str(seed))
        inventory = read_inventory(source)
        patterns = inventories.patterns(seed, _is_deep(inventory))
        ours.append((inventory, patterns))
        jobs.append({"source": str(source), "patterns": patterns, "host": sorted(inventory.hosts)[0]})
    (folder / "empty").mkdir()
    done = subprocess.run(
        [str(parts.ansible()), str(Path(__file__).with_name("ansible_answers.py"))],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=110,
        cwd=folder / "empty",  # Ansible also reads group_vars/ of the current folder
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [(*one, answer) for one, answer in zip(ours, json.loads(done.stdout), strict=True)]


def test_list_agrees_with_ansible_inventory_on_generated_inventories(cases: list[Case]) -> None:
    for seed, (inventory, _, answer) in enumerate(cases):
        assert json.loads(json.dumps(listing.listed(inventory))) == answer["list"], f"seed {seed}"


def test_graph_agrees_with_ansible_inventory_on_generated_inventories(cases: list[Case]) -> None:
    for seed, (inventory, _, answer) in enumerate(cases):
        assert listing.graph(inventory) == answer["graph"], f"seed {seed}"
        assert listing.graph(inventory, with_variables=True) == answer["graph_vars"], f"seed {seed}"


def test_host_agrees_with_ansible_inventory_on_generated_inventories(cases: list[Case]) -> None:
    for seed, (inventory, _, answer) in enumerate(cases):
        host = sorted(inventory.hosts)[0]
        assert json.loads(json.dumps(listing.host_variables(inventory, host))) == answer["host"], (
            f"seed {seed}"
        )


def test_patterns_select_the_hosts_that_ansible_selects(cases: list[Case]) -> None:
    for seed, (inventory, patterns, answer) in enumerate(cases):
        for pattern in patterns:
            theirs = answer["patterns"][pattern]
            try:
                mine: Any = match(inventory, pattern)
            except UsageError:
                mine = "AnsibleError"
            if _is_deep(inventory) and isinstance(theirs, list):
                mine, theirs = sorted(mine), sorted(theirs)
            assert mine == theirs, f"seed {seed}, pattern {pattern!r}"


def _is_deep(inventory: Inventory) -> bool:
    """Whether Ansible walks several groups of one level as a set, in the order of their addresses."""

    def wide(name: str) -> bool:
        level = inventory.groups[name].children
        while level:
            if sum(bool(inventory.groups[child].children) for child in level) > 1:
                return True
            level = list(dict.fromkeys(c for child in level for c in inventory.groups[child].children))
        return False

    return any(wide(name) for name in inventory.groups)
