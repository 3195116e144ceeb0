"""A browser's call over https and wss through the Caddy of a server: ``python -m bench.page_tls``. Needs root and Debian.

Deploys LiveKit, an agent, the page and a Caddy with its own CA to a fresh test host, checks its certificate against that
CA, and places a call from a real Chromium.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.page import AGENT
from bench.page_case import HEARD, PHASE
from tests.support import hosts, parts
from tests.support.browser import chromium, tone_file
from tests.support.hosts_packages import add_repository
from tests.support.servers import PROJECT, Servers, agent_servers

DOMAIN = "voice.test"
CERTIFICATES = f"/var/lib/{PROJECT}/caddy/certificates"


def deployed(folder: Path, machine: hosts.Machine) -> Servers:
    """The stack on the host; a second deploy has to change nothing."""
    add_repository(machine, "caddy")
    page = {"kind": "web", "needs": ["livekit"]}
    caddy = {"kind": "caddy", "needs": ["page", "livekit"], "domain": DOMAIN, "tls": "internal"}
    servers = agent_servers(folder, [machine], AGENT, page=page, caddy=caddy)
    servers.variables["deploy"]["packages"] = ["caddy"]
    servers.write()
    began = time.monotonic()
    servers.deploy(timeout_s=400)
    print(f"deployed in {time.monotonic() - began:.1f} s")
    assert servers.deploy(timeout_s=200)["changed_count"] == 0
    return servers


def trusted(machine: hosts.Machine, root: Path) -> None:
    """The certificate is one of that CA, for that name; the page answers, and its dashboard does not."""
    root.write_text(machine.shell(f"cat {CERTIFICATES}/pki/authorities/local/root.crt").stdout)
    base = ["curl", "-sS", "--cacert", str(root), "--resolve", f"{DOMAIN}:443:{machine.address}"]
    for path, wanted in (("/health", "200"), ("/ops", "404"), ("/metrics", "403")):
        asked = [*base, "-o", "/dev/null", "-w", "%{http_code}", f"https://{DOMAIN}{path}"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert answer == wanted, (path, answer)
        print(f"https://{DOMAIN}{path}: {answer}")


def pin_of(machine: hosts.Machine) -> str:
    """The hash of the server's public key, which Chromium is told to accept."""
    text = machine.shell(f"cat {CERTIFICATES}/certificates/local/{DOMAIN}/{DOMAIN}.crt").stdout
    public = subprocess.run(
        ["openssl", "x509", "-pubkey", "-noout"], input=text, capture_output=True, text=True, check=True
    ).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "der"],
        input=public.encode(),
        capture_output=True,
        check=True,
    ).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


async def call(machine: hosts.Machine, folder: Path) -> None:
    """Place a call; the agent's tone has to be heard."""
    tone = tone_file(folder / "tone.wav", hertz=1000)
    flags = [
        f"--use-file-for-fake-audio-capture={tone}",
        f"--host-resolver-rules=MAP {DOMAIN} {machine.address}",
        f"--ignore-certificate-errors-spki-list={pin_of(machine)}",
    ]
    async with chromium(flags) as browser:
        await browser.permit_microphone(f"https://{DOMAIN}", "granted")
        page = await browser.page()
        await page.open(f"https://{DOMAIN}")
        began = time.monotonic()
        await page.click("#call")
        await page.wait(f"{PHASE} === 'in-call'", 30)
        await page.wait(HEARD, 20)
        print(f"the agent is heard {time.monotonic() - began:.1f} s after the click")
        url = str(await page.evaluate("voiceCall.attempt.room.engine.client.ws.url"))
        assert url.startswith(f"wss://{DOMAIN}/rtc"), url.split("?")[0]
        await page.click("#call")
        await page.wait(f"{PHASE} === 'ended'")
        assert browser.console == [], browser.console


def main() -> int:
    """Run it."""
    parts.chromium()
    with tempfile.TemporaryDirectory() as name, hosts.cluster(1) as (machine,):
        folder = Path(name)
        servers = deployed(folder / "servers", machine)
        trusted(machine, folder / "root.crt")
        asyncio.run(call(machine, folder))
        journal = machine.shell(f"journalctl -o cat -u {PROJECT}-caddy -u {PROJECT}-page").stdout
        assert "access_token" not in journal, journal
        owner = machine.shell(f"stat -c '%a %U' {CERTIFICATES}/pki/authorities/local/root.key").stdout.strip()
        status = servers.inv("status", "--group", "servers", "--json").json["hosts"][machine.name]
        states = {name: one["state"] for name, one in status["services"].items()}
        print(json.dumps({"ca_key": owner, "states": states}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
