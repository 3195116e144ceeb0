"""A network cable with a delay, for kernels without netem: relays frames between an interface and a bridge.

Run as ``python delay_line.py INTERFACE TAP BRIDGE SECONDS``; takes INTERFACE out of BRIDGE, puts TAP in
its place, prints ``ready`` and relays until its standard input ends (so it dies with its parent).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial

ETH_P_ALL = 3
TUNSETIFF = 0x400454CA
IFF_TAP_NO_PI = 0x0002 | 0x1000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
FRAME_LIMIT = 65_550
QUEUE_LIMIT = 20_000
"""Frames on the way; more are dropped, as a router would."""


def no_transmit_offload(interface: str) -> None:
    """Make the kernel complete checksums and segments: frames that pass through user space need both."""
    import ctypes

    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCETHTOOL, request)


def open_tap(name: str) -> int:
    """A TAP device of that name; it vanishes with the descriptor."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TAP_NO_PI))
    return tap


def relay(wire: socket.socket, tap: int, delay_s: float) -> None:
    """Pass frames both ways, each ``delay_s`` late, until standard input ends."""
    queue: deque[tuple[float, Callable[[bytes], object], bytes]] = deque()
    readers: dict[int, tuple[Callable[[], bytes], Callable[[bytes], object]]] = {
        wire.fileno(): (lambda: wire.recv(FRAME_LIMIT), lambda frame: os.write(tap, frame)),
        tap: (lambda: os.read(tap, FRAME_LIMIT), wire.send),
    }
    poll = select.poll()
    for descriptor in (0, *readers):
        poll.register(descriptor, select.POLLIN)
    while True:
        wait_ms = None if not queue else max(0.0, (queue[0][0] - time.monotonic()) * 1000)
        for descriptor, _events in poll.poll(wait_ms):
            if descriptor == 0:
                return
            receive, forward = readers[descriptor]
            frame = _or_nothing(receive)
            if frame and len(queue) < QUEUE_LIMIT:
                queue.append((time.monotonic() + delay_s, forward, frame))
        while queue and queue[0][0] <= time.monotonic():
            _due, forward, frame = queue.popleft()
            _or_nothing(partial(forward, frame))


def _or_nothing(operation: Callable[[], object]) -> bytes:
    """A frame lost on a full queue or a cut cable is what networks do; other errors are ours."""
    try:
        result = operation()
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.ENOBUFS, errno.ENETDOWN, errno.EIO, errno.EMSGSIZE}:
            raise
        return b""
    return result if isinstance(result, bytes) else b""


def main(interface: str, tap_name: str, bridge: str, delay_s: float) -> None:
    tap = open_tap(tap_name)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.bind((interface, 0))
    # Without this the socket would hand our own frames back to us.
    wire.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
    wire.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex(interface), 1, 0, b""))  # promiscuous
    wire.setblocking(False)
    for arguments in ([interface, "nomaster"], [tap_name, "master", bridge], [tap_name, "up"]):
        subprocess.run(["ip", "link", "set", *arguments], check=True)
    print("ready", flush=True)
    relay(wire, tap, delay_s)


if __name__ == "__main__":
    if sys.argv[1] == "--no-offload":
        no_transmit_offload(sys.argv[2])
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
