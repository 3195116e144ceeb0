"""The dashboard of a server, in a real Chromium: ``python -m bench.ops_server [--picture FILE]``. Needs root and Debian.

Deploys LiveKit, an agent, the page and a monitor to a fresh test host, opens `inv open --ops --host NAME`, kills the agent on the
host, and restarts it by the dashboard's button.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.page import AGENT
from tests.support import hosts, parts
from tests.support.browser import Page, chromium
from tests.support.servers import PROJECT, Servers, agent_servers

STATE = "document.querySelector('#services tr[data-key$=\"/NAME\"] td')?.textContent"
ACTIONS = "document.getElementById('actions').innerText"


def deployed(folder: Path, machine: hosts.Machine) -> Servers:
    """The stack on the host, with a monitor that looks each second."""
    web = {"kind": "web", "needs": ["livekit"]}
    servers = agent_servers(folder, [machine], AGENT, web=web, monitor={"kind": "monitor"})
    servers.variables["monitor"] = {"interval_s": 1}
    servers.write()
    servers.deploy(timeout_s=400)
    return servers


@asynccontextmanager
async def dashboard(servers: Servers, name: str) -> AsyncIterator[str]:
    """Serve it as a user would; its address."""
    command = [
        sys.executable,
        "-m",
        "voiceops",
        "--project",
        str(servers.folder),
        "open",
        "--ops",
        "--host",
        name,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, "--json", cwd=servers.folder, env=servers.environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield json.loads(await asyncio.wait_for(process.stdout.readuntil(b"\n}\n"), 60))["url"]
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0, process.returncode


async def restarted(page: Page, service: str) -> float:
    """Restart a service by its button; how long until the dashboard says that it is done."""
    began = time.monotonic()
    await page.click(f"button[data-service='{service}']")
    print("asks:", (await page.evaluate("document.getElementById('confirm').innerText")).replace("\n", " | "))
    await page.click("#confirm-yes")
    await page.wait(f"/restart {service} on .*: done/.test({ACTIONS})", 90)
    return time.monotonic() - began


async def drive(servers: Servers, machine: hosts.Machine, picture: str) -> None:
    """What an operator does at night."""
    async with dashboard(servers, machine.name) as url, chromium() as browser:
        page = await browser.page()
        began = time.monotonic()
        await page.open(url, ready="document.querySelectorAll('#services tr').length === 4")
        print(f"services shown after {time.monotonic() - began:.2f} s")
        await page.wait(f"{STATE.replace('NAME', 'agent')} === 'ready'", 30)
        machine.shell(f"systemctl kill -s KILL '{PROJECT}-agent@*'")
        began = time.monotonic()
        await page.wait(f"{STATE.replace('NAME', 'agent')} !== 'ready'", 30)
        print(f"the agent's death is shown after {time.monotonic() - began:.2f} s")
        await page.wait(f"{STATE.replace('NAME', 'agent')} === 'ready'", 60)
        print(f"it is ready again after {time.monotonic() - began:.2f} s")
        await page.wait("document.querySelectorAll('#incidents li').length > 0", 60)
        print(f"the incident of the host's monitor is shown after {time.monotonic() - began:.2f} s")
        print(f"restart of the agent: {await restarted(page, 'agent'):.1f} s")
        print(f"restart of the page: {await restarted(page, 'web'):.1f} s")
        await page.click("#cleanup")
        await page.click("#confirm-yes")
        await page.wait(f"/clean up rooms on .*: done/.test({ACTIONS})", 60)
        await page.wait(
            "/^\\d+ finding|^No fault/.test(document.getElementById('findings-note').textContent)", 60
        )
        print(await page.evaluate("document.body.innerText"))
        if picture:
            await page.look(width=1280, height=1100)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(Path(picture).write_bytes, await page.screenshot())
        assert browser.console == [], browser.console


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", default="")
    options = parser.parse_args()
    parts.chromium()
    with tempfile.TemporaryDirectory() as name, hosts.cluster(1) as (machine,):
        servers = deployed(Path(name) / "servers", machine)
        asyncio.run(drive(servers, machine, options.picture))
        print((servers.folder / ".voiceops" / "audit.log").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
