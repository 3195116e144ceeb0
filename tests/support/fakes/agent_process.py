"""Stands in for an agent worker in tests of supervision: the same health, signals and children.

Answers ``GET /health`` like agentkit, sends READY=1, drains on the first SIGTERM and dies of
the second. Environment: FAKE_CALLS (rooms, comma-separated), FAKE_DEAF (ignore the first
SIGTERMs), FAKE_SLOW_S (before it is ready). Real agents are in tests/integration/test_stack_agent.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import FrameType

state = {
    "registered": False,
    "draining": False,
    "calls": 0,
    "rooms": [room for room in os.environ.get("FAKE_CALLS", "").split(",") if room],
    "worker_id": f"AW_{os.getpid()}_{time.monotonic_ns()}",
    "pid": os.getpid(),
}
done = threading.Event()
deaf = int(os.environ.get("FAKE_DEAF", "0"))
calls_file = Path(os.environ.get("FAKE_CALLS_FILE", "/nonexistent"))


class Handler(BaseHTTPRequestHandler):
    """Only /health."""

    def do_GET(self) -> None:
        state["calls"] = len(rooms())
        body = json.dumps(state | {"rooms": rooms()}).encode()
        self.send_response(200 if state["registered"] and not state["draining"] else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        return


def rooms() -> list[str]:
    """FAKE_CALLS until its file is removed."""
    named = [room for room in os.environ.get("FAKE_CALLS", "").split(",") if room]
    return named if "FAKE_CALLS_FILE" not in os.environ or calls_file.exists() else []


def stop(_number: int, _frame: FrameType | None) -> None:
    """Drain; a second signal ends at once, as in livekit-agents."""
    global deaf
    print("got SIGTERM", flush=True)
    if deaf > 0:
        deaf -= 1
        return
    if state["draining"]:
        print("second signal", flush=True)
        os._exit(1)
    state["draining"] = True
    done.set()


def main() -> None:
    """Serve until drained."""
    signal.signal(signal.SIGTERM, stop)
    job = subprocess.Popen(["sleep", "1000"])
    socket_path = os.environ["VOICEOPS_HEALTH_SOCKET"]
    server = ThreadingUnixStreamServer(socket_path, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(float(os.environ.get("FAKE_SLOW_S", "0")))
    state["registered"] = True
    notify = os.environ.get("NOTIFY_SOCKET")
    if notify:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(b"READY=1", notify)
            except OSError as error:  # the command that started us was killed
                print(f"nobody listens: {error}", flush=True)
    print("registered worker", flush=True)
    while not (done.wait(0.02) and not rooms()):
        if done.is_set():
            time.sleep(0.02)
    job.kill()
    job.wait()
    sys.exit(0)


if __name__ == "__main__":
    main()
