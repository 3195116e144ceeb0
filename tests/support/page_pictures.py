"""Pictures of the page in each state: ``python -m tests.support.page_pictures`` writes docs/pictures/page-*.png."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image

from tests.support import parts
from tests.support.browser import Page, chromium
from voiceops.adapters.binaries.livekit_client import livekit_client
from voiceops.model.web import DashboardSettings, WebSettings
from voiceops.web.assets import load_assets
from voiceops.web.server import serving_web

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
STATES: dict[str, dict[str, object]] = {
    "idle": {"phase": "idle"},
    "asking": {"phase": "asking"},
    "connecting": {"phase": "connecting"},
    "waiting": {"phase": "waiting", "failures": 1},
    "in-call": {"phase": "in-call"},
    "reconnecting": {"phase": "reconnecting"},
    "redialling": {"phase": "connecting", "redial": True},
    "retrying": {"phase": "retrying", "failures": 2},
    "no-network": {"phase": "retrying", "reason": "offline"},
    "ended": {"phase": "ended", "reason": "hung-up"},
    "failed": {"phase": "failed", "reason": "timeout"},
    **{
        reason: {"phase": "failed", "reason": reason}
        for reason in (
            "microphone-denied",
            "microphone-missing",
            "microphone-taken",
            "microphone-insecure",
            "microphone-unanswered",
            "too-many",
            "offline",
        )
    },
}
LOOKS = {f"{scheme}-{width}": (scheme, width) for scheme in ("light", "dark") for width in (360, 1280)}
_HEIGHT = 640
_COLUMNS = 4


async def show(page: Page, state: Mapping[str, object]) -> None:
    """Let the page show a state, as if it had come to it."""
    await page.evaluate(
        f"voiceCall.state = {{...voiceCall.state, failures: 0, redial: false, reason: '', ...{json.dumps(state)}}};"
        "voiceCall.dispatchEvent(new Event('state'));"
    )


async def sheet(page: Page, scheme: str, width: int) -> Image.Image:
    """All states in one picture."""
    await page.look(width=width, height=_HEIGHT, dark=scheme == "dark")
    tiles = []
    for state in STATES.values():
        await show(page, state)
        await asyncio.sleep(0.25)  # its colours change over 0.2 s
        tile = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
        tiles.append(tile.resize((tile.width * 360 // width, tile.height * 360 // width)))
    size = (_COLUMNS * tiles[0].width, -(-len(tiles) // _COLUMNS) * max(one.height for one in tiles))
    whole = Image.new("RGB", size, tiles[0].getpixel((0, tiles[0].height - 1)))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, _COLUMNS)
        whole.paste(tile, (column * tile.width, row * size[1] // -(-len(tiles) // _COLUMNS)))
    return whole


@asynccontextmanager
async def page_without_livekit(dashboard: DashboardSettings | None = None) -> AsyncIterator[str]:
    """Serve the page, and the dashboard where it is given; its origin."""
    client = livekit_client(None, on_progress=print)
    nowhere = "ws://127.0.0.1:9"
    settings = WebSettings(
        port=parts.free_port(),
        livekit_url=nowhere,
        browser_url=nowhere,
        client=str(client),
        requests_per_minute=600.0,
        requests_per_minute_total=600.0,
        dashboard=dashboard,
    )
    keys = {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32}
    async with serving_web(settings, keys, load_assets(client)):
        yield f"http://localhost:{settings.port}"


async def main() -> None:
    """Serve the page and take the pictures; no LiveKit is needed."""
    async with page_without_livekit() as origin, chromium() as browser:
        page = await browser.page()
        await page.open(origin)
        await page.wait("document.getElementById('microphone').length > 0")
        for name, (scheme, width) in LOOKS.items():
            picture = await sheet(page, scheme, width)
            picture.quantize(64).save(FOLDER / f"page-{name}.png", optimize=True)


if __name__ == "__main__":
    asyncio.run(main())
