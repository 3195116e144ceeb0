"""The page in a real Chromium: heard on both sides, dialled again where the agent is lost, never waiting for ever.

One stack and one browser for all of it; its microphone plays 1000 Hz, the agent 440 Hz.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support import parts
from tests.support.browser import Browser, Page, chromium, tone_file
from tests.support.dashboard_pictures import READY, sample_dashboard
from tests.support.page_pictures import STATES, show
from tests.support.page_sound import heard_by, heard_by_agent
from tests.support.projects import Project, project

AGENT = Path(__file__).parent / "agents" / "page_agent.py"
PHASE = "document.documentElement.dataset.phase"
AXE = """axe.run().then(({ passes, violations }) => ({
  passed: passes.length,
  serious: violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id} ${one.nodes.map((node) => node.html)}`),
}))"""
LOOKS_OF_ITS_OWN = ("idle", "waiting", "in-call", "failed")
"""The others differ from these by their words only."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with project(tmp_path_factory.mktemp("web"), AGENT) as made:
        page = {"kind": "web", "needs": ["livekit"], "port": parts.free_port(), "requests_per_minute": 6000}
        made.variables["services"]["page"] = page
        made.write()
        made.inv("start")
        yield made


@pytest.fixture(scope="module")
def origin(stack: Project) -> str:
    return f"http://localhost:{stack.variables['services']['page']['port']}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    tone = tone_file(tmp_path_factory.mktemp("tone") / "tone.wav", hertz=1000)
    async with chromium([f"--use-file-for-fake-audio-capture={tone}"]) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, origin: str) -> AsyncIterator[Page]:
    browser.console.clear()
    await browser.permit_microphone(origin, "granted")
    page = await browser.page()
    await page.open(origin)
    yield page
    await page.close()


def rooms(stack: Project) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = stack.inv("rooms.list", "--json").json["rooms"]
    return listed


def no_room_is_left(stack: Project, within_s: float) -> None:
    end = time.monotonic() + within_s
    while rooms(stack):
        assert time.monotonic() < end, f"rooms are left after {within_s:g} s"
        time.sleep(0.1)


@pytest.mark.asyncio(loop_scope="module")
async def test_both_sides_hear_each_other_and_hanging_up_leaves_nothing(
    page: Page, browser: Browser, stack: Project
) -> None:
    await page.click("#call")
    await page.wait(f"{PHASE} === 'in-call'")
    heard = await heard_by(page)
    assert abs(heard["hertz"] - 440) < 10
    assert 0.08 < heard["rms"] < 0.3
    (room,) = rooms(stack)
    assert room["room"].startswith("web-")
    await page.wait("[...document.querySelectorAll('meter')].every((one) => one.value > 0.5)", 30)
    assert (
        abs(await heard_by_agent(stack, room["room"]) - 1000) < 50
    )  # the first sound has gaps on a busy machine
    with pytest.raises(AssertionError, match=r"Overconstrained|NotFound"):
        await page.evaluate("voiceCall.setMicrophone('none')")
    other = "navigator.mediaDevices.enumerateDevices().then((all) => all.findLast((one) => one.kind === 'audioinput').deviceId)"
    await page.evaluate(f"{other}.then((id) => voiceCall.setMicrophone(id))")
    await page.wait("voiceCall.levels().you > 0.05")
    assert await page.evaluate(PHASE) == "in-call"
    await page.evaluate("void dispatchEvent(new Event('beforeunload'))")  # as a link to a mail address does
    await page.click("#mute")
    await page.wait("document.getElementById('you').value === 0")
    assert await page.evaluate(f"[{PHASE}, voiceCall.state.attempt]") == ["in-call", 1]
    await page.click("#call")
    await page.wait(f"{PHASE} === 'ended'")
    no_room_is_left(stack, 2.0)
    assert browser.console == []


@pytest.mark.asyncio(loop_scope="module")
async def test_an_agent_that_is_killed_in_the_call_is_dialled_again_without_a_click(
    page: Page, stack: Project
) -> None:
    await page.click("#call")
    await page.wait(f"{PHASE} === 'in-call'")
    await asyncio.sleep(1.2)  # its heartbeat has come
    os.kill(stack.pid("agent"), signal.SIGKILL)
    await asyncio.to_thread(stack.inv, "start", "--only", "agent")
    await page.wait(f"{PHASE} === 'connecting' && document.body.innerText.includes('Dialling again')", 20)
    await page.wait(f"{PHASE} === 'in-call'", 20)
    assert abs((await heard_by(page))["hertz"] - 440) < 10
    await page.press("Enter")  # the button has the focus still
    await page.wait(f"{PHASE} === 'ended'")
    await asyncio.to_thread(no_room_is_left, stack, 6.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_dashboard_shows_hostile_names_as_text_and_its_button_runs_the_command(
    browser: Browser, stack: Project, origin: str
) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e"
    page = await browser.page()
    await page.open(f"{origin}/ops", ready="document.querySelector('[data-service=agent]')")
    await page.wait("document.getElementById('live').textContent === 'Live'", 30)
    await asyncio.to_thread(stack.inv, "rooms.dispatch", hostile)
    await page.wait("document.getElementById('rooms').textContent.includes('onerror=alert(1)>\\\\u202e')", 30)
    assert await page.evaluate("document.querySelectorAll('img').length") == 0
    # By keyboard alone: the button, then the dialog, which keeps the focus, then back.
    await page.evaluate("document.getElementById('cleanup').focus()")
    await page.press("Enter")
    await page.wait("document.getElementById('confirm').open")
    assert await page.evaluate("document.activeElement.id") == "confirm-no"
    await page.evaluate("document.getElementById('confirm-yes').focus()")
    await page.press("Enter")
    await page.wait("/ done: \\d+ rooms? deleted/.test(document.getElementById('actions').textContent)", 60)
    assert await page.evaluate("document.activeElement.id") == "cleanup"
    lines = (stack.folder / ".voiceops" / "audit.log").read_text().splitlines()
    assert [json.loads(line).get("exit_code") for line in lines] == [None, 0]
    assert await axe_finds(page) == []
    # It restarts what serves it, and sees that to its end.
    await page.click("[data-service=page]")
    await page.click("#confirm-yes")
    await page.wait(
        "/ restart page: done: .*page is ready/.test(document.getElementById('actions').textContent)", 60
    )
    browser.console.clear()  # while it restarted, nothing answered
    await page.close()
    await asyncio.to_thread(stack.inv, "rooms.delete", hostile, "--yes")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_dashboard_with_problems_is_readable_on_a_phone(browser: Browser) -> None:
    async with sample_dashboard() as url:
        page = await browser.page()
        await page.open(url, ready=READY)
        assert await axe_finds(page) == []
        await page.close()


async def axe_finds(page: Page) -> list[str]:
    """What axe-core finds serious at 360 and 1280 pixels, light and dark; nothing may be cut off either."""
    await page.evaluate(f"{parts.axe()}; undefined")
    found: list[str] = []
    for width, dark in ((360, False), (1280, True)):
        await page.look(width=width, dark=dark)
        shown = await page.evaluate("document.documentElement.scrollWidth")
        assert shown <= width, f"{shown} pixels wide at {width}"
        checked = await page.evaluate(AXE)
        assert checked["passed"] > 20
        found += checked["serious"]
    return found


def test_open_prints_where_the_page_is(stack: Project, origin: str) -> None:
    assert stack.inv("open", "--json").json == {"ok": True, "url": f"{origin}/", "opened": False}
    assert stack.inv("open", "--url").out == f"{origin}/\n"
    assert stack.inv("open", "--ops", "--url").out == f"{origin}/ops\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_axe_finds_nothing_serious_light_or_dark_and_no_state_is_cut_off_at_320_pixels(
    page: Page,
) -> None:
    await page.evaluate(f"{parts.axe()}; undefined")
    found = []
    for dark in (False, True):
        await page.look(width=320, height=800, dark=dark)
        for name, state in STATES.items():
            await show(page, state)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 320, f"{name} is {width} pixels wide"
            if name in LOOKS_OF_ITS_OWN:
                await page.evaluate(
                    "document.getElementById('card').getAnimations().forEach((one) => one.finish())"
                )
                checked = await page.evaluate(AXE)
                assert checked["passed"] > 20
                found += [f"{name}, dark {dark}: {one}" for one in checked["serious"]]
    assert found == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_closed_tab_leaves_no_room(browser: Browser, origin: str, stack: Project) -> None:
    page = await browser.page()
    await page.open(origin)
    await page.click("#call")
    await page.wait(f"{PHASE} === 'in-call'")
    await page.close()
    await asyncio.to_thread(no_room_is_left, stack, 2.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_an_agent_it_tries_again_and_is_answered_once_one_is_back(
    page: Page, stack: Project
) -> None:
    await asyncio.to_thread(stack.inv, "stop", "--only", "agent", "--now", "--yes")
    await page.click("#call")
    await page.wait(f"{PHASE} === 'waiting'")
    await asyncio.to_thread(stack.inv, "start", "--only", "agent")
    assert await page.evaluate(PHASE) == "waiting"  # this room's job is lost
    await page.wait(f"{PHASE} === 'in-call'", 20)
    await page.click("#call")
    await asyncio.to_thread(no_room_is_left, stack, 6.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_microphone_that_is_denied_is_explained(
    page: Page, browser: Browser, origin: str, stack: Project
) -> None:
    await browser.permit_microphone(origin, "denied")
    await page.click("#call")
    await page.wait(f"{PHASE} === 'failed'")
    assert "allow the microphone" in await page.evaluate("document.getElementById('hint').textContent")
    no_room_is_left(stack, 6.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_device_without_network_uses_up_no_try_and_is_dialled_again_once_it_has_one(
    page: Page, stack: Project
) -> None:
    await offline(page, True)
    await page.click("#call")
    await page.wait("document.getElementById('title').textContent === 'You are offline'")
    # Longer than the three pauses, after which an agent that does not answer is given up.
    await asyncio.sleep(7)
    assert await page.evaluate(PHASE) == "retrying"
    await offline(page, False)
    await page.wait(f"{PHASE} === 'in-call'", 20)
    await page.click("#call")
    await asyncio.to_thread(no_room_is_left, stack, 6.0)


async def offline(page: Page, away: bool) -> None:
    """Take the tab's network away, or give it back; the tab is told, as by a system that has lost its own."""
    unlimited = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await page.send("Network.enable")
    await page.send("Network.emulateNetworkConditions", offline=away, **unlimited)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_server_that_is_down_ends_in_a_message_and_the_button_works_again(
    page: Page, stack: Project
) -> None:
    await asyncio.to_thread(stack.inv, "stop", "--only", "livekit", "--now", "--yes")
    await page.click("#call")
    await page.wait(f"{PHASE} === 'failed'", 15)
    await page.wait("document.getElementById('findings').textContent.includes('The voice server')")
    await asyncio.to_thread(stack.inv, "start")
    await page.click("#call")
    await page.wait(f"{PHASE} === 'in-call'", 20)
    await page.click("#call")
