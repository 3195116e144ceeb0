"""What both sides of a call of the page hear, as figures."""

from __future__ import annotations

import asyncio
import json

from tests.support.browser import Page
from tests.support.projects import Project

HEARD = """(async () => {
  const element = document.querySelector("audio");
  if (!element?.srcObject) return null;
  const context = new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  context.createMediaStreamSource(element.srcObject).connect(analyser);
  await new Promise((resolve) => setTimeout(resolve, 400));
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(spectrum);
  const peak = spectrum.indexOf(Math.max(...spectrum));
  const rms = Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
  const hertz = (peak * context.sampleRate) / analyser.fftSize;
  await context.close();
  return { rms, hertz };
})()"""


async def heard_by(page: Page) -> dict[str, float]:
    """Loudness and main frequency of what the page plays."""
    await page.wait("!!document.querySelector('audio')?.srcObject")
    heard: dict[str, float] = await page.evaluate(HEARD)
    return heard


async def heard_by_agent(stack: Project, room: str) -> int:
    """The frequency that the agent says it hears."""
    for _ in range(50):
        shown = await asyncio.to_thread(stack.inv, "rooms.show", room, "--json")
        found = [one["attributes"].get("heard_hertz") for one in shown.json["participants"]]
        if any(found):
            return int(next(filter(None, found)))
        await asyncio.sleep(0.1)
    raise AssertionError(json.dumps(shown.json))
