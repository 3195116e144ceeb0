"""Every command on a real stack prints what docs/json says; servers have theirs in test_commands_servers.py and test_deploy.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.callers import caller
from tests.support.documents import problem
from tests.support.projects import Project, project
from voiceops.model.documents.commands import DOCUMENTS

AGENTS = Path(__file__).parent / "agents"
ROOM = "good-documents"
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("start", "--verify"),
    ("check-running",),
    ("status",),
    ("logs", "--lines", "50"),
    ("why",),
    ("call",),
    ("capacity", "--most", "1", "--hold", "1"),
    ("recover",),
    ("monitor", "--once"),
    ("history",),
    ("token", "--room", ROOM),
    ("rooms.dispatch", ROOM, "--wait"),
    ("rooms.wait-agent", ROOM),
    ("rooms.list",),
    ("rooms.show", ROOM),
    ("rooms.kick", ROOM, "nobody"),
    ("cleanup-rooms",),
    ("rooms.ensure-clean", ROOM),
    ("rooms.delete", ROOM),
    ("rooms.selftest",),
    ("rotate-logs",),
    ("schedule", "--check", "--remove"),
    ("inventory",),
    ("completion", "--shell", "zsh"),
    ("init",),
    ("restart",),
    ("stop",),
)
WITH_DATA = {"backup", "restore"}
"""This stack keeps no data: test_backup.py has theirs."""
ELSEWHERE = {"open", "rotate-keys", "test"}
ON_SERVERS = {"deploy", "drift", "lock", "releases", "render", "rollback", "setup", "unlock"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with project(tmp_path_factory.mktemp("documents"), AGENTS / "faulty.py") as made:
        keys = "".join(f"{name}={value}\n" for name, value in made.env.items() if name.startswith("LIVEKIT_"))
        (made.folder / ".env").write_text(keys)  # what is set in this shell only would be refused by schedule
        yield made


def test_every_command_has_its_turn() -> None:
    assert {words[0] for words in COMMANDS} | ON_SERVERS | WITH_DATA | ELSEWHERE == set(DOCUMENTS)


def test_each_document_of_a_stack_is_as_its_schema_says(stack: Project) -> None:
    failed = {}
    for words in COMMANDS:
        answer = stack.inv(*words, "--json", code=None)
        document = answer.json  # checked against its schema
        hosts = document.get("hosts", {}).values() if words[0] != "inventory" else ()
        errors = [one["error"]["message"] for one in (document, *hosts) if "error" in one]
        if errors:
            failed[words[0]] = errors
    assert failed == {}


async def test_documents_of_a_stack_with_faults_are_as_their_schemas_say(stack: Project) -> None:
    await asyncio.to_thread(stack.inv, "start")
    async with caller(stack.url, "raise-documents"):
        look = await asyncio.to_thread(stack.inv, "rooms.show", "raise-documents", "--json")
        assert [one["kind"] for one in look.json["participants"]][:1] == ["standard"]
        for _ in range(40):
            found = (await asyncio.to_thread(stack.inv, "why", "--json", code=None)).json
            if found["findings"]:
                break
        assert found["findings"][0]["host"] == "localhost"
        failed = await asyncio.to_thread(
            stack.inv, "call", "--room", "hang-documents", "--timeout", "2", "--json", code=1
        )
        assert failed.json["calls"][0]["failure"]["kind"]
        planned = await asyncio.to_thread(stack.inv, "cleanup-rooms", "--check", "--json", code=None)
        assert planned.json["check"] is True
    nowhere = (await asyncio.to_thread(stack.inv, "why", "--room", "nowhere", "--json", code=1)).json
    assert "localhost" in nowhere["hosts"]
    refused = await asyncio.to_thread(stack.inv, "rooms.show", "nowhere", "--json", code=1)
    assert problem("rooms.show.json", refused.json) == ""
