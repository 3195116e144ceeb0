"""What the cases of bench.page_faults share: a stack, browsers of other flags, and what a caller has to hear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.page import port_of
from tests.support.browser import Browser, Page, chromium
from tests.support.projects import Project

PHASE = "document.documentElement.dataset.phase"
HEARD = """(async () => {
  const meter = voiceCall.meters.agent;
  if (!meter) return 0;
  const spectrum = new Float32Array(meter.frequencyBinCount);
  meter.getFloatFrequencyData(spectrum);
  const hertz = (spectrum.indexOf(Math.max(...spectrum)) * voiceCall.context.sampleRate) / meter.fftSize;
  return voiceCall.levels().agent > 0.05 && Math.abs(hertz - 440) < 30 ? hertz : 0;
})()"""
RECOVERED_S = 10.0


class Case:
    """What the cases share: the stack, and a browser of their own flags."""

    def __init__(self, made: Project, tone: Path) -> None:
        self.made = made
        self.tone = tone
        self.server = f"http://localhost:{port_of(made)}"
        self.elsewhere_port = int(made.variables["services"]["page"]["origins"][0].rsplit(":", 1)[1])

    @asynccontextmanager
    async def browser(
        self, *flags: str, granted: bool = True, preferences: object = None
    ) -> AsyncIterator[Browser]:
        """A Chromium whose microphone plays a tone."""
        own = (f"--use-file-for-fake-audio-capture={self.tone}", *flags)
        async with chromium(own, preferences=preferences) as opened:
            if granted:
                for origin in (self.server, f"http://127.0.0.1:{self.elsewhere_port}"):
                    await opened.permit_microphone(origin, "granted")
            yield opened

    @asynccontextmanager
    async def page(
        self, *flags: str, granted: bool = True, preferences: object = None
    ) -> AsyncIterator[Page]:
        """The page, loaded."""
        async with self.browser(*flags, granted=granted, preferences=preferences) as opened:
            page = await opened.page()
            await page.open(self.server)
            yield page

    def rooms(self) -> list[dict[str, object]]:
        """The rooms that stand."""
        listed: list[dict[str, object]] = self.made.inv("rooms.list", "--json").json["rooms"]
        return listed

    async def no_room_is_left(self, within_s: float) -> float:
        """Wait until no room stands; how long that took."""
        began = time.monotonic()
        while rooms := await asyncio.to_thread(self.rooms):
            assert time.monotonic() - began < within_s, f"rooms after {within_s:g} s: {rooms}"
        return time.monotonic() - began

    async def answered(self, page: Page) -> None:
        """Click, and wait until the agent's tone is heard."""
        await page.click("#call")
        await page.wait(f"{PHASE} === 'in-call'", 20)
        await page.wait(HEARD, 10)


async def back(page: Page, attempt: str, timeout_s: float = 30.0) -> float:
    """Wait until the tone is heard again, newly; how long that took."""
    began = time.monotonic()
    await page.wait(f"{PHASE} === 'in-call'", timeout_s)
    await page.wait(HEARD, timeout_s)
    took = time.monotonic() - began
    # It has to stay, not only to be the last of a buffer.
    await asyncio.sleep(1.0)
    while not await page.evaluate(HEARD):
        took = time.monotonic() - began
        assert took < timeout_s, f"silent for {took:.1f} s, attempt {await page.evaluate(attempt)}"
        await asyncio.sleep(0.1)
    assert took <= RECOVERED_S, f"audible only after {took:.1f} s"
    return took


async def hang_up(case: Case, page: Page) -> None:
    """End the call by the button; no room may be left."""
    await page.click("#call")
    await page.wait(f"{PHASE} === 'ended'")
    await case.no_room_is_left(10)


async def shown_failure(page: Page, text: str) -> str:
    """Click; the page must say ``text``, and how to go on."""
    await page.click("#call")
    await page.wait(f"{PHASE} === 'failed'", 20)
    title = await page.evaluate("document.getElementById('title').textContent")
    hint = await page.evaluate("document.getElementById('hint').textContent")
    assert text in title, (title, hint)
    assert "call again" in hint, hint
    return f"{title}: {hint}"
