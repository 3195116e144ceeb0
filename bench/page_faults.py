"""What becomes of a caller's page when something goes wrong: ``python -m bench.page_faults [--only NAME,...]``.

Each case in a real Chromium on a real stack; prints a table, and exits 1 where one of them did not end as it has to.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from bench.page import AGENT
from bench.page_case import HEARD, PHASE, Case, back, hang_up, shown_failure
from tests.support import parts
from tests.support.browser import chromium, tone_file
from tests.support.projects import Project, project

TAKEN = """navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("in use", "NotReadableError"))"""
NO_STORAGE = {"profile": {"default_content_setting_values": {"cookies": 2}}}
ELSEWHERE = """<!doctype html><script src="{server}/livekit-client.js"></script>
<script type="module">
  import {{ VoiceCall }} from "{server}/voiceops-client.js";
  globalThis.voiceCall = new VoiceCall({{ livekit: LivekitClient, server: "{server}" }});
  const show = () => (document.documentElement.dataset.phase = voiceCall.state.phase);
  voiceCall.addEventListener("state", show);
  show();
</script><body><button id="call" onclick="voiceCall.call()">Call</button>"""


async def reloaded(case: Case) -> str:
    """Five loads in quick succession, each of them in another moment of its call."""
    async with case.page() as page:
        for pause_s in (0.0, 0.03, 0.1, 0.4, 1.5):
            await page.click("#call")
            await asyncio.sleep(pause_s)
            await page.open(case.server)
        await case.answered(page)
        began = time.monotonic()
        while len(rooms := await asyncio.to_thread(case.rooms)) > 1:
            assert time.monotonic() - began < 8, f"more than one room: {rooms}"
        took = time.monotonic() - began
        (room,) = rooms
        agents = room["agents"]
        assert isinstance(agents, list)
        assert len(agents) == 1, room
    left = await case.no_room_is_left(30)
    return (
        f"answered; one room with one agent after {took:.1f} s; the browser killed: none after {left:.1f} s"
    )


async def two_tabs(case: Case) -> str:
    """Two calls at once from one browser."""
    async with case.browser() as opened:
        pages = [await opened.page() for _ in range(2)]
        for page in pages:
            await page.open(case.server)
            await page.send("Page.bringToFront")
            await case.answered(page)
        rooms = await asyncio.to_thread(case.rooms)
        assert len(rooms) == 2, rooms
        for page in pages:
            assert await page.evaluate(PHASE) == "in-call"
            await page.close()
        left = await case.no_room_is_left(8)
    return f"two calls in two rooms; both closed: none after {left:.1f} s"


async def offline(case: Case) -> str:
    """The browser's network away for 8 s."""
    async with case.page() as page:
        await case.answered(page)
        await page.send("Network.enable")
        for away in (True, False):
            await page.send(
                "Network.emulateNetworkConditions",
                offline=away,
                latency=0,
                downloadThroughput=-1,
                uploadThroughput=-1,
            )
            if away:
                await asyncio.sleep(8)
                seen = await page.evaluate(PHASE)
        took = await back(page, "voiceCall.state.attempt")
        await hang_up(case, page)
    return f"meanwhile {seen}; audible {took:.1f} s after it was back"


async def frozen(case: Case) -> str:
    """LiveKit answers nothing for 8 s, media included."""
    async with case.page() as page:
        await case.answered(page)
        pid = case.made.pid("livekit")
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(8)
            seen = await page.evaluate(PHASE)
        finally:
            os.kill(pid, signal.SIGCONT)
        took = await back(page, "voiceCall.state.attempt")
        await hang_up(case, page)
    return f"meanwhile {seen}; audible {took:.1f} s after it went on"


async def restarted(case: Case) -> str:
    """LiveKit killed, and started again."""
    async with case.page() as page:
        await case.answered(page)
        os.kill(case.made.pid("livekit"), signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.to_thread(case.made.inv, "start", "--only", "livekit")
        up = time.monotonic()
        took = await back(page, "voiceCall.state.attempt", 60)
        await hang_up(case, page)
    return f"up after {up - killed:.1f} s; audible {took:.1f} s after that"


async def killed(case: Case) -> str:
    """The agent killed, and started again."""
    async with case.page() as page:
        await case.answered(page)
        await asyncio.sleep(1.2)
        os.kill(case.made.pid("agent"), signal.SIGKILL)
        began = time.monotonic()
        await asyncio.to_thread(case.made.inv, "start", "--only", "agent")
        up = time.monotonic()
        await page.wait("voiceCall.state.attempt > 1", 30)
        await page.wait(f"{PHASE} === 'in-call'", 30)
        await page.wait(HEARD, 10)
        took = time.monotonic() - up
        await hang_up(case, page)
    return f"up after {up - began:.1f} s; audible {took:.1f} s after that"


async def agent_away(case: Case) -> str:
    """No agent; it comes back while the page tries."""
    async with case.page() as page:
        await asyncio.to_thread(case.made.inv, "stop", "--only", "agent", "--now", "--yes")
        await page.click("#call")
        await page.wait(f"{PHASE} === 'waiting'", 20)
        await asyncio.to_thread(case.made.inv, "start", "--only", "agent")
        took = await page.wait(f"{PHASE} === 'in-call'", 60)
        await page.wait(HEARD, 10)
        attempt = await page.evaluate("voiceCall.state.attempt")
        await hang_up(case, page)
    return f"answered without a click {took:.1f} s after it was back, attempt {attempt}"


async def agent_gone(case: Case) -> str:
    """No agent at all: the message after the last try, no room left, and the button works again."""
    async with case.page() as page:
        await asyncio.to_thread(case.made.inv, "stop", "--only", "agent", "--now", "--yes")
        try:
            await page.click("#call")
            took = await page.wait(f"{PHASE} === 'failed'", 90)
            attempt = await page.evaluate("voiceCall.state.attempt")
            await page.wait("!document.getElementById('details').hidden", 20)
            said = await page.evaluate("document.getElementById('findings').textContent")
            left = await case.no_room_is_left(10)
        finally:
            await asyncio.to_thread(case.made.inv, "start", "--only", "agent")
        await case.answered(page)
        await hang_up(case, page)
    return (
        f"failed after {took:.1f} s and {attempt} attempts, no room {left:.1f} s later: {said} Then: answered"
    )


async def denied(case: Case) -> str:
    """The browser does not let the page have the microphone; it is allowed later."""
    async with case.browser() as opened:
        await opened.permit_microphone(case.server, "denied")
        page = await opened.page()
        await page.open(case.server)
        said = await shown_failure(page, "blocked")
        await opened.permit_microphone(case.server, "granted")
        await case.answered(page)
        await hang_up(case, page)
    return f"{said} Then: answered"


async def missing(case: Case) -> str:
    """A machine without a microphone; it is connected later."""
    async with chromium((), without=("--use-fake-device-for-media-stream",)) as opened:
        await opened.permit_microphone(case.server, "granted")
        page = await opened.page()
        await page.open(case.server)
        said = await shown_failure(page, "no microphone")
    await case.no_room_is_left(8)
    return said


async def taken(case: Case) -> str:
    """The system says that another program holds it."""
    async with case.page() as page:
        await page.evaluate(f"{TAKEN}; undefined")
        said = await shown_failure(page, "in use")
        await case.no_room_is_left(8)
        await page.evaluate("delete navigator.mediaDevices.getUserMedia")
        await case.answered(page)
        await hang_up(case, page)
    return f"{said} Then: answered"


async def autoplay(case: Case) -> str:
    """The browser plays no sound before a click."""
    async with case.page("--autoplay-policy=user-gesture-required") as page:
        await page.evaluate("void voiceCall.call()")  # as from a script, without a click
        await page.wait(f"{PHASE} === 'in-call'", 20)
        await page.wait("!document.getElementById('sound').hidden", 10)
        said = await page.evaluate("document.getElementById('sound').textContent")
        await page.click("#sound")
        await page.wait(
            "document.getElementById('sound').hidden && !document.querySelector('audio').paused", 10
        )
        await page.wait(HEARD, 10)
        await hang_up(case, page)
    return f"the button '{said}' shows, and after it the agent is heard"


async def no_storage(case: Case) -> str:
    """Cookies and storage blocked for all pages."""
    async with case.page(preferences=NO_STORAGE) as page:
        blocked = await page.evaluate(
            "(() => { try { localStorage; return false } catch { return true } })()"
        )
        assert blocked, "storage is not blocked"
        await case.answered(page)
        await hang_up(case, page)
    return "answered; the choice of a microphone is forgotten"


async def third_party(case: Case) -> str:
    """The library in a page of another site, all storage blocked."""
    app = web.Application()
    text = ELSEWHERE.format(server=case.server)
    app.router.add_get("/", lambda _: _html(text))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", case.elsewhere_port).start()
    try:
        async with case.browser(preferences=NO_STORAGE) as opened:
            page = await opened.page()
            await page.open(f"http://127.0.0.1:{case.elsewhere_port}/")
            await case.answered(page)
            await page.close()
            left = await case.no_room_is_left(8)
    finally:
        await runner.cleanup()
    return f"answered; closed: no room after {left:.1f} s"


async def _html(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


async def loads(case: Case) -> str:
    """A hundred loads of the page."""
    process = psutil.Process(case.made.pid("page"))
    async with case.browser() as opened:
        page = await opened.page()
        await page.open(case.server)
        before, began = process.memory_info().rss, time.monotonic()
        for _ in range(100):
            await page.open(case.server)
        took, grew = time.monotonic() - began, process.memory_info().rss - before
        assert opened.console == [], opened.console
    assert grew < 10e6, f"grew by {grew / 1e6:.1f} MB"
    return f"{took / 100 * 1000:.0f} ms each, no error, the server grew by {grew / 1e6:.1f} MB"


ATTACKS: Sequence[tuple[str, str, dict[str, str], bytes | None, tuple[int, ...]]] = (
    ("GET", "/../../etc/passwd", {}, None, (404,)),
    ("GET", "/ops", {"X-Forwarded-For": "10.0.0.1"}, None, (403,)),
    ("POST", "/api/session", {"Origin": "http://evil.example.com"}, b"", (403,)),
    ("POST", "/api/token", {}, b'{"token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzZWNyZXQtY2FsbGVyIn0."}', (401,)),
    ("POST", "/api/token", {}, b'{"token": "secret-caller"}', (401,)),
    ("POST", "/api/token", {}, b"x" * 10_000_000, (413,)),
    ("POST", "/ops/actions", {"Origin": "http://evil.example.com"}, b'{"action": "cleanup-rooms"}', (403,)),
)


async def attacked(case: Case) -> str:
    """Requests that are refused, and what the log says of them."""
    async with aiohttp.ClientSession() as session:
        for method, path, headers, body, statuses in ATTACKS:
            async with session.request(method, case.server + path, headers=headers, data=body) as answer:
                assert answer.status in statuses, (method, path, answer.status)
    log = await asyncio.to_thread(case.made.inv, "logs", "--only", "page", "--raw")
    told = [one for one in ("secret-caller", "evil.example.com", "eyJ", "10.0.0.1") if one in log.out]
    assert not told, f"the log has {told}"
    return f"{len(ATTACKS)} requests refused, nothing of them in the log"


CASES: dict[str, Callable[[Case], Awaitable[str]]] = {
    "reloaded": reloaded,
    "two-tabs": two_tabs,
    "offline": offline,
    "frozen": frozen,
    "restarted": restarted,
    "killed": killed,
    "agent-away": agent_away,
    "agent-gone": agent_gone,
    "denied": denied,
    "missing": missing,
    "taken": taken,
    "autoplay": autoplay,
    "no-storage": no_storage,
    "third-party": third_party,
    "loads": loads,
    "attacked": attacked,
}


async def run_cases(made: Project, names: Sequence[str], tone: Path) -> bool:
    """Run them one after the other; whether all ended as they have to."""
    ok = True
    for name in names:
        began = time.monotonic()
        try:
            said, mark = await CASES[name](Case(made, tone)), "ok"
        except (AssertionError, asyncio.TimeoutError) as error:
            said, mark, ok = str(error)[:1500] or type(error).__name__, "FAILED", False
        print(f"{name:12} {mark:7} {time.monotonic() - began:5.1f} s  {said}", flush=True)
    return ok


def agent(folder: Path) -> Path:
    """The agent with a tone, its jobs in processes: in threads they don't outlive a lost server."""
    entry = folder / "agent.py"
    entry.write_text(AGENT.read_text().replace("JobExecutorType.THREAD", "JobExecutorType.PROCESS"))
    return entry


def main() -> int:
    """Run the cases; 1 where one did not end as it has to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    names = parser.parse_args().only.split(",")
    with (
        tempfile.TemporaryDirectory() as folder,
        project(Path(folder) / "project", agent(Path(folder))) as made,
    ):
        made.variables["services"]["page"] = {
            "kind": "web",
            "needs": ["livekit"],
            "port": parts.free_port(),
            "cors_port": parts.free_port(),
            "origins": [f"http://127.0.0.1:{parts.free_port()}"],
            "requests_per_minute": 6000,
        }
        made.write()
        made.inv("start")
        tone = tone_file(Path(folder) / "tone.wav", hertz=1000)
        return 0 if asyncio.run(run_cases(made, names, tone)) else 1


if __name__ == "__main__":
    sys.exit(main())
