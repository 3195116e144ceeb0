"""What the page costs a caller, against a bare livekit-client page in the same run, and its API under load.

python -m bench.page calls [--count 20]     click to audible, both pages in turn; bar: p50 at most 1.2 times the bare one's
python -m bench.page tokens [--seconds 30]  200 token requests a second; bars: no error, p95 at most 20 ms, memory flat
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil
from aiohttp import web

from tests.support import parts
from tests.support.browser import Page, chromium, tone_file
from tests.support.live import API_KEY, API_SECRET
from tests.support.projects import Project, project
from voiceops.adapters.binaries.livekit_client import livekit_client
from voiceops.adapters.livekit.token import room_token
from voiceops.model.secret import Secret

ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "tests" / "integration" / "agents" / "page_agent.py"
RATE = 200
BARE = """<!doctype html><script src="/livekit-client.js"></script>
<body><script>document.documentElement.dataset.phase = "idle"</script></body>"""
CALL_BARE = """(async () => {
  const began = performance.now();
  const room = new LivekitClient.Room();
  const context = new AudioContext();
  let analyser = null;
  room.on("trackSubscribed", (track) => {
    document.body.append(track.attach());
    analyser = context.createAnalyser();
    context.createMediaStreamSource(new MediaStream([track.mediaStreamTrack])).connect(analyser);
  });
  await room.connect(URL_, TOKEN);
  void room.localParticipant.setMicrophoneEnabled(true);
  const took = await audible(began, () => analyser);
  await room.disconnect();
  return took;
})()"""
CALL_OURS = """(async () => {
  const began = performance.now();
  document.getElementById("call").click();
  const took = await audible(began, () => voiceCall.meters.agent);
  document.getElementById("call").click();
  return took;
})()"""
AUDIBLE = """globalThis.audible = async (began, analyser) => {
  const samples = new Float32Array(2048);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (!analyser()) continue;
    analyser().getFloatTimeDomainData(samples);
    if (Math.max(...samples) > 0.02) return (performance.now() - began) / 1000;
    if (performance.now() - began > 20000) throw new Error("not audible within 20 s");
  }
}; undefined"""


@contextmanager
def stack() -> Iterator[Project]:
    """LiveKit, the agent with a tone, and the page."""
    with tempfile.TemporaryDirectory() as folder, project(Path(folder) / "project", AGENT) as made:
        port = parts.free_port()
        limits = {"requests_per_minute": 100_000, "requests_per_minute_total": 100_000}
        made.variables["services"]["page"] = {"kind": "web", "needs": ["livekit"], "port": port, **limits}
        made.write()
        made.inv("start")
        yield made


def port_of(made: Project) -> int:
    """The page's port."""
    return int(made.variables["services"]["page"]["port"])


async def bare_page(port: int) -> web.AppRunner:
    """Serve a page that has nothing but livekit-client."""
    app = web.Application()
    client = livekit_client(None, on_progress=print).read_bytes()
    app.router.add_get("/", lambda _: _answer(BARE.encode(), "text/html"))
    app.router.add_get("/livekit-client.js", lambda _: _answer(client, "text/javascript"))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def _answer(body: bytes, kind: str) -> web.Response:
    return web.Response(body=body, content_type=kind)


async def calls(made: Project, count: int) -> None:
    """Place ``count`` calls on each page, in turn."""
    bare_port = parts.free_port()
    runner = await bare_page(bare_port)
    took: dict[str, list[float]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        tone = tone_file(Path(folder) / "tone.wav", hertz=1000)
        async with chromium([f"--use-file-for-fake-audio-capture={tone}"]) as browser:
            places = {"bare": f"http://localhost:{bare_port}", "ours": f"http://localhost:{port_of(made)}"}
            for origin in places.values():
                await browser.permit_microphone(origin, "granted")
            for number in range(count):
                for name in sorted(places, reverse=bool(number % 2)):
                    page = await browser.page()
                    await page.open(places[name])
                    took[name].append(await one_call(page, name, made, number))
                    await asyncio.sleep(1.0)
                    await page.close()
    await runner.cleanup()
    p50 = {name: statistics.median(values) for name, values in took.items()}
    print(json.dumps({"p50_s": p50, "ratio": p50["ours"] / p50["bare"], "all_s": took}))


async def one_call(page: Page, name: str, made: Project, number: int) -> float:
    """Seconds from the click to the agent's tone."""
    await page.evaluate(AUDIBLE)
    token = room_token(Secret(API_KEY), Secret(API_SECRET), f"bare-{number}", "caller", ttl_s=60)
    script = CALL_BARE.replace("URL_", json.dumps(made.url)).replace("TOKEN", json.dumps(token))
    took: float = await page.evaluate(script if name == "bare" else CALL_OURS, gesture=True)
    return took


async def tokens(made: Project, seconds: float) -> None:
    """Renew a token 200 times a second."""
    process = psutil.Process(made.pid("page"))
    base = f"http://127.0.0.1:{port_of(made)}"
    took: list[float] = []
    failed = 0
    memory: list[int] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50)) as session:
        token = room_token(Secret(API_KEY), Secret(API_SECRET), "web-bench", "caller", ttl_s=600)

        async def one() -> None:
            nonlocal failed
            began = time.perf_counter()
            async with session.post(f"{base}/api/token", json={"token": token}) as answer:
                failed += answer.status != 200
                await answer.read()
            took.append(time.perf_counter() - began)

        began, running = time.perf_counter(), []
        for number in range(int(seconds * RATE)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            running.append(asyncio.ensure_future(one()))
            if number % (RATE * 5) == 0:
                memory.append(process.memory_info().rss)
        await asyncio.gather(*running)
    p95 = statistics.quantiles(took, n=20)[-1]
    print(
        json.dumps(
            {"requests": len(took), "failed": failed, "p95_s": p95, "rss_mb": [one // 1e6 for one in memory]}
        )
    )


def main() -> None:
    """Run one of the benches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("calls", "tokens"))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with stack() as made:
        asyncio.run(calls(made, options.count) if options.what == "calls" else tokens(made, options.seconds))


if __name__ == "__main__":
    main()
