"""Rate limits: of one address, of a network of IPv6, and of all together."""

from __future__ import annotations

from voiceops.web.limits import RateLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def allowed(limit: RateLimit, *addresses: str) -> list[bool]:
    return [limit.wait_s(one) == 0.0 for one in addresses]


def test_an_address_may_ask_as_often_as_it_says_and_again_after_a_while() -> None:
    clock = Clock()
    limit = RateLimit(6.0, 600.0, clock)  # a bucket holds what flows in within 20 s: two
    assert allowed(limit, "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2") == [True, True, False, True]
    assert round(limit.wait_s("10.0.0.1"), 3) == 10.0
    clock.now += 10.0
    assert allowed(limit, "10.0.0.1", "10.0.0.1") == [True, False]


def test_all_addresses_together_have_a_limit() -> None:
    limit = RateLimit(6.0, 9.0, Clock())  # three at once
    assert allowed(limit, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4") == [True, True, True, False]


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    limit = RateLimit(3.0, 600.0, Clock())
    assert allowed(limit, "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1") == [True, False, True]


def test_what_is_refused_takes_nothing_from_the_others() -> None:
    limit = RateLimit(3.0, 9.0, Clock())
    assert allowed(limit, *["10.0.0.1"] * 50).count(True) == 1
    assert allowed(limit, "10.0.0.2", "10.0.0.3") == [True, True]
