"""A real Chromium without a window, driven by its own DevTools protocol: no driver has to be installed for it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import math
import os
import shutil
import signal
import tempfile
import wave
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import parts

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests run as root
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
    "--window-size=1280,800",
)
_UP_S = 20.0
_COMMAND_S = 20.0


def tone_file(path: Path, *, hertz: int, seconds: float = 2.0, rate: int = 48_000) -> Path:
    """Write a WAV file that the fake microphone repeats."""
    samples = (
        int(8000 * math.sin(2 * math.pi * hertz * index / rate)) for index in range(int(rate * seconds))
    )
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(array("h", samples).tobytes())
    return path


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self.target = target

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command to the tab."""
        return await self._browser.send(method, session=self._session, **parameters)

    async def open(self, url: str, ready: str = "document.documentElement.dataset.phase === 'idle'") -> None:
        """Load a page, and wait until its modules have made ``ready`` true."""
        await self.navigate(url)
        await self.wait(ready, 30)

    async def navigate(self, url: str) -> None:
        """Begin to load a page."""
        await self.send("Page.navigate", url=url)

    async def evaluate(self, expression: str, *, gesture: bool = False) -> Any:
        """The value of an expression in the page, awaited; ``gesture``: as if in a click."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=gesture,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def wait(self, expression: str, timeout_s: float = 10.0) -> float:
        """Wait until an expression is true; how many seconds that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                if await self.evaluate(f"(async () => !!(await ({expression})))()"):
                    return loop.time() - began
            except AssertionError:
                pass  # while the page is being loaded
            if loop.time() - began > timeout_s:
                shown = await self.evaluate("document.body ? document.body.innerText : location.href")
                raise AssertionError(
                    f"after {timeout_s:g} s still not {expression}; the page shows:\n{shown}"
                )
            await asyncio.sleep(0.03)

    async def click(self, selector: str) -> None:
        """Click into the middle of an element, as a mouse does."""
        box = await self.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'nearest'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )

    async def press(self, key: str) -> None:
        """Press and release one key."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code="Space" if key == " " else key,
                windowsVirtualKeyCode={"Enter": 13, " ": 32, "Tab": 9}[key],
                text=text if kind == "keyDown" else "",
            )

    async def look(self, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Give the tab a size and a colour scheme."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self) -> bytes:
        """The tab as PNG."""
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def close(self) -> None:
        """Close the tab, as a person does: its pagehide runs."""
        await self._browser.send("Target.closeTarget", targetId=self.target)


class Browser:
    """A running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.console: list[str] = []
        """Errors and violations that pages have logged."""

    async def send(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send one command; its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        return await asyncio.wait_for(self._answers[number], _COMMAND_S)

    async def receive(self) -> None:
        """Take in answers and events until the browser ends."""
        async for message in self._socket:
            document = json.loads(message.data)
            future = self._answers.pop(document.get("id"), None)
            if future is not None and not future.done():
                if "error" in document:
                    future.set_exception(AssertionError(json.dumps(document["error"])))
                else:
                    future.set_result(document["result"])
            elif document.get("method") == "Log.entryAdded":
                entry = document["params"]["entry"]
                if entry["level"] == "error":
                    self.console.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")

    async def page(self) -> Page:
        """Open a tab."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.send("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"], target)
        for domain in ("Page", "Runtime", "Log"):
            await page.send(f"{domain}.enable")
        return page

    async def permit_microphone(self, origin: str, setting: str) -> None:
        """Decide on the microphone for pages of an origin: granted, denied or prompt."""
        await self.send(
            "Browser.setPermission", permission={"name": "microphone"}, setting=setting, origin=origin
        )


@asynccontextmanager
async def chromium(
    flags: Sequence[str] = (), *, without: Sequence[str] = (), preferences: object = None
) -> AsyncIterator[Browser]:
    """Run a Chromium until the block ends; ``without``: flags of ours that it does not get."""
    program = parts.chromium()
    folder = Path(tempfile.mkdtemp(prefix="voiceops-chromium-"))
    if preferences is not None:
        (folder / "Default").mkdir()
        (folder / "Default" / "Preferences").write_text(json.dumps(preferences))
    process = await asyncio.create_subprocess_exec(
        program,
        *(flag for flag in _FLAGS if flag not in without),
        f"--user-data-dir={folder}",
        *flags,
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"HOME": str(folder)},  # it writes there, whatever its own folder is
    )
    try:
        async with aiohttp.ClientSession() as session:
            address = await _address(folder / "DevToolsActivePort")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                browser = Browser(socket)
                receiving = asyncio.ensure_future(browser.receive())
                try:
                    yield browser
                finally:
                    receiving.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _address(file: Path) -> str:
    loop = asyncio.get_running_loop()
    end = loop.time() + _UP_S
    while loop.time() < end:
        lines = _lines(file)
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise AssertionError(f"Chromium did not start within {_UP_S:g} s")


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
