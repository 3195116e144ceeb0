"""What the page's server refuses, and what each of its answers carries."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from tests.support.parts import free_port
from tests.unit.web.conftest import KEY, OPERATORS_TOKEN, SECRET, Serve
from voiceops.adapters.livekit.token import room_token, sign_token, verified_claims
from voiceops.model.secret import Secret
from voiceops.web import http_app

IDENTIFYING = ("eyJ", "caller-1", "somebody-elses-room", "evil.example.com", "198.51.100.1", "203.0.113.")
"""In what these tests ask: tokens, rooms, origins, addresses."""


@pytest.fixture(autouse=True)
def nothing_that_identifies_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    shown = [
        f"{record.getMessage()} {record.__dict__} {record.exc_text}" for record in caplog.get_records("call")
    ]
    assert not [one for one in IDENTIFYING if any(one in line for line in shown)], shown


def token(room: str = "web-1", *, ttl_s: float = 600.0, secret: str = SECRET) -> str:
    return room_token(Secret(KEY), Secret(secret), room, "caller-1", ttl_s=ttl_s)


async def test_the_page_may_run_its_own_files_only_and_connect_to_livekit_only(serve: Serve) -> None:
    page = await serve()
    async with page.ask("GET", "/") as answer:
        assert answer.status == 200
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
        )
        assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
        assert policy["connect-src"] == "'self' https://livekit.example.com wss://livekit.example.com"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        text = await answer.text()
    assert "<script>" not in text
    assert "style=" not in text


async def test_what_a_browser_has_already_is_not_sent_again(serve: Serve) -> None:
    page = await serve()
    async with page.ask("GET", "/", {"If-None-Match": '"1"'}) as answer:
        assert answer.status == 304


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/style.css/../../app.py",
        "/app.py",
        "//etc/passwd",
    ],
)
async def test_no_path_leads_out_of_the_page(serve: Serve, path: str) -> None:
    page = await serve()
    _, status, body = await raw(
        page.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert status == 404
    assert b"root:" not in body


async def raw(port: int, request: bytes) -> tuple[bytes, int, bytes]:
    """Send bytes as they are; headers, status and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, int(head.split()[1]) if head else 0, body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://friend.example.com"}, 401),
        ({"Host": "rebound.example.com"}, 421),
        ({}, 401),
    ],
)
async def test_pages_of_other_origins_are_refused(serve: Serve, headers: dict[str, str], status: int) -> None:
    page = await serve(origins=("https://friend.example.com",))
    async with page.ask("POST", "/api/token", headers, json={"token": "x.y.z"}) as answer:
        assert answer.status == status
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        assert allowed == (
            headers.get("Origin") if headers.get("Origin") == "https://friend.example.com" else None
        )


async def test_a_beacon_of_a_page_without_referrers_names_no_origin_and_may_end_its_own_session(
    serve: Serve,
) -> None:
    page = await serve()
    ours = {"token": token()}
    for path, body, status in [
        ("/api/end", ours, 202),
        ("/api/end", {"token": "x.y.z"}, 401),
        ("/api/token", ours, 403),
    ]:
        async with page.ask("POST", path, {"Origin": "null"}, json=body) as answer:
            assert answer.status == status, (path, body)


async def test_a_plain_script_of_another_page_gets_the_library_and_no_page(serve: Serve) -> None:
    page = await serve(origins=("https://friend.example.com",))
    for path, policy in (("/voiceops-client.js", "cross-origin"), ("/", "same-origin")):
        async with page.ask("GET", path) as answer:
            assert answer.headers["Cross-Origin-Resource-Policy"] == policy


async def test_the_second_port_has_the_api_and_the_library_but_no_page(serve: Serve) -> None:
    cors_port = free_port()
    page = await serve(origins=("https://friend.example.com",), cors_port=cors_port)
    friend = {"Origin": "https://friend.example.com"}
    async with page.ask("OPTIONS", "/api/session", friend, port=cors_port) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
    async with page.ask("GET", "/voiceops-client.js", friend, port=cors_port) as answer:
        assert (answer.status, answer.headers["Cross-Origin-Resource-Policy"]) == (200, "cross-origin")
    async with page.ask("GET", "/", port=cors_port) as answer:
        assert answer.status == 404


async def test_a_valid_token_is_renewed_for_its_own_room_and_no_other(serve: Serve) -> None:
    page = await serve()
    async with page.ask("POST", "/api/token", json={"token": token(), "room": "web-2"}) as answer:
        fresh = await answer.json()
    claims = verified_claims(fresh["token"], Secret(KEY), Secret(SECRET), time.time())
    video = claims["video"]
    assert isinstance(video, dict)
    assert (video["room"], claims["sub"], fresh["expires_s"]) == ("web-1", "caller-1", 600.0)
    assert not {"roomAdmin", "roomList", "roomCreate"} & set(video)
    assert (fresh["url"], SECRET in str(fresh)) == ("wss://livekit.example.com", False)


@pytest.mark.parametrize("path", ["/api/token", "/api/end"])
async def test_tokens_that_are_expired_tampered_or_for_other_rooms_are_refused(
    serve: Serve, path: str
) -> None:
    page = await serve()
    unsigned = sign_token(Secret(KEY), Secret(SECRET), {"roomList": True}, ttl_s=60)
    wrong = [
        token(ttl_s=-5),
        token(secret="x" * 32),
        token()[:-2],
        token("somebody-elses-room"),
        unsigned,
        "",
        "a.b",
    ]
    for one in wrong:
        async with page.ask("POST", path, json={"token": one}) as answer:
            assert answer.status == 401, one
            assert set(await answer.json()) == {"error", "message"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 5}', b"\xff\xfe"])
async def test_what_is_no_request_is_answered_with_400(serve: Serve, body: bytes) -> None:
    page = await serve()
    async with page.session.post(f"http://127.0.0.1:{page.port}/api/token", data=body) as answer:
        assert answer.status == 400


async def test_a_body_of_10_mb_is_refused_without_being_read(serve: Serve) -> None:
    page = await serve()
    head = b"POST /api/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n"
    _, status, _ = await raw(page.port, head + b"x" * 100_000)
    assert status == 413


async def test_a_body_without_a_length_is_read_up_to_the_limit(serve: Serve) -> None:
    page = await serve()
    head = b"POST /api/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    _, status, _ = await raw(page.port, head + chunk * 3)
    assert status == 413


async def test_a_body_that_never_ends_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_app, "BODY_S", 0.2)
    page = await serve()
    head = b"POST /api/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
    _, status, _ = await raw(page.port, head + b'{"token": "')
    assert status == 408


async def test_headers_with_line_breaks_reach_no_answer(serve: Serve) -> None:
    page = await serve(origins=("https://friend.example.com",))
    request = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://friend.example.com\rSet-Cookie: a=b\r\n\r\n"
    )
    head, status, _ = await raw(page.port, request)
    assert status == 400
    assert b"set-cookie" not in head.lower()


async def test_a_connection_that_never_finishes_its_request_is_closed(serve: Serve) -> None:
    page = await serve(headers_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: local")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    silent, other = await asyncio.open_connection("127.0.0.1", page.port)
    assert await asyncio.wait_for(silent.read(), 5) == b""
    writer.close()
    other.close()


async def test_there_are_never_more_connections_than_the_limit(serve: Serve) -> None:
    page = await serve(most=3)
    opened = [await asyncio.open_connection("127.0.0.1", page.port) for _ in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, one in [*opened, (reader, writer)]:
        one.close()


async def test_too_many_requests_are_told_when_to_come_again(serve: Serve) -> None:
    page = await serve(requests_per_minute=3.0)
    async with page.ask("POST", "/api/token", json={"token": "x"}) as answer:
        assert answer.status == 401
    async with page.ask("POST", "/api/token", json={"token": "x"}) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 21


async def test_each_line_of_a_forwarded_header_counts(serve: Serve) -> None:
    page = await serve(requests_per_minute=3.0, trusted_proxies=("127.0.0.0/8",))
    body = b'{"token": "x"}'
    statuses = []
    for number in range(3):
        head = (
            f"POST /api/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            f"X-Forwarded-For: 203.0.113.{number}\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
        )
        statuses.append((await raw(page.port, head.encode() + body))[1])
    assert statuses == [401, 429, 429]


async def test_without_livekit_there_is_no_session_and_the_cause_is_told(serve: Serve) -> None:
    page = await serve(trusted_proxies=("127.0.0.0/8",))
    async with page.ask("POST", "/api/session") as answer:
        assert (answer.status, (await answer.json())["error"]) == (503, "server-unavailable")
    async with page.ask("GET", "/health") as answer:
        assert (answer.status, await answer.json()) == (503, {"ok": False, "livekit": "server-unreachable"})
    for headers, shown in [({}, True), ({"X-Forwarded-For": "198.51.100.1"}, False)]:
        async with page.ask("GET", "/api/why", headers) as answer:
            (finding,) = (await answer.json())["findings"]
            assert (finding["code"], bool(finding["detail"])) == ("server-unreachable", shown)


async def test_metrics_are_for_this_machine_and_for_operators(serve: Serve) -> None:
    page = await serve(trusted_proxies=("127.0.0.0/8",))
    elsewhere = {"X-Forwarded-For": "198.51.100.1"}
    async with page.ask("GET", "/metrics", elsewhere) as answer:
        assert answer.status == 403
    for headers in ({}, {**elsewhere, "Authorization": f"Bearer {OPERATORS_TOKEN}"}):
        async with page.ask("GET", "/metrics", headers) as answer:
            assert answer.status == 200
            text = await answer.text()
    assert 'voiceops_web_refused_total{reason="operators-only"} 1.0' in text
    assert "198.51.100.1" not in text
