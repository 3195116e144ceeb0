"""A real Firefox without a window, driven by WebDriver BiDi: Firefox speaks it itself, so no driver is needed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import parts
from tests.support.browser import Page

_PREFERENCES: Mapping[str, object] = {
    "media.navigator.streams.fake": True,
    "media.navigator.audio.fake_frequency": 1000,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "extensions.update.enabled": False,
    "browser.safebrowsing.update.enabled": False,
}
_LISTENING = "WebDriver BiDi listening on "
_UP_S = 60.0
_COMMAND_S = 30.0


class FirefoxPage(Page):
    """One tab; what ``Page`` builds on expressions works as it is."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self._firefox = firefox
        self.target = context

    async def navigate(self, url: str) -> None:
        await self._firefox.send("browsingContext.navigate", context=self.target, url=url, wait="none")

    async def evaluate(self, expression: str, *, gesture: bool = False) -> Any:
        """The value of an expression in the page, awaited; ``gesture``: as if in a click."""
        answer = await self._firefox.send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({expression})))()",
            target={"context": self.target},
            awaitPromise=True,
            userActivation=gesture,
        )
        if answer["type"] == "exception":
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        value = answer["result"].get("value")
        return None if value is None else json.loads(value)

    async def click(self, selector: str) -> None:
        """Click into the middle of an element, as a mouse does."""
        await self.evaluate(
            f"void document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})"
        )
        found = await self._firefox.send(
            "browsingContext.locateNodes", context=self.target, locator={"type": "css", "value": selector}
        )
        origin = {"type": "element", "element": {"sharedId": found["nodes"][0]["sharedId"]}}
        await self._firefox.send(
            "input.performActions",
            context=self.target,
            actions=[
                {
                    "type": "pointer",
                    "id": "mouse",
                    "actions": [
                        {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
                        {"type": "pointerDown", "button": 0},
                        {"type": "pointerUp", "button": 0},
                    ],
                }
            ],
        )

    async def close(self) -> None:
        """Close the tab, as a person does: its pagehide runs."""
        await self._firefox.send("browsingContext.close", context=self.target)


class Firefox:
    """A running Firefox."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.console: list[str] = []
        """Errors that pages have logged."""

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command; its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._answers[number], _COMMAND_S)

    async def receive(self) -> None:
        """Take in answers and events until the browser ends."""
        async for message in self._socket:
            document = json.loads(message.data)
            future = self._answers.pop(document.get("id"), None)
            if future is not None and not future.done():
                if document["type"] == "error":
                    future.set_exception(AssertionError(json.dumps(document)[:2000]))
                else:
                    future.set_result(document["result"])
            elif document.get("method") == "log.entryAdded" and document["params"]["level"] == "error":
                self.console.append(str(document["params"]["text"]))

    async def page(self) -> FirefoxPage:
        """Open a tab."""
        return FirefoxPage(self, (await self.send("browsingContext.create", type="tab"))["context"])


@asynccontextmanager
async def firefox(
    preferences: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Firefox]:
    """Run a Firefox until the block ends; its microphone plays 1000 Hz, and every page may have it."""
    program = parts.firefox()
    folder = Path(tempfile.mkdtemp(prefix="voiceops-firefox-"))
    lines = (
        f"user_pref({json.dumps(name)}, {json.dumps(value)});"
        for name, value in {**_PREFERENCES, **(preferences or {})}.items()
    )
    (folder / "user.js").write_text("\n".join(lines))
    process = await asyncio.create_subprocess_exec(
        program,
        *("--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"),
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
        env=os.environ | {"HOME": str(folder)} | dict(environment or {}),
    )
    try:
        address = await asyncio.wait_for(_address(process), _UP_S)
        draining = asyncio.ensure_future(_drain(process))
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{address}/session", max_msg_size=0) as socket,
        ):
            browser = Firefox(socket)
            receiving = asyncio.ensure_future(browser.receive())
            try:
                await browser.send("session.new", capabilities={})
                await browser.send("session.subscribe", events=["log.entryAdded"])
                yield browser
            finally:
                receiving.cancel()
                draining.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _address(process: Process) -> str:
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        said.append(line.decode(errors="replace").strip())
        if _LISTENING in said[-1]:
            return said[-1].partition(_LISTENING)[2]
    raise AssertionError(f"Firefox did not start: {said}")


async def _drain(process: Process) -> None:
    """What it prints is not read by anybody, and a full pipe would stop it."""
    assert process.stderr is not None
    while await process.stderr.read(65536):
        pass
