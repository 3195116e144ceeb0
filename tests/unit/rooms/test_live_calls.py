"""Who is in a call: rooms with a person, since the first of them came."""

from __future__ import annotations

from voiceops.model.rooms import Participant, ParticipantKind, Room
from voiceops.model.settings import RoomsSettings
from voiceops.rooms.live_calls import call_in

SETTINGS = RoomsSettings(idle_identities=["monitor-*"])
ROOM = Room(name="r1")
AGENT = Participant(identity="agent-1", kind=ParticipantKind.AGENT, joined_at=5.0)


def person(identity: str, joined_at: float) -> Participant:
    return Participant(identity=identity, joined_at=joined_at)


def test_a_call_began_when_the_first_person_came_who_is_still_there() -> None:
    call = call_in(ROOM, (AGENT, person("b", 20.0), person("a", 10.0), person("c", 0.0)), SETTINGS)
    assert call is not None
    assert (call.room, call.started_at, call.persons, call.agents) == (
        "r1",
        10.0,
        ("b", "a", "c"),
        ("agent-1",),
    )


def test_agents_and_monitors_alone_are_no_call() -> None:
    assert call_in(ROOM, (AGENT, person("monitor-7", 1.0)), SETTINGS) is None
    assert call_in(ROOM, (), SETTINGS) is None


def test_a_caller_without_an_agent_is_in_a_call() -> None:
    call = call_in(ROOM, (person("a", 10.0),), SETTINGS)
    assert call is not None
    assert call.agents == ()
