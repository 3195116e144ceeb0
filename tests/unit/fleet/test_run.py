"""One runner: what happens to a host when others fail, are interrupted, or are a bug."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from voiceops.errors import ServiceError, UnreachableError
from voiceops.fleet.run import (
    HostResult,
    exit_code,
    on_hosts,
    run_on,
    skip_after_failure,
    skip_after_failures,
)


@dataclass(frozen=True)
class Named:
    name: str


ONE, TWO, THREE = Named("one"), Named("two"), Named("three")


def failing(*names: str, error: type[Exception] = ServiceError) -> Callable[[Any], str]:
    """Work that raises on the hosts of these names."""

    def work(host: Named) -> str:
        if host.name in names:
            raise error(f"{host.name} failed")
        return host.name.upper()

    return work


def test_an_error_stays_with_its_host() -> None:
    results = run_on([[ONE, TWO, THREE]], failing("two"))
    assert [result.value for result in results.values()] == ["ONE", None, "THREE"]
    with pytest.raises(ServiceError, match="two failed"):
        results["two"].get()


def test_a_host_alone_is_worked_on_in_the_calling_thread() -> None:
    results = run_on([[ONE], [TWO]], lambda host: threading.current_thread())
    assert {result.value for result in results.values()} == {threading.main_thread()}


def test_a_batch_begins_when_the_one_before_it_has_ended() -> None:
    ended: list[str] = []

    def work(host: Named) -> None:
        assert (host is THREE) == (len(ended) == 2)
        if host is not THREE:
            both.wait(10.0)
        ended.append(host.name)

    both = threading.Barrier(2)
    run_on([[ONE, TWO], [THREE]], work)
    assert ended[-1] == "three"


def test_no_more_hosts_than_allowed_are_worked_on_at_once() -> None:
    guard, now, most = threading.Lock(), [0], [0]
    pause = threading.Event()

    def work(host: Named) -> None:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        pause.wait(0.02)
        with guard:
            now[0] -= 1

    run_on([[Named(str(number)) for number in range(8)]], work, parallel=2)
    assert most == [2]


def test_a_bug_is_raised_once_all_hosts_of_the_batch_are_through() -> None:
    through: list[str] = []

    def work(host: Named) -> None:
        if host is ONE:
            raise ZeroDivisionError
        through.append(host.name)

    with pytest.raises(ZeroDivisionError):
        run_on([[ONE, TWO, THREE]], work, parallel=1)
    assert through == ["two", "three"]


def test_ctrl_c_ends_the_threads_and_begins_no_further_host() -> None:
    cut = threading.Event()
    begun: list[str] = []

    def work(host: Named) -> None:
        begun.append(host.name)
        if len(begun) > 1:
            assert cut.wait(10.0)

    def interrupted(result: HostResult[None]) -> None:
        raise KeyboardInterrupt

    hosts = [Named(str(number)) for number in range(9)]
    with pytest.raises(KeyboardInterrupt):
        run_on([hosts], work, parallel=1, on_done=interrupted, interrupt=cut.set)
    assert cut.is_set()
    assert len(begun) <= 2


def test_after_a_failure_the_rest_is_left_alone_and_says_why() -> None:
    skip = skip_after_failure("left as it is, because {host} failed")
    results = run_on([[ONE], [TWO], [THREE]], failing("one"), skip_rest=skip)
    assert str(results["three"].problem) == "three: left as it is, because one failed"
    assert exit_code(results.values()) == 1


def test_a_host_that_is_down_is_in_nobodys_way() -> None:
    skip = skip_after_failure("left as it is, because {host} failed")
    work = failing("one", error=UnreachableError)
    results = run_on([[ONE], [TWO]], work, skip_rest=skip)
    assert results["two"].value == "TWO"


def test_a_first_batch_that_failed_ends_a_rollout_whatever_is_allowed() -> None:
    results = run_on([[ONE], [TWO]], failing("one"), skip_rest=skip_after_failures(5))
    assert results["two"].skipped


def test_the_gravest_error_decides_the_exit_code_before_what_the_values_say() -> None:
    fine: HostResult[None] = HostResult(host="a")
    failed: HostResult[None] = HostResult(host="b", error=ServiceError("no"))
    down: HostResult[None] = HostResult(host="c", error=UnreachableError("down"))
    assert exit_code([fine], 2) == 2
    assert exit_code([fine, failed], 2) == 1
    assert exit_code([fine, failed, down], 2) == 5


def test_connections_are_closed_whatever_comes_of_them() -> None:
    class Connection(Named):
        closed = 0

        def close(self) -> None:
            type(self).closed += 1

    results = on_hosts([Connection("a"), Connection("b")], failing("a"))  # type: ignore[list-item]
    assert not results["a"].ok
    assert results["b"].value == "B"
    assert Connection.closed >= 2
