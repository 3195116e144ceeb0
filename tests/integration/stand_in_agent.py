"""A stand-in for an agent on a test host: tells systemd and /health what agentkit would, counts signals.

Drains while ``calls-INSTANCE`` exists in its state folder. With ``lingers-INSTANCE`` it takes its time to end afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from types import FrameType

HEALTH = os.environ["VOICEOPS_HEALTH_SOCKET"]
STATE = os.environ["HOME"]
NAME = os.path.basename(os.path.dirname(HEALTH)).partition("-")[2]
stop = threading.Event()
signals = 0


def told(_number: int, _frame: FrameType | None) -> None:
    global signals
    signals += 1
    with open(f"{STATE}/signals-{NAME}", "w") as file:
        file.write(str(signals))
    stop.set()


def tell(line: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(line.encode(), os.environ["NOTIFY_SOCKET"])


def calls() -> int:
    return int(os.path.exists(f"{STATE}/calls-{NAME}"))


def serve() -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(HEALTH)
    server.listen()
    while True:
        client, _ = server.accept()
        client.recv(4096)
        document = {
            "registered": True,
            "draining": stop.is_set(),
            "calls": calls(),
            "worker_id": f"AW_{os.getpid()}",
        }
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(document).encode())
        client.close()


signal.signal(signal.SIGTERM, told)
threading.Thread(target=serve, daemon=True).start()
if os.path.exists(f"{STATE}/broken"):
    time.sleep(0.3)
    raise SystemExit("the model file is missing")
tell("READY=1\nSTATUS=registered, 0 calls")
while not stop.wait(1):
    tell("WATCHDOG=1")
tell("STOPPING=1")
while calls():
    time.sleep(0.02)
    tell("WATCHDOG=1")
if os.path.exists(f"{STATE}/lingers-{NAME}"):
    os.unlink(HEALTH)
    time.sleep(3)
