"""The network between a browser and LiveKit cut for 8 s: ``python -m bench.page_cut [--seconds 8]``. Needs root.

LiveKit has an address of its own in a network namespace of this bench; the address goes, and comes back. Everything on
the way is lost meanwhile, signalling and media; the page itself stays reachable. Bar: audible 10 s after it is back.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.page_case import PHASE, Case, back, hang_up
from bench.page_faults import agent
from tests.support import parts
from tests.support.browser import tone_file
from tests.support.projects import Project, project

ADDRESS = "10.99.99.9"
NETWORK = (
    "link set lo up",
    # A browser calls from no interface that is loopback.
    "link add own0 type veth peer name own1",
    "address add 10.99.98.1/24 dev own0",
    "link set own0 up",
    "link set own1 up",
    "route add default dev own0",
)
_INSIDE = "VOICEOPS_BENCH_NAMESPACE"


def set_address(verb: str) -> None:
    """Give the namespace LiveKit's address, or take it away."""
    subprocess.run(["ip", "address", verb, f"{ADDRESS}/32", "dev", "lo"], check=True)


async def cut(made: Project, seconds: float, tone: Path) -> str:
    """Call, cut, and wait for the agent's tone."""
    case = Case(made, tone)
    async with case.page() as page:
        await case.answered(page)
        set_address("del")
        try:
            await asyncio.sleep(seconds)
            seen = await page.evaluate(PHASE)
        finally:
            set_address("add")
        began = time.monotonic()
        await back(page, "voiceCall.state.attempt", 60)
        took, attempt = time.monotonic() - began, await page.evaluate("voiceCall.state.attempt")
        await hang_up(case, page)
    return f"cut {seconds:g} s: meanwhile {seen}; audible for good {took:.1f} s after it was back, attempt {attempt}"


def main() -> int:
    """Enter a namespace, and run it there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "bench.page_cut", *sys.argv[1:]])
    for command in NETWORK:
        subprocess.run(["ip", *command.split()], check=True)
    set_address("add")
    with (
        tempfile.TemporaryDirectory() as folder,
        project(Path(folder) / "project", agent(Path(folder))) as made,
    ):
        made.variables["livekit"]["url"] = made.url = made.url.replace("127.0.0.1", ADDRESS)
        made.variables["services"]["livekit"] |= {"public": True, "node_ip": ADDRESS}
        origins = [f"http://127.0.0.1:{parts.free_port()}"]
        page = {"kind": "web", "needs": ["livekit"], "port": parts.free_port(), "origins": origins}
        made.variables["services"]["page"] = page | {"cors_port": parts.free_port()}
        made.write()
        made.inv("start")
        print(asyncio.run(cut(made, given.seconds, tone_file(Path(folder) / "tone.wav", hertz=1000))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
