"""The conversation with the controller: frames out, blobs in.

A frame is one line of JSON behind a mark that the controller chose at random, so that what
the rc files of a shell print can neither break nor fake one.
"""

from __future__ import annotations

import binascii
import json
import os
import select
import signal
import sys
import threading
import time
import zlib

from voiceops.remote.onhost.base import BEAT_S, Cancel, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHUNK = 1 << 18
PACK_BYTES = 16 * 1024
"""Longer frames are compressed."""


class Channel:
    """Standard input and output of the payload."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self.cancel = Cancel()

    def request(self) -> tuple[str, dict[str, object]]:
        """Read the verb and its request, which follow the program's own text."""
        size = int(self._in.readline() or b"0")
        data = self._in.read(size)
        if not size or len(data) != size:
            raise Failed("the connection was cut before the request arrived", kind="cancelled")
        verb, request = json.loads(zlib.decompress(data))
        return verb, request

    def note_signals(self) -> None:
        """From now on a signal stops the run before its next step, not in the middle."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self.cancel, "reason", "it was told to end"))

    def send(self, kind: str, value: object) -> None:
        """One frame. A reader that is gone stops the run before its next step, not in the middle."""
        text = json.dumps([kind, value])
        if len(text) > PACK_BYTES:  # logs repeat themselves
            text = json.dumps(["packed", binascii.b2a_base64(zlib.compress(text.encode())).decode()])
        line = f"\n{self._mark}{text}\n".encode()
        with self._writing:
            try:
                self._out.write(line)
                self._out.flush()
            except (BrokenPipeError, ConnectionResetError):
                self.cancel.reason = "the connection to the controller was cut"

    def receive(self, needs: list[dict[str, Any]], sink: Callable[[str, int], Any]) -> None:
        """Ask for blobs; hand each, piece by piece, to ``sink(sha256, bytes to come)``."""
        with self._reading:  # before asking: the watcher must not eat the answer's first byte
            self.send("need", needs)
            for need in needs:
                head = json.loads(self._in.readline() or b"{}")
                if "length" not in head:
                    raise Failed(
                        head.get("error", "the connection was cut during an upload"), kind="cancelled"
                    )
                left = head["length"]
                with sink(need["sha256"], left) as write:
                    while left:
                        data = self._in.read(min(CHUNK, left))
                        if not data:
                            raise Failed("the connection was cut during an upload", kind="cancelled")
                        write(data)
                        left -= len(data)

    def check(self) -> None:
        """Notice a cut connection while nobody watches."""
        if select.select([0], [], [], 0)[0] and not os.read(0, 1):
            self.cancel.reason = "the connection to the controller was cut"
        self.cancel.check()

    def stay(self, seconds: float, renew: Callable[[], None]) -> None:
        """Keep the lock until the controller hangs up, as it does when it dies."""
        ends_at = time.monotonic() + seconds
        beat_at = time.monotonic() + BEAT_S
        while not self.cancel.reason and time.monotonic() < ends_at:
            if self._reading.acquire(timeout=0.05):
                try:
                    if select.select([0], [], [], 0.2)[0] and not os.read(0, 1):
                        return
                finally:
                    self._reading.release()
            if time.monotonic() >= beat_at:
                beat_at += BEAT_S
                renew()

    def watch(self, renew: Callable[[], None]) -> None:
        """From now on: heartbeats, lease renewal, and noticing that the controller is gone."""
        threading.Thread(target=self._watch, args=(renew,), daemon=True).start()

    def _watch(self, renew: Callable[[], None]) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        beat_at = time.monotonic() + BEAT_S
        while not self.cancel.reason:
            if self._reading.acquire(timeout=0.2):
                try:
                    if poll.poll(200) and not os.read(0, 1):
                        self.cancel.reason = "the connection to the controller was cut"
                finally:
                    self._reading.release()
                time.sleep(0.05)  # lets the main thread have the lock when it asks for a blob
            if time.monotonic() >= beat_at:
                beat_at += BEAT_S
                self.send("beat", None)
                renew()
