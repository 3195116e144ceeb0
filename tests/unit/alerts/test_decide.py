"""When people are told: once, again after hours, once when it is over, and never by a storm."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from voiceops.alerts.decide import MOST_PER_HOUR, SETTLE_S, AlertMemory, decide
from voiceops.model.alerts import ActiveCondition, AlertMessage

REPEAT_S = 4 * 3600.0


def condition(name: str) -> ActiveCondition:
    return ActiveCondition(alert=name, sentence=f"{name} holds", fix="inv why")


def run(
    *steps: tuple[float, str], memory: AlertMemory | None = None
) -> tuple[AlertMemory, list[tuple[float, AlertMessage]]]:
    """Judge at each time with the conditions named (blank-separated); all messages with their time."""
    memory = memory or AlertMemory()
    told: list[tuple[float, AlertMessage]] = []
    for now, names in steps:
        memory, messages = decide(
            memory, [condition(one) for one in names.split()], now, repeat_after_s=REPEAT_S
        )
        told += [(now, one) for one in messages]
    return memory, told


def kinds(told: list[tuple[float, AlertMessage]]) -> list[tuple[float, str, str]]:
    return [
        (at, one.alert, "over" if one.resolved else "again" if one.repeated else "began") for at, one in told
    ]


def test_an_alert_is_told_once_again_after_hours_and_when_it_is_over() -> None:
    _, told = run(
        (0, "a"), (30, "a"), (REPEAT_S, "a"), (REPEAT_S + 30, ""), (REPEAT_S + 60, ""), (REPEAT_S + 90, "")
    )

    assert kinds(told) == [(0, "a", "began"), (REPEAT_S, "a", "again"), (REPEAT_S + 90, "a", "over")]


def test_one_that_comes_and_goes_is_told_as_one() -> None:
    flapping = [(float(at), "a" if at % 60 else "") for at in range(0, 3600, 30)]
    _, told = run(*flapping, (3600 + SETTLE_S * 2, ""), (3600 + SETTLE_S * 4, ""))

    assert [kind for _, _, kind in kinds(told)] == ["began", "over"]


def test_what_was_told_is_known_to_the_next_monitor() -> None:
    memory, _ = run((0, "a"))
    _, told = run((30, "a"), (60, ""), (120, ""), memory=memory)

    assert kinds(told) == [(120, "a", "over")]


def test_many_at_once_are_told_in_one_message_that_names_them() -> None:
    names = " ".join(f"alert{number}" for number in range(50))
    _, told = run((0, names), (30, names))

    assert len(told) == MOST_PER_HOUR
    assert told[-1][1].sentence.startswith("31 more alerts: alert19, alert20")
    assert all(f"alert{number}" in " ".join(one.sentence for _, one in told) for number in range(50))


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    _, told = run((1_000_000, "a"), (100, "a"), (130, "a b"))

    assert [(name, kind) for _, name, kind in kinds(told)][-1] == ("b", "began")


NAMES = [f"n{number}" for number in range(30)]
STEPS = st.lists(st.tuples(st.floats(1.0, 1800.0), st.sets(st.sampled_from(NAMES))), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_there_is_no_storm_and_nothing_is_told_over_that_was_not_told(
    steps: list[tuple[float, set[str]]],
) -> None:
    now, memory = 0.0, AlertMemory()
    told: list[float] = []
    begun: set[str] = set()
    for passed_s, names in steps:
        now += passed_s
        memory, messages = decide(
            memory, [condition(one) for one in sorted(names)], now, repeat_after_s=REPEAT_S
        )
        told += [now] * len(messages)
        assert sum(now - 3600 < at for at in told) <= MOST_PER_HOUR
        for one in messages:
            if one.alert == "many":
                for part in one.sentence.partition(": ")[2].split(", "):
                    name, over, _ = part.partition(" (over)")
                    (begun.discard if over else begun.add)(name)
            elif one.resolved:
                assert one.alert in begun
                assert one.alert not in names
                begun.discard(one.alert)
            else:
                assert one.alert in names
                assert one.repeated == (one.alert in begun)
                begun.add(one.alert)
        waiting = {one.condition.alert for one in memory.ongoing.values()}
        assert names <= waiting, "what holds is told or waits for its turn"


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_all_that_was_told_is_told_to_be_over_within_hours_of_its_end(
    steps: list[tuple[float, set[str]]],
) -> None:
    now, memory = 0.0, AlertMemory()
    for passed_s, names in steps:
        now += passed_s
        memory, _ = decide(memory, [condition(one) for one in names], now, repeat_after_s=REPEAT_S)
    for _ in range(4):
        now += 3600.0
        memory, _ = decide(memory, [], now, repeat_after_s=REPEAT_S)
    assert memory.ongoing == {}
