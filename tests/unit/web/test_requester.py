"""Whose address counts behind proxies, and who is on this machine."""

from __future__ import annotations

import pytest

from voiceops.web.requester import is_loopback_name, requester

TRUSTED = ("10.0.0.0/8", "127.0.0.0/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.7", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_forwarded_addresses_count_from_trusted_proxies_only(peer: str, forwarded: str, address: str) -> None:
    assert requester(peer, "host", {"X-Forwarded-For": forwarded}, TRUSTED).address == address


def test_host_and_scheme_are_those_that_a_trusted_proxy_saw() -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "Voice.example.com"}
    assert requester("10.0.0.1", "inside:8888", headers, TRUSTED).origin == "https://voice.example.com"
    assert requester("192.0.2.9", "inside:8888", headers, TRUSTED).origin == "http://inside:8888"


@pytest.mark.parametrize(
    ("peer", "host", "headers", "here"),
    [
        ("127.0.0.1", "localhost:8888", {}, True),
        ("::1", "[::1]:8888", {}, True),
        ("127.0.0.1", "evil.example.com", {}, False),
        ("127.0.0.1", "localhost:8888", {"X-Forwarded-For": "198.51.100.1"}, False),
        ("127.0.0.1", "localhost:8888", {"Via": "1.1 somebody"}, False),
        ("192.0.2.9", "localhost:8888", {}, False),
    ],
)
def test_whoever_asks_through_a_proxy_is_not_on_this_machine(
    peer: str, host: str, headers: dict[str, str], here: bool
) -> None:
    assert requester(peer, host, headers, ()).on_this_machine is here


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.5:1", "[::1]", "[::1]:8888"])
def test_names_of_loopback(host: str) -> None:
    assert is_loopback_name(host)
    assert not is_loopback_name(f"x{host}")
