"""The network between a caller and the server cut for 8 s: ``python -m bench.page_cut [--seconds 8]``. Needs root.

The browser has a network namespace of its own, joined to that of the stack by a bridge. Once the cable between bridge and
browser is taken out, which the browser does not see; once its own interface goes down, which it does. Everything on the way
is lost meanwhile: signalling, media, and the page's API. Bar: audible 10 s after it is back.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.page_case import PHASE, Case, back
from bench.page_faults import agent
from tests.support import parts
from tests.support.browser import chromium, tone_file
from tests.support.projects import Project, project

SERVER, CALLER = "10.99.98.1", "10.99.98.2"
BRIDGE, CABLE, INTERFACE = "bridge0", "cable0", "own0"
NETWORK = (
    "link set lo up",
    f"link add {BRIDGE} type bridge",
    f"address add {SERVER}/24 dev {BRIDGE}",
    f"link set {BRIDGE} up",
    # A bridge without any other port has no carrier while the cable is out.
    "link add other0 type veth peer name other1",
    f"link set other0 master {BRIDGE} up",
    "link set other1 up",
    f"link add {CABLE} type veth peer name {INTERFACE}",
    f"link set {CABLE} master {BRIDGE} up",
)
INTERFACE_UP = (f"link set {INTERFACE} up", f"route replace default via {SERVER}")
CUTS = {
    "the cable": ((f"link set {CABLE} nomaster",), (f"link set {CABLE} master {BRIDGE}",), False),
    "its own interface": ((f"link set {INTERFACE} down",), INTERFACE_UP, True),
}
"""How each begins and ends, and whether that is done at the caller's."""
SILENT = 0.003
CLONE_NEWNET = 0x40000000
_INSIDE = "VOICEOPS_BENCH_NAMESPACE"


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in the network of a namespace; processes and sockets made meanwhile stay there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before, open(namespace) as there:
        assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def callers_network() -> Iterator[str]:
    """A namespace with one interface, whose other end is at the bridge."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                time.sleep(0.01)
            namespace = f"/proc/{holder.pid}/ns/net"
            ip([f"link set {INTERFACE} netns {holder.pid}"])
            with inside(namespace):
                ip(["link set lo up", f"address add {CALLER}/24 dev {INTERFACE}", *INTERFACE_UP])
            yield namespace
        finally:
            holder.kill()


def ip(commands: Sequence[str]) -> None:
    """Change the network."""
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)


def change(commands: Sequence[str], namespace: str, *, at_callers: bool) -> None:
    """Change the caller's network, or the stack's."""
    if at_callers:
        with inside(namespace):
            ip(commands)
    else:
        ip(commands)


async def cut(made: Project, name: str, seconds: float, tone: Path, namespace: str) -> str:
    """Call, cut, and wait for the agent's tone."""
    begin, end, at_callers = CUTS[name]
    case = Case(made, tone)
    case.server = case.server.replace("localhost", SERVER)
    flags = (
        f"--use-file-for-fake-audio-capture={tone}",
        f"--unsafely-treat-insecure-origin-as-secure={case.server}",
    )
    opening = chromium(flags)
    with inside(namespace):
        browser = await opening.__aenter__()
    try:
        await browser.permit_microphone(case.server, "granted")
        page = await browser.page()
        await page.open(case.server)
        await case.answered(page)
        await asyncio.sleep(1.2)  # the agent's sign of life has come
        change(begin, namespace, at_callers=at_callers)
        try:
            await asyncio.sleep(seconds)
            seen, level = await page.evaluate(f"[{PHASE}, voiceCall.levels().agent]")
            assert level < SILENT, f"still heard: {level:.3f}"
        finally:
            change(end, namespace, at_callers=at_callers)
        began = time.monotonic()
        await back(page, "voiceCall.state.attempt", 60)
        took, attempt = time.monotonic() - began, await page.evaluate("voiceCall.state.attempt")
        await page.click("#call")
        await page.wait(f"{PHASE} === 'ended'")
        await case.no_room_is_left(30)
    finally:
        await opening.__aexit__(None, None, None)
    return f"{name} out for {seconds:g} s: meanwhile {seen}; audible for good {took:.1f} s after it was back, attempt {attempt}"


def main() -> int:
    """Enter a namespace, and run it there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--count", type=int, default=1)
    given = parser.parse_args()
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "bench.page_cut", *sys.argv[1:]])
    ip(NETWORK)
    with (
        callers_network() as namespace,
        tempfile.TemporaryDirectory() as folder,
        project(Path(folder) / "project", agent(Path(folder))) as made,
    ):
        made.variables["livekit"]["url"] = made.url = made.url.replace("127.0.0.1", SERVER)
        made.variables["services"]["livekit"] |= {"public": True, "node_ip": SERVER}
        origins = [f"http://127.0.0.1:{parts.free_port()}"]
        page = {"kind": "web", "needs": ["livekit"], "port": parts.free_port(), "public": True}
        made.variables["services"]["page"] = page | {"cors_port": parts.free_port(), "origins": origins}
        made.write()
        made.inv("start")
        tone = tone_file(Path(folder) / "tone.wav", hertz=1000)
        for name in CUTS:
            for _ in range(given.count):
                print(asyncio.run(cut(made, name, given.seconds, tone, namespace)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
