"""sd_notify: tells whoever started this process what it is doing.

The protocol is systemd's (``sd_notify(3)``): datagrams to the socket named by
``NOTIFY_SOCKET``. The process backend of voiceops listens to the same protocol. The
listener may be gone at any time (the starter ended): telling nobody is never an error.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends state to ``NOTIFY_SOCKET``; does nothing where there is none.

    Every method returns whether somebody received the message, and never raises or
    blocks. ``ready()`` may be called again: systemd ignores the repetition.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_interval_s(environment)
        """Seconds between two ``WATCHDOG=1`` that the listener asked for, or None."""

    def ready(self, status: str = "") -> bool:
        """The service can do its job."""
        return self._send("READY=1", *_status(status))

    def status(self, status: str) -> bool:
        """One line for people."""
        return self._send(*_status(status))

    def alive(self) -> bool:
        """Feed the watchdog."""
        return self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """The service ends (for an agent: it drains)."""
        return self._send("STOPPING=1", *_status(status))

    def _send(self, *lines: str) -> bool:
        if not self._address or not lines:
            return False
        # "@name" is the abstract namespace, whose real first byte is NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # A newline would begin another assignment.
    return (f"STATUS={' '.join(text.split())}",) if text else ()


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Half of what ``WATCHDOG_USEC`` allows, as ``sd_watchdog_enabled(3)`` recommends."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return allowed_us / 2_000_000 if allowed_us > 0 else None
