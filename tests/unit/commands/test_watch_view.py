"""The live view at several sizes: what it shows, what it says of what it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from voiceops.cli.frame import Line, line_width
from voiceops.commands.watch_history import WatchedHistory
from voiceops.commands.watch_sources import Reading, WatchedServices
from voiceops.commands.watch_view import PLAIN_BARS, WatchedHost, WatchedStack, watch_lines
from voiceops.model.history import CallRecord, CheckRecord, IncidentRecord, RepairRecord
from voiceops.model.rooms import Room
from voiceops.util.terminal import ERROR

if TYPE_CHECKING:
    from voiceops.model.documents.stack import StatusService

NOW = 1_800_000_000.0
INCIDENT = IncidentRecord(
    id="i1",
    host="localhost",
    cause="service-dead",
    subject="agent",
    sentence="agent: pid 12 is gone",
    fix="inv start --only agent",
    began_at=NOW - 36,
)


def service(state: str = "ready", **changes: Any) -> StatusService:
    entry: StatusService = {
        "state": state,
        "pids": [4180],
        "detail": "",
        "uptime_s": 600.0,
        "restart_count": 0,
        "cpu_share": 0.031,
        "memory_bytes": 142_000_000,
        "release": "",
        "call_count": 0,
        "draining": [],
        "draining_runs": [],
        **changes,  # type: ignore[typeddict-item]
    }
    return entry


def services(count: int = 3, **changes: Any) -> Reading[WatchedServices]:
    names = ["livekit", "agent", "monitor", *(f"web{number}" for number in range(count))][:count]
    one = WatchedServices(
        at=NOW, services={name: service() for name in names}, call_count=1, agents={}, knows_agents=True
    )
    values = {name: getattr(one, name) for name in WatchedServices.__dataclass_fields__} | changes
    return Reading(WatchedServices(**values))


def history(**changes: Any) -> Reading[WatchedHistory]:
    return Reading(WatchedHistory(**changes))


def call(number: int, answer_s: float | None = 0.4, outcome: str | None = "answered") -> CallRecord:
    return CallRecord(
        id=f"c{number}", host="localhost", kind="caller", started_at=NOW, answer_s=answer_s, outcome=outcome
    )


def room(name: str, age_s: float = 60.0, people: int = 1) -> Room:
    return Room(name=name, sid=f"RM_{name}", created_at=NOW - age_s, num_participants=people)


def seen(
    found: Reading[WatchedServices] | None = None,
    rooms: Reading[tuple[Room, ...]] | None = None,
    kept: Reading[WatchedHistory] | None = None,
) -> WatchedStack:
    host = WatchedHost(name="localhost", services=found or services(), rooms=rooms or Reading(()))
    return WatchedStack(project="frontdesk", hosts=[host], history=kept or history(), now=NOW)


def drawn(stack: WatchedStack, width: int | None = 80, height: int | None = 24, **options: Any) -> list[str]:
    return text_of(watch_lines(stack, width=width, height=height, **options))


def text_of(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in line).rstrip() for line in lines]


BUSY = seen(
    services(agents={f"room-{number}": "agent" for number in range(40)}, incidents=(INCIDENT,)),
    Reading(tuple(room(f"room-{number}", 600.0 - number) for number in range(40))),
    history(
        calls=tuple(call(number, 0.3 + number / 100) for number in range(60)),
        repairs=tuple(
            RepairRecord(
                id=f"r{number}",
                host="localhost",
                at=NOW - 100 + number,
                action="start",
                subject="agent",
                reason=f"pid {number} is gone",
            )
            for number in range(9)
        ),
        checks=(CheckRecord(id="k", host="localhost", at=NOW - 12, ok=True),),
    ),
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 10), (20, 3), (300, 100)])
def test_a_busy_stack_fits_any_screen(width: int, height: int) -> None:
    lines = watch_lines(BUSY, width=width, height=height)
    assert len(lines) <= height
    assert all(line_width(line) <= width for line in lines)


def test_eighty_by_twenty_four_shows_something_of_everything_and_counts_the_rest() -> None:
    lines = drawn(BUSY)
    text = "\n".join(lines)
    assert lines[0].startswith("frontdesk: 3 of 3 ready, 1 open incident, 1 call, 40 rooms")
    assert "agent: pid 12 is gone  fix: inv start --only agent" in text
    assert all(word in text for word in ("livekit", "room-0", "answers", "start agent"))
    shown = sum(line.startswith("room-") for line in lines)
    assert f"  ... {40 - shown} more" in lines
    assert shown >= 3
    repairs = [line for line in lines if "start agent" in line]
    assert "pid 8 is gone" in repairs[0]
    assert f"  ... {9 - len(repairs)} more" in lines


def test_a_large_screen_shows_more_of_it() -> None:
    small, large = drawn(BUSY), drawn(BUSY, 200, 50)
    rows = [sum(line.startswith("room-") for line in lines) for lines in (small, large)]
    assert rows[1] > rows[0] + 15
    assert sum("start agent" in line for line in large) >= 3


def test_a_pipe_gets_everything_without_a_limit() -> None:
    lines = drawn(BUSY, None, None)
    assert sum(line.startswith("room-") for line in lines) == 40
    assert not any("more" in line for line in lines)


def test_callers_without_an_agent_come_first() -> None:
    rooms = (
        room("served", 300.0),
        room("waits", 40.0),
        room("just-came", 4.0),
        room("empty", 50.0, people=0),
    )
    lines = watch_lines(seen(services(agents={"served": "agent"}), Reading(rooms)), width=80, height=24)
    text = [line.split() for line in text_of(lines)]
    at = text.index(["call", "in", "room", "since", "people", "agent"])
    assert text[at + 1 : at + 4] == [
        ["waits", "0:00:40", "1", "none"],
        ["served", "0:05:00", "1", "agent"],
        ["just-came", "0:00:04", "1", "none", "yet"],
    ]
    assert not any("empty" in line for line in text_of(lines))
    waits = next(line for line in lines if line and line[0].text == "waits")
    assert ("none", ERROR) in waits


def test_an_agent_that_does_not_say_which_rooms_it_has_makes_none_of_them_wait() -> None:
    lines = drawn(seen(services(knows_agents=False, call_count=None), Reading((room("one"),))))
    assert "? calls" in lines[0]
    assert any(line.split() == ["one", "0:01:00", "1", "unknown"] for line in lines)


def test_a_room_that_the_list_counts_late_is_shown_once_an_agent_is_in_it() -> None:
    lines = drawn(seen(services(agents={"new": "agent"}), Reading((room("new", 2.0, people=0),))))
    assert any(line.split() == ["new", "0:00:02", "0", "agent"] for line in lines)


def test_a_livekit_that_does_not_answer_is_unknown_and_not_empty() -> None:
    lines = drawn(seen(rooms=Reading(error="LiveKit at ws://127.0.0.1:7880 does not answer")))
    assert "? rooms" in lines[0]
    assert "no calls" not in lines
    assert not any(line.startswith("call in room") for line in lines)
    assert "rooms unknown: LiveKit at ws://127.0.0.1:7880 does not answer" in lines


def test_a_history_that_can_not_be_read_is_unknown_and_the_rest_goes_on() -> None:
    known = services(incidents=(INCIDENT,))
    lines = drawn(seen(known, kept=Reading(error="the history in x can't be used: disk I/O error")))
    assert "answers   unknown: the history in x can't be used: disk I/O error" in lines
    assert "repairs unknown" in lines
    assert any("agent: pid 12 is gone" in line for line in lines)


def test_a_history_that_is_missing_beside_others_is_named_below_their_calls() -> None:
    lines = drawn(seen(kept=Reading(WatchedHistory(calls=(call(1),)), "web1 can't be reached")))
    assert any("1 of 1 call good" in line for line in lines)
    assert any(line.strip() == "unknown: web1 can't be reached" for line in lines)
    lines = drawn(seen(kept=Reading(WatchedHistory(), "web1 can't be reached")))
    assert any(line.strip() == "unknown: web1 can't be reached" for line in lines)


def test_columns_that_no_host_can_fill_are_left_out() -> None:
    unmeasured = {"agent": service(cpu_share=None, memory_bytes=None)}
    assert "memory" in drawn(seen())[2]
    head = drawn(seen(services(services=unmeasured)))[2]
    assert "memory" not in head


def test_a_host_that_can_not_be_reached_is_named_with_the_cause() -> None:
    stack = WatchedStack(
        project="frontdesk",
        hosts=[
            WatchedHost(name="web1", services=Reading(error="web1 can't be reached"), rooms=None),
            WatchedHost(name="web2", services=services(1), rooms=Reading(())),
        ],
        history=history(),
        now=NOW,
    )
    lines = drawn(stack)
    assert "web1: web1 can't be reached" in lines
    assert any(line.split()[:3] == ["web2", "livekit", "ready"] for line in lines)


def test_before_anything_was_read_it_says_so() -> None:
    stack = seen(Reading(), Reading(), Reading())
    lines = drawn(stack)
    assert lines[0].startswith("frontdesk: reading")
    assert "localhost: reading" in lines
    assert {"reading calls", "answers   reading", "reading repairs"} <= set(lines)


def test_an_incident_that_history_and_monitor_both_know_is_shown_once() -> None:
    stack = seen(services(incidents=(INCIDENT,)), kept=history(incidents=(INCIDENT,)))
    assert stack.incidents == [INCIDENT]


def test_answer_times_are_drawn_on_one_scale_and_missed_calls_marked() -> None:
    calls = (call(1, 0.0), call(2, 0.5), call(3, 0.99), call(4, None, "unanswered"), call(5, 0.2, "dropped"))
    lines = drawn(seen(kept=history(calls=calls)))
    at = lines.index("answers   3 of 5 calls good, p50 0.35 s, p95 0.92 s, full bar 1.0 s")
    assert lines[at + 1] == "          ▁▅█x▂"


def test_the_newest_answer_times_are_drawn_where_not_all_fit() -> None:
    calls = (*(call(number, 0.0) for number in range(100)), call(100, 0.99))
    lines = drawn(seen(kept=history(calls=calls)))
    assert f"{' ' * 10}{'▁' * 69}█" in lines


def test_an_encoding_without_bars_gets_plain_ones() -> None:
    calls = (call(1, 0.0), call(2, 0.5), call(3, 0.99))
    text = "\n".join(drawn(seen(kept=history(calls=calls)), bars=PLAIN_BARS))
    assert "\n          _=#\n" in text
    assert text.isascii()


def test_names_of_callers_draw_nothing() -> None:
    bad = "\x1b[2J\x1b[31mred\nnext\u202e"
    stack = seen(
        services(agents={bad: "agent"}, services={bad: service(detail=bad)}),
        Reading((room(bad),)),
        history(repairs=(RepairRecord(id="r", host="h", at=NOW, action=bad, reason=bad, error=bad),)),
    )
    for line in drawn(stack, 200, 50):
        assert line.isprintable()


def test_the_time_since_the_last_reading_counts_on() -> None:
    lines = drawn(seen(services(at=NOW - 5)))
    assert any("0:10:05" in line for line in lines)


def test_a_fix_is_written_as_it_has_to_be_typed() -> None:
    lines = drawn(seen(services(incidents=(INCIDENT,))), command=lambda text: f"./{text}")
    assert any("fix: ./inv start --only agent" in line for line in lines)


@pytest.mark.parametrize(("calls", "said"), [(2, "2 calls"), (1, "1 call"), (None, "calls unknown")])
def test_a_run_that_drains_is_shown_with_its_calls_and_its_age(calls: int | None, said: str) -> None:
    run = {"pid": 7, "release": "r1", "uptime_s": 65.2, "call_count": calls}
    found = services(services={"agent": service(draining=[7], draining_runs=[run])})
    assert any(f"pid 7 drains: {said}, up 0:01:05" in line for line in drawn(seen(found), 200, 50))
