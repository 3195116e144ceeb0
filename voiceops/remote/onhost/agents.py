"""Ask agents for their health. Whoever answers may be hostile: time, size and place are fixed."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import threading
import time

from voiceops.remote.onhost.processes import ANSWER_BYTES, listeners
from voiceops.remote.onhost.unit_state import instance_of, is_instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from voiceops.remote.messages import UnitState

ANSWER_S = 2.0
"""For a whole answer of an agent, however slowly it drips."""


def agent_health(unit: UnitState, *, server_back: bool = False) -> Any:
    """agentkit's answer, or None: whoever answers may be hostile, so time, size and place are fixed.

    ``server_back``: tell it that its livekit-server has restarted, so that it does not wait before its next try.

    The place follows from the unit's own names, which are root's. The last step of it is the service's, and
    no link there is followed.
    """
    place = health_socket(unit)
    if not place:
        return None
    descriptor = -1
    try:
        descriptor = os.open(place, os.O_PATH | os.O_NOFOLLOW)
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with socket.socket(socket.AF_UNIX) as connection:
            path = "/health?server=back" if server_back else "/health"
            ends_at = time.monotonic() + ANSWER_S
            said = http_answer(connection, f"/proc/self/fd/{descriptor}", path, ends_at) or {}
            kinds = {"calls": int, "rooms": list, "worker_id": str, "registered": bool, "draining": bool}
            return (
                said
                if said and all(isinstance(said.get(name, kind()), kind) for name, kind in kinds.items())
                else None
            )
    except OSError:
        return None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def health_socket(unit: UnitState) -> str:
    """Where an agent answers; it takes that away when its drain is over, before its process ends."""
    folder = runtime_folder(unit)
    return f"{folder}/health" if folder else ""


def gate_file(unit: UnitState) -> str:
    """Where an agent reads the name that it registers until it is proved (``agentkit/proof_gate.py``)."""
    folder = runtime_folder(unit)
    return f"{folder}.gate" if folder else ""


def runtime_folder(unit: UnitState) -> str:
    """The folder in /run of an agent's instance; empty for other units."""
    mark = re.search(r"(?:^|\s)VOICEOPS_UNIT=([^/\s]+)/(\S+)", unit["environment"])
    return f"/run/{mark[1]}/{mark[2]}-{instance_of(unit['unit'])}" if mark and is_instance(unit) else ""


def close_gate(unit: UnitState, name: str) -> None:
    """Have the agent that starts next in this unit register that name; empty: its own.

    With ``share 0.1`` instead one that runs takes that share of new calls (``agentkit/proof_gate.py``).
    """
    path = gate_file(unit)
    if not path:
        return
    if not name:
        open_gate(unit)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w") as file:
        os.fchmod(descriptor, 0o644)
        file.write(name)
    os.rename(f"{path}.new", path)


def open_gate(unit: UnitState) -> None:
    """Let the agent register its own name."""
    path = gate_file(unit)
    if path and os.path.lexists(path):
        os.unlink(path)


def drain_note(unit: UnitState) -> str:
    """Where a signal to a livekit-server is noted: a second one would end its calls, and systemd knows of neither."""
    mark = re.search(r"(?:^|\s)VOICEOPS_UNIT=([^/\s]+)/(\S+)", unit["environment"])
    return f"/run/{mark[1]}/{mark[2]}.draining" if mark and not is_instance(unit) else ""


def told_to_drain(unit: UnitState) -> bool:
    """Whether this run of the unit has been told to end with its last participant."""
    try:
        with open(drain_note(unit)) as file:
            return file.read(100) == unit["invocation"]
    except OSError:
        return False


def http_answer(connection: socket.socket, address: Any, path: str, ends_at: float) -> Any:
    """The JSON object that ``GET path`` brings, or None unless all of it comes in time and within bounds."""
    data = b""
    try:
        connection.settimeout(max(0.001, ends_at - time.monotonic()))
        connection.connect(address)
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while len(data) <= ANSWER_BYTES:
            connection.settimeout(max(0.001, ends_at - time.monotonic()))
            piece = connection.recv(65536)
            if not piece:
                # Older Pythons take minutes for a number of a million digits.
                found = json.loads(data.partition(b"\r\n\r\n")[2], parse_int=lambda text: int(text[:18]))
                return found if isinstance(found, dict) else None
            data += piece
    except (OSError, ValueError, RecursionError):
        pass  # no answer that makes sense: as good as none
    return None


def add_healths(asked: list[UnitState]) -> None:
    """Add ``health`` to the units, asked all at once: one that does not answer must not use up the others' time."""

    def ask(unit: UnitState) -> None:
        unit["health"] = agent_health(unit)

    threads = [threading.Thread(target=ask, args=(unit,)) for unit in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def active_jobs(pid: int, ends_at: float) -> int | None:
    """``active_jobs`` of a livekit-agents worker: left out at 0, a float otherwise; None: it does not answer."""
    for port, owner in listeners(None):
        if owner == pid and time.monotonic() < ends_at:
            with socket.socket() as connection:
                found = http_answer(connection, ("127.0.0.1", port), "/worker", ends_at)
            active = found.get("active_jobs", 0) if found else None
            if isinstance(active, (int, float)) and 0 <= active < 1e6:
                return int(active)
    return None
