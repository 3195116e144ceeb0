"""What both sides of a call of the page hear, as figures."""

from __future__ import annotations

import asyncio
import json

from tests.support.browser import Page
from tests.support.projects import Project

HEARD = """(async () => {
  const element = document.querySelector("audio");
  if (!element?.srcObject) return null;
  const { context } = voiceCall;  // Firefox runs no other one without a click
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  context.createMediaStreamSource(element.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  // Until all of them are of the call: on a full machine Firefox needs more than a second to begin.
  for (let look = 0; look < 50 && !(samples[0] && samples.at(-1)); look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    analyser.getFloatTimeDomainData(samples);
  }
  const spectrum = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(spectrum);
  const peak = spectrum.indexOf(Math.max(...spectrum));
  const rms = Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
  const hertz = (peak * context.sampleRate) / analyser.fftSize;
  analyser.disconnect();
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
