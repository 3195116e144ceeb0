"""Ask the host's root helper for a restart: one line there, one line back."""

from __future__ import annotations

import socket

from voiceops.errors import LockedError, ServiceError

_WITHIN_S = 30.0
"""More than the helper's own deadline."""
_ANSWER_BYTES = 1000


def ask_for_restart(address: str, unit: str) -> None:
    """Have systemd restart ``unit``; returns before it is ready.

    ``LockedError`` while somebody holds the host's lock; ``ServiceError`` where the helper refuses or does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_WITHIN_S)
            connection.connect(address)
            connection.sendall(f"restart {unit}\n".encode())
            answer = _line(connection)
    except OSError as error:
        raise ServiceError(
            f"the helper that restarts units does not answer: {error.strerror or error}"
        ) from None
    verdict, _, rest = answer.partition(" ")
    if verdict == "locked":
        raise LockedError(f"{rest} holds the host's lock", data={"owner": rest})
    if verdict != "ok":
        raise ServiceError(f"{unit} was not restarted: {rest or 'no answer'}")


def _line(connection: socket.socket) -> str:
    data = b""
    while b"\n" not in data and len(data) <= _ANSWER_BYTES:
        piece = connection.recv(_ANSWER_BYTES)
        if not piece:
            break
        data += piece
    return data.decode(errors="replace").strip()
