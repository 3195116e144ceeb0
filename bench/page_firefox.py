"""Calls by the page in Debian's Firefox: ``python -m bench.page_firefox [--count 5]``.

Firefox's audio contexts run only with a sound device: needs Debian's pulseaudio for a null sink. Its fake microphone plays
1000 Hz, the agent 440 Hz; each side has to hear the other one's. Then the agent is killed in a call, the server is killed, the
tab is closed, and the microphone is denied.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.page_case import HEARD, PHASE, Case, hang_up, shown_failure
from bench.page_faults import agent
from tests.support import parts
from tests.support.firefox import FirefoxPage, firefox
from tests.support.page_sound import heard_by_agent
from tests.support.projects import Project, project
from tests.support.sound_server import sound_server

METER = """(() => {
  const meter = voiceCall.meters.agent;
  const samples = new Float32Array(meter.fftSize);
  meter.getFloatTimeDomainData(samples);
  const crossings = samples.reduce((sum, one, index) => sum + (index > 0 && one < 0 !== samples[index - 1] < 0), 0);
  return {
    rms: Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length),
    hertz: (crossings * voiceCall.context.sampleRate) / (2 * samples.length),
  };
})()"""
"""By the page's own meter: Firefox lets no audio context begin without a click."""

CLIENTS_OWN = "publisher data channel"
"""livekit-client logs an error where the server closes a room before it does: so does any call that the agent ends."""


async def one_call(case: Case, page: FirefoxPage) -> float:
    """Call, measure both sides, hang up; how long until the tone was heard."""
    began = time.monotonic()
    await case.answered(page)
    took = time.monotonic() - began
    await asyncio.sleep(0.5)  # sound sets in gradually
    heard = await page.evaluate(METER)
    assert abs(heard["hertz"] - 440) < 30, heard
    assert 0.08 < heard["rms"] < 0.3, heard
    (room,) = case.rooms()
    agent_hears = await heard_by_agent(case.made, str(room["room"]))
    assert abs(agent_hears - 1000) < 50, agent_hears
    await page.click("#call")
    await page.wait(f"{PHASE} === 'ended'")
    gone_s = await case.no_room_is_left(2.0)
    print(
        f"heard after {took:.2f} s: {heard['hertz']:.0f} Hz, RMS {heard['rms']:.3f}; the agent heard {agent_hears} Hz; room gone after {gone_s:.1f} s"
    )
    return took


async def faults(case: Case, page: FirefoxPage) -> None:
    """What may happen in a call."""
    for name, wait_s in (("agent", 1.2), ("livekit", 0.0)):
        await case.answered(page)
        await asyncio.sleep(wait_s)  # the agent's sign of life has come
        os.kill(case.made.pid(name), signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.to_thread(case.made.inv, "start")
        up = time.monotonic()
        await page.wait("voiceCall.state.attempt > 1", 60)
        await page.wait(f"{PHASE} === 'in-call'", 30)
        await page.wait(HEARD, 30)
        print(
            f"{name} killed: up after {up - killed:.1f} s; audible {time.monotonic() - up:.1f} s after that"
        )
        await hang_up(case, page)
    await case.answered(page)
    await page.close()
    print(f"tab closed: room gone after {await case.no_room_is_left(2.0):.1f} s")


async def main(made: Project, count: int, environment: Mapping[str, str]) -> None:
    """All of it."""
    case = Case(made, Path())
    async with firefox(environment=environment) as browser:
        page = await browser.page()
        await page.open(case.server)
        took = [await one_call(case, page) for _ in range(count)]
        print(f"click to heard: p50 {statistics.median(took):.2f} s of {count}")
        errors = [one for one in browser.console if not one.startswith(CLIENTS_OWN)]
        assert errors == [], errors
        await faults(case, page)
    denied = {"media.navigator.permission.disabled": False, "permissions.default.microphone": 2}
    async with firefox(denied, environment) as browser:
        page = await browser.page()
        await page.open(case.server)
        print(await shown_failure(page, "microphone"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5)
    options = parser.parse_args()
    parts.firefox()
    with (
        tempfile.TemporaryDirectory() as folder,
        sound_server() as sound,
        project(Path(folder) / "project", agent(Path(folder))) as stack,
    ):
        web = {"kind": "web", "needs": ["livekit"], "port": parts.free_port(), "requests_per_minute": 6000}
        stack.variables["services"]["page"] = web | {
            "origins": [f"http://127.0.0.1:{parts.free_port()}"],
            "cors_port": parts.free_port(),
        }
        stack.write()
        stack.inv("start")
        asyncio.run(main(stack, options.count, sound))
