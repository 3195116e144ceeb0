"""The shipped inventory is the documentation: it loads, and shows every setting with its default."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.model.settings import Settings

EXAMPLES = {
    "kind",
    "entry",
    "needs",
    "command",
    "domain",
    "tcp",
    "probe",
    "api_key",
    "api_secret",
    "password",
    "project",
    "services",
}
"""Settings that the file shows by an example instead of a default."""


def structs_below(kind: Any) -> set[Any]:
    """A struct of settings and all that it can hold."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        inner = [structs_below(field.type) for field in msgspec.structs.fields(kind)]
        return {kind}.union(*inner)
    return set().union(*(structs_below(argument) for argument in get_args(kind)))


@pytest.fixture
def uncommented(repository: Path, tmp_path: Path) -> Settings:
    """The shipped file with every commented setting switched on."""
    text = (repository / "inventory.yaml").read_text()
    (tmp_path / "inventory.yaml").write_text(re.sub(r"^( *)#(?=\w+:)", r"\1", text, flags=re.MULTILINE))
    shutil.copytree(repository / "examples", tmp_path / "examples")
    return Configuration.read(tmp_path / "inventory.yaml", kinds).this_machine().settings


def test_the_shipped_inventory_loads_and_selects_this_machine(repository: Path) -> None:
    (host,) = Configuration.read(repository / "inventory.yaml", kinds).select()

    assert host.local
    assert list(host.settings.services) == ["livekit", "agent", "monitor"]


def test_every_commented_setting_shows_its_default(uncommented: Settings) -> None:
    shown = [
        uncommented.livekit,
        uncommented.rooms,
        uncommented.deploy,
        uncommented.history,
        uncommented.metrics,
        uncommented.alerts,
        *uncommented.services.values(),
    ]
    for struct in shown:
        for field in msgspec.structs.fields(type(struct)):
            if field.name not in EXAMPLES:
                assert getattr(struct, field.name) == default_of(field), (
                    f"{type(struct).__name__}.{field.name}"
                )


def all_structs() -> list[Any]:
    """Every struct of settings, those of each kind of service included."""
    found = [kind.settings for name in kinds.names() if (kind := kinds.find(name))]
    return sorted(structs_below(Settings).union(*map(structs_below, found)), key=str)


@pytest.mark.parametrize("kind", all_structs(), ids=lambda kind: str(kind.__name__))
def test_every_setting_stands_in_the_shipped_inventory(repository: Path, kind: Any) -> None:
    names = set(re.findall(r"^ *#?(\w+):", (repository / "inventory.yaml").read_text(), re.MULTILINE))

    assert {field.name for field in msgspec.structs.fields(kind)} <= names


def test_every_variable_of_the_example_env_file_parses_as_empty(repository: Path) -> None:
    from voiceops.config.source.dotenv import parse

    assert parse((repository / ".env.example").read_text()) == {
        "LIVEKIT_API_KEY": "",
        "LIVEKIT_API_SECRET": "",
    }


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """A field's default, made when it is a factory."""
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
