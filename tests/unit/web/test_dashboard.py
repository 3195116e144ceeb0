"""The dashboard: for operators only, its events, and commands that run once, with a line in the audit log."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.unit.web.conftest import OPERATORS_TOKEN, Serve, ServedPage
from voiceops.model.web import DashboardSettings
from voiceops.web.audit import AuditEntry, AuditLog, new_entry
from voiceops.web.dashboard import HEADERS
from voiceops.web.server import serving_dashboard

FEED = """import sys, time
print('{"at": 1, "sections": {"rooms": {"rows": {"a": {"name": "<b>"}, "b": {"name": "two"}}}}}', flush=True)
print('{"at": 2, "sections": {"rooms": {"gone": ["a"]}}}', flush=True)
time.sleep(60)"""
PROGRAM = """import json, sys, time
from pathlib import Path
(Path(__file__).parent / "ran").open("a").write(json.dumps(sys.argv[1:]) + "\\n")
if "restart" in sys.argv:
    time.sleep(0.5)
    error = {"type": "CallsInProgressError", "message": "2 calls are in progress", "hint": "give --yes"}
    print(json.dumps({"ok": False, "hosts": {"localhost": {"ok": False, "error": error}}}))
    sys.exit(0 if "--yes" in sys.argv else 1)
if "why" in sys.argv:
    print(json.dumps({"ok": False, "findings": [{"rule": "no-worker", "cause": "no agent", "fix": "inv start"}], "hosts": {}}))
    sys.exit(1)
print(json.dumps({"ok": True, "deleted": [{}, {}], "kept": [{}]}))
"""


@pytest.fixture
def settings(tmp_path: Path) -> DashboardSettings:
    (tmp_path / "program.py").write_text(PROGRAM)
    return DashboardSettings(
        feed=(sys.executable, "-c", FEED),
        program=(sys.executable, str(tmp_path / "program.py")),
        inventory="inventory.yaml",
        audit_log=str(tmp_path / "audit.log"),
    )


@asynccontextmanager
async def watched(page: ServedPage, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with page.ask("GET", "/ops/events", headers) as answer:
        yield answer


async def section(answer: aiohttp.ClientResponse, name: str) -> dict[str, Any]:
    """The next message that has this section, as it has it."""

    async def read() -> dict[str, Any]:
        async for line in answer.content:
            if line.startswith(b"data: "):
                found = json.loads(line[6:]).get("sections", {})
                if name in found:
                    return dict(found[name])
        raise AssertionError(f"the events ended without {name}")

    return await asyncio.wait_for(read(), 30)


def own_origin(page: ServedPage) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{page.port}"}


async def test_whoever_watches_gets_the_whole_state_and_then_each_change(
    serve: Serve, settings: DashboardSettings
) -> None:
    page = await serve(dashboard=settings)
    async with watched(page) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]
        assert (await section(answer, "rooms"))["rows"]["a"] == {"name": "<b>"}
        assert await section(answer, "rooms") == {"gone": ["a"]}
        async with watched(page) as another:
            assert (await section(another, "rooms"))["rows"] == {"b": {"name": "two"}}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Forwarded-For": "10.0.0.1"}, 401),
        ({"X-Forwarded-For": "10.0.0.1", "Authorization": "Bearer wrong"}, 401),
        ({"X-Forwarded-For": "10.0.0.1", "Cookie": "voiceops_operator=9999999999.abc"}, 401),
        ({"X-Forwarded-For": "10.0.0.1", "Authorization": f"Bearer {OPERATORS_TOKEN}"}, 200),
        ({"Origin": "https://friend.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "rebound.example.com"}, 421),
    ],
)
async def test_events_are_for_operators_and_for_no_other_page(
    serve: Serve, settings: DashboardSettings, headers: dict[str, str], status: int
) -> None:
    page = await serve(dashboard=settings, origins=("https://friend.example.com",))
    async with watched(page, **headers) as answer:
        assert answer.status == status
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b'{"action": "cleanup-rooms"}', 403),
        ({"Origin": "http://evil.example.com"}, b'{"action": "cleanup-rooms"}', 403),
        ({"Origin": "https://friend.example.com"}, b'{"action": "cleanup-rooms"}', 403),
        ({"own": "", "Content-Type": "text/plain"}, b'{"action": "cleanup-rooms"}', 403),
        ({"own": "", "X-Forwarded-For": "10.0.0.1"}, b'{"action": "cleanup-rooms"}', 401),
        ({"own": ""}, b'{"action": "stop"}', 400),
        ({"own": ""}, b'{"action": "restart", "service": "--yes"}', 400),
        ({"own": ""}, b'{"action": "restart", "service": "agent,livekit"}', 400),
        ({"own": ""}, b'{"action": "cleanup-rooms", "drop_calls": true}', 400),
        ({"own": ""}, b'{"action": "cleanup-rooms", "more": 1}', 400),
    ],
)
async def test_what_no_operator_has_confirmed_is_not_run(
    serve: Serve,
    settings: DashboardSettings,
    tmp_path: Path,
    headers: dict[str, str],
    body: bytes,
    status: int,
) -> None:
    page = await serve(dashboard=settings, origins=("https://friend.example.com",))
    sent = {"Content-Type": "application/json", **headers}
    if "own" in sent:
        del sent["own"]
        sent |= own_origin(page)
    url = f"http://127.0.0.1:{page.port}/ops/actions"
    async with page.session.post(url, data=body, headers=sent) as answer:
        assert answer.status == status
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "audit.log").exists()


async def test_a_command_runs_once_says_how_it_ended_and_is_in_the_audit_log(
    serve: Serve, settings: DashboardSettings, tmp_path: Path
) -> None:
    page = await serve(dashboard=settings)
    restart = {"action": "restart", "service": "agent"}
    async with watched(page) as answer:
        async with page.ask("POST", "/ops/actions", own_origin(page), json=restart) as begun:
            assert begun.status == 202
            number = (await begun.json())["id"]
        async with page.ask("POST", "/ops/actions", own_origin(page), json=restart) as again:
            assert (await again.json())["error"] == "running"
        while (row := (await section(answer, "actions"))["rows"][number])["running"]:
            pass
        assert (row["exit_code"], row["may_drop"]) == (1, True)
        assert row["said"] == "2 calls are in progress (give --yes)"
        while not (found := (await section(answer, "findings")).get("rows")):
            pass
        assert found["0000"]["rule"] == "no-worker"
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(one["id"], one.get("exit_code")) for one in lines] == [(number, None), (number, 1)]
    assert {(one["by"], one["action"], one["service"]) for one in lines} == {
        ("this machine", "restart", "agent")
    }
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600
    ran = [json.loads(line) for line in (tmp_path / "ran").read_text().splitlines()]
    assert ran.count(["restart", "--only", "agent", "--json", "--inventory", "inventory.yaml"]) == 1


async def test_the_end_of_a_command_is_shown_by_the_next_process_too(
    serve: Serve, settings: DashboardSettings, tmp_path: Path
) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    entries = [new_entry(str(one), "restart", "web", by="this machine", drop_calls=False) for one in range(2)]
    entries = [msgspec.structs.replace(one, at=one.at - 60) for one in entries]
    for entry in entries:
        audit.write(entry)
    with audit.running(entries[0]):
        page = await serve(dashboard=settings)
        async with watched(page) as answer:
            rows = (await section(answer, "actions"))["rows"]
            assert {number: row["running"] for number, row in rows.items()} == {"0": True, "1": False}
            done = {"ended_at": time.time(), "exit_code": 0, "said": "web is ready"}
            audit.write(msgspec.structs.replace(entries[0], **done))
            row = (await section(answer, "actions"))["rows"]["0"]
            assert (row["running"], row["exit_code"], row["said"]) == (False, 0, "web is ready")
    assert not (tmp_path / "audit.log.0").exists()


def ended_commands(audit: AuditLog, count: int) -> list[AuditEntry]:
    while len(found := [one for one in audit.last(count) if one.ended_at]) < count:
        time.sleep(0.05)
    return found


async def test_the_dashboard_of_servers_acts_on_them_and_on_no_other(
    settings: DashboardSettings, tmp_path: Path
) -> None:
    names = {"voice1": "voice1", "voice2": "deploy@voice2:2222"}
    async with (
        serving_dashboard(msgspec.structs.replace(settings, hosts=names)) as port,
        aiohttp.ClientSession() as session,
    ):
        page = f"http://localhost:{port}"
        for path, status in (("/ops", 200), ("/ops.mjs", 200), ("/", 404), ("/api/session", 404)):
            async with session.get(page + path) as answer:
                assert (path, answer.status) == (path, status)
        for host, service, status in (("voice3", "agent", 400), ("", "agent", 400), ("voice2", "agent", 202)):
            asked = {"action": "restart", "service": service, "host": host}
            async with session.post(f"{page}/ops/actions", json=asked, headers={"Origin": page}) as answer:
                assert (host, answer.status) == (host, status)
        cleanup = {"action": "cleanup-rooms"}
        async with session.post(f"{page}/ops/actions", json=cleanup, headers={"Origin": page}) as answer:
            assert answer.status == 202
        ended = await asyncio.wait_for(
            asyncio.to_thread(ended_commands, AuditLog(tmp_path / "audit.log"), 2), 30
        )
    assert [one.hosts for one in ended] == [("voice2",), ("voice1", "voice2")]
    ran = [json.loads(line) for line in (tmp_path / "ran").read_text().splitlines()]
    flags = ["--json", "--inventory", "inventory.yaml", "--host"]
    assert ["restart", "--only", "agent", *flags, "deploy@voice2:2222"] in ran
    assert ["cleanup-rooms", *flags, "voice1,deploy@voice2:2222"] in ran


async def test_without_an_audit_log_nothing_is_done(
    serve: Serve, settings: DashboardSettings, tmp_path: Path
) -> None:
    (tmp_path / "audit.log").mkdir()
    page = await serve(dashboard=settings)
    async with page.ask("POST", "/ops/actions", own_origin(page), json={"action": "cleanup-rooms"}) as answer:
        assert answer.status == 503
        assert (await answer.json())["message"].startswith("Nothing was done")
    assert not (tmp_path / "ran").exists()


async def test_the_token_gives_a_cookie_only_where_nobody_reads_it_on_the_way(
    serve: Serve, settings: DashboardSettings
) -> None:
    page = await serve(dashboard=settings, trusted_proxies=("127.0.0.0/8",))
    away = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Host": "ops.example.com"}
    login = {"token": OPERATORS_TOKEN}
    async with page.ask("POST", "/ops/session", away, json=login) as answer:
        assert (await answer.json())["error"] == "not-https"
    away["X-Forwarded-Proto"] = "https"
    async with page.ask("POST", "/ops/session", away, json={"token": "wrong"}) as answer:
        assert answer.status == 401
    async with page.ask("POST", "/ops/session", away, json=login) as answer:
        assert answer.status == 204
        cookie = answer.cookies["voiceops_operator"]
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (
        True,
        True,
        "Strict",
        "/ops",
    )
    held = {**away, "Cookie": f"voiceops_operator={cookie.value}"}
    async with page.ask("GET", "/ops/session", held) as answer:
        assert await answer.json() == {"operator": True, "can_log_in": True}
    tampered = {**away, "Cookie": f"voiceops_operator={int(cookie.value.split('.')[0]) + 1}.{cookie.value}"}
    async with page.ask("GET", "/ops/session", tampered) as answer:
        assert (await answer.json())["operator"] is False


async def test_a_feed_that_can_not_run_is_said_and_run_again(
    serve: Serve, settings: DashboardSettings, tmp_path: Path
) -> None:
    fails_once = f"""import pathlib, sys
if not pathlib.Path({str(tmp_path / "tried")!r}).exists():
    pathlib.Path({str(tmp_path / "tried")!r}).touch()
    sys.exit("error: no inventory.yaml")
{FEED}"""
    page = await serve(
        dashboard=DashboardSettings(
            feed=(sys.executable, "-c", fails_once),
            program=settings.program,
            inventory="",
            audit_log=settings.audit_log,
        )
    )
    async with watched(page) as answer:
        assert (await section(answer, "feed"))["rows"]["feed"]["error"] == "no inventory.yaml"
        assert (await section(answer, "feed"))["rows"]["feed"]["error"] == ""
        assert "a" in (await section(answer, "rooms"))["rows"]


def test_the_audit_log_reads_past_a_line_that_was_cut(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.log")
    audit.write(new_entry("1", "fix", "", by="this machine", drop_calls=False))
    with (tmp_path / "audit.log").open("a") as file:
        file.write('{"id": "2", "at"\n')
    audit.write(new_entry("3", "restart", "agent", by="this machine", drop_calls=True))
    assert [(one.id, one.ended_at) for one in audit.last(10)] == [("1", None), ("3", None)]
    assert abs(audit.last(1)[0].at - time.time()) < 60
