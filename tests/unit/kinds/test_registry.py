"""A kind of service is one module: the registry finds it, and nothing else tests for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kinds import notice
from voiceops import kinds
from voiceops.config.project import Configuration
from voiceops.errors import ConfigError
from voiceops.kinds.model import StopBehaviour
from voiceops.model.roles import Role
from voiceops.model.settings import Settings
from voiceops.stack import declare

PACKAGE = Path(kinds.__file__).parents[1]
CLASSES = {kind.settings.__name__ for name in kinds.names() if (kind := kinds.find(name))}


@pytest.fixture
def with_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MODULES", (*kinds.MODULES, notice.MODULE))


@pytest.mark.usefixtures("with_notice")
def test_each_module_is_named_like_the_tag_of_its_settings() -> None:
    for name in kinds.names():
        kind = kinds.find(name)
        assert kind is not None
        assert kind.settings.__struct_config__.tag == name
        assert kind.settings.__struct_config__.tag_field == "kind"


def test_a_name_that_another_version_has_recorded_plays_no_part_in_calls() -> None:
    assert kinds.find("postgres-of-the-future") is None
    assert kinds.role_of("postgres-of-the-future") is Role.OTHER
    assert kinds.stop_behaviour("") == StopBehaviour()
    assert (kinds.role_of("livekit"), kinds.role_of("agent")) == (Role.SERVER, Role.AGENT)
    assert kinds.stop_behaviour("livekit").repeat_after_s == 1.0


def loaded(folder: Path, service: str) -> Settings:
    inventory = folder / "inventory.yaml"
    inventory.write_text(f"all: {{vars: {{project: p, services: {{board: {service}}}}}}}\n")
    return Configuration.read(inventory, kinds).this_machine().settings


@pytest.mark.usefixtures("with_notice")
def test_a_kind_of_one_module_is_read_checked_and_declared(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "{kind: notice, text: hello, needs: []}")
    (outlined,) = declare.outline(settings, tmp_path)
    assert (outlined.kind, outlined.role, outlined.ports) == ("notice", Role.OTHER, (8099,))
    with pytest.raises(ConfigError, match="no notice is served there") as refused:
        loaded(tmp_path, "{kind: notice, text: hello, port: 666}")
    assert refused.value.path == "services.board.port"
    with pytest.raises(ConfigError, match="there is no setting 'txt' here"):
        loaded(tmp_path, "{kind: notice, txt: hello}")
    with pytest.raises(ConfigError, match="there is no kind 'notic'") as unknown:
        loaded(tmp_path, "{kind: notic, text: hello}")
    assert "notice" in str(unknown.value.hint)


def test_without_its_module_the_kind_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no kind 'notice'"):
        loaded(tmp_path, "{kind: notice, text: hello}")


def outside() -> Iterator[tuple[str, ast.AST]]:
    """Every node of the package but of the kinds themselves."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative, text = path.relative_to(PACKAGE), path.read_text()
        # Most files name no kind at all, and reading them as Python is what takes time.
        if relative.parts[0] not in ("kinds", "shipped") and re.search(
            r"kind\b|kinds\.|[a-z]Service\b", text
        ):
            for node in ast.walk(ast.parse(text)):
                yield f"{relative}:{getattr(node, 'lineno', 0)}", node


def named(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def asks_for_a_kind(node: ast.AST) -> bool:
    """A comparison of a kind with a name of one, an isinstance of its settings, an import of its module."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        strings = {one.value for side in sides for one in ast.walk(side) if isinstance(one, ast.Constant)}
        return any(named(side) == "kind" for side in sides) and bool(strings & set(kinds.names()))
    if isinstance(node, ast.Call) and named(node.func) == "isinstance":
        return any(named(one) in CLASSES for one in ast.walk(node.args[1]))
    if isinstance(node, ast.ImportFrom):
        return node.module in kinds.MODULES
    return False


def test_nothing_outside_the_kinds_asks_which_kind_a_service_is() -> None:
    assert [place for place, node in outside() if asks_for_a_kind(node)] == []


@pytest.mark.parametrize(
    "code",
    [
        'service.kind == "livekit"',
        'kind in ("agent", "livekit")',
        'record.kind != "agent"',
        "isinstance(one, (LivekitService, AgentService))",
        "from voiceops.kinds.livekit import LivekitService",
    ],
)
def test_the_check_above_sees_each_way_of_asking(code: str) -> None:
    assert any(asks_for_a_kind(node) for node in ast.walk(ast.parse(code)))
