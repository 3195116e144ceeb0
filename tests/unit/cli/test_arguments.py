"""A command line is read before Invoke reads it: plain words, help, names that look like flags."""

from __future__ import annotations

import pytest
from invoke.parser.context import ParserContext

from voiceops.cli.arguments import refuse_flag_like, split
from voiceops.errors import UsageError
from voiceops.tasks import namespace

CONTEXTS: list[ParserContext] = namespace.to_contexts()


def tokens(line: str, *, services: tuple[str, ...] = ()) -> list[list[str]]:
    found = split(line.split(), CONTEXTS, is_service=lambda word: word in services)
    return [one.tokens() for one in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("logs agent", [["logs", "--only", "agent"]]),
        ("restart agent livekit --yes", [["restart", "--yes", "--only", "agent,livekit"]]),
        ("logs --only web agent", [["logs", "--only", "agent,web"]]),
        ("logs -o web agent -f", [["logs", "-f", "--only", "agent,web"]]),
        ("logs agent,web", [["logs", "--only", "agent,web"]]),
        ("logs --since 10m agent", [["logs", "--since", "10m", "--only", "agent"]]),
        ("logs -fo agent", [["logs", "-fo", "agent"]]),
        ("start call", [["start"], ["call"]]),
        ("up ps", [["up"], ["ps"]]),
        ("rooms.show r1 status", [["rooms.show", "r1"], ["status"]]),
        ("rooms.kick r1 somebody", [["rooms.kick", "r1", "somebody"]]),
        ("rooms.dispatch --wait r1", [["rooms.dispatch", "--wait", "r1"]]),
        ("nonsense --flag x", [["nonsense", "--flag", "x"]]),
    ],
)
def test_words_behind_a_task_are_services_names_or_the_next_task(
    line: str, expected: list[list[str]]
) -> None:
    assert tokens(line) == expected


def test_a_word_that_is_a_task_and_a_service_is_the_service_behind_a_task_that_takes_services() -> None:
    assert tokens("restart call", services=("call",)) == [["restart", "--only", "call"]]
    assert tokens("call", services=("call",)) == [["call"]]


@pytest.mark.parametrize(
    "line",
    [
        "rooms.dispatch --help",
        "--help rooms.dispatch",
        "rooms.dispatch r1 --wait --help",
        "rooms.ensure-clean -h",
        "logs --since --help",
        "stop --yes -h agent",
    ],
)
def test_help_wins_wherever_it_stands(line: str) -> None:
    assert any(one.asks_help for one in split(line.split(), CONTEXTS, is_service=lambda word: False))


@pytest.mark.parametrize("line", ["rooms.dispatch --check", "rooms.show -x", "rooms.kick r1 --now"])
def test_an_unknown_flag_never_becomes_a_name(line: str) -> None:
    with pytest.raises(UsageError, match="is none of its flags"):
        tokens(line)


def test_a_name_does_not_begin_with_a_dash() -> None:
    with pytest.raises(UsageError, match="ROOM can't be -x"):
        refuse_flag_like("rooms.show", [("room", "-x")])
    refuse_flag_like("rooms.show", [("room", "x-")])
