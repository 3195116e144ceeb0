"""Whatever an inventory or a .env holds, it loads or ends with a ConfigError: never with a traceback."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.config.test_mistakes import GOOD, project
from voiceops import kinds
from voiceops.config.inventory.listing import graph, listed
from voiceops.config.project import Configuration
from voiceops.config.source.dotenv import parse
from voiceops.config.source.sources import read_inventory
from voiceops.errors import ConfigError, UsageError

VALUES: tuple[object, ...] = (
    None, True, 0, -1, 2.5, float("nan"), "", "text", "\0", "{{ x }}", [], [None], {}, {None: 1}, {1: {2: 3}},
    {"env": None}, {"env": ["x"]}, {"file": {}}, {"command": ""}, {"command": "'"}, 10**400, "ws://[", "a:b:c",
)  # fmt: skip


def test_an_inventory_with_any_value_anywhere_loads_or_is_a_config_error(tmp_path: Path) -> None:
    inventory = project(tmp_path, GOOD)
    paths = list(_paths(yaml.safe_load(GOOD), ()))
    rng = random.Random(4)
    cases = [(path, value) for path in paths for value in VALUES]
    for path, value in rng.sample(cases, 200):
        document = yaml.safe_load(GOOD)
        target = document
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value
        inventory.write_text(yaml.dump(document))
        with contextlib.suppress(ConfigError, UsageError):
            Configuration.read(inventory, kinds).select()
        with contextlib.suppress(ConfigError, UsageError):
            read = read_inventory(inventory)
            assert listed(read)
            assert graph(read, with_variables=True)


def test_a_damaged_inventory_loads_or_is_a_config_error(tmp_path: Path) -> None:
    inventory = project(tmp_path, GOOD)
    rng = random.Random(5)
    for _ in range(200):
        text = list(GOOD)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(text))
            text[at : at + rng.randint(0, 3)] = rng.choice(
                ("", "\t", "{", "]", ":", "- ", "&a ", "*a", "!x ", "\n", "é")
            )
        inventory.write_text("".join(text))
        with contextlib.suppress(ConfigError, UsageError):
            Configuration.read(inventory, kinds).select()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="A=1 '\"\\#\n\r\tx$é\0", max_size=30))
def test_any_env_file_parses_or_is_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all("\0" not in value for value in parse(text).values())


def _paths(value: object, path: tuple[object, ...]) -> list[tuple[object, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [deeper for key, item in value.items() for deeper in _paths(item, (*path, key))]
    elif isinstance(value, list):
        found += [deeper for index, item in enumerate(value) for deeper in _paths(item, (*path, index))]
    return found
