"""The controller's side of the conversation with the payload.

One exec carries payload and desired state. The host answers with its results, or first with
the blobs that it lacks; these travel on the same channel, and the same run goes on.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import secrets
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from voiceops.errors import ConfigError, HostError, LockedError, StorageError, VoiceopsError
from voiceops.ports import RemoteProcess, Transport
from voiceops.remote import payload
from voiceops.resources.report import DISK_HINT, HostReport, read_report
from voiceops.resources.state import State

Event = Callable[[str, Mapping[str, Any]], None]
"""``(kind, data)``: ``step`` {id, changes}, ``upload`` {label, sent, size}, ``waiting`` {owner, reason}."""

CHUNK_BYTES = 1 << 18
SILENCE_S = 30.0
"""The payload gives a sign of life every 5 s."""


def default_owner() -> str:
    """Who holds a lock, for those who meet it."""
    return f"{getpass.getuser()}@{socket.gethostname()} (pid {os.getpid()})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How a run holds the host's lock. One token over several runs makes them one deploy."""

    owner: str = field(default_factory=default_owner)
    reason: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    lease_s: float = 60.0
    """How long the lock stays after a run, or after the death of its owner, when it is held on."""
    hold: bool = False
    """Keep the lock for the next run of the same token."""
    wait_s: float = 0.0
    """How long to wait for somebody else's lock."""

    def as_json(self, **more: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | more


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A read-only look at more of the host in the same exec: ``program`` defines ``look(request)``."""

    program: str
    request: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        version = hashlib.sha256(self.program.encode()).hexdigest()[:12]
        return {"program": self.program, "version": version, "request": dict(self.request)}


def apply(
    transport: Transport,
    state: State,
    *,
    lease: Lease | None = None,
    diff: bool = False,
    on_event: Event | None = None,
    silence_s: float = SILENCE_S,
) -> HostReport:
    """Bring the host to ``state``. Safe to call again at any time, also after a run that was cut off.

    A resource that fails is in the report, not raised. Raises ``LockedError`` (somebody else is at
    it), ``UnreachableError``, ``HostError`` (no usable Python, newer state), ``StorageError``.
    """
    request = state.request("apply", diff=diff, lock=(lease or Lease()).as_json())
    done = _Conversation(transport, state, on_event, silence_s).hold(request)
    return read_report(transport.name, state, done)


@contextlib.contextmanager
def applied(
    transport: Transport,
    state: State,
    *,
    lease: Lease,
    stay_s: float,
    look: Look | None = None,
    diff: bool = False,
    on_event: Event | None = None,
    silence_s: float = SILENCE_S,
) -> Iterator[HostReport]:
    """``apply``, and the host stays locked until the block ends, this process dies, or ``stay_s`` is over."""
    request = state.request(
        "apply", diff=diff, lock=lease.as_json(), stay_s=stay_s, **({"look": look.as_json()} if look else {})
    )
    with _Conversation(transport, state, on_event, silence_s).holding(request) as done:
        yield read_report(transport.name, state, done)


def check(
    transport: Transport,
    state: State,
    *,
    diff: bool = False,
    look: Look | None = None,
    silence_s: float = SILENCE_S,
) -> HostReport:
    """What ``apply`` would do, as far as the host can know without doing it. Changes nothing."""
    request = state.request("check", diff=diff, **({"look": look.as_json()} if look else {}))
    done = _Conversation(transport, state, None, silence_s).hold(request)
    return read_report(transport.name, state, done)


def read_facts(transport: Transport, project: str) -> dict[str, Any]:
    """Python, architecture and system of the host, and under ``lease`` who holds its lock."""
    state = State(project, ())
    done = _Conversation(transport, state, None, SILENCE_S).hold(state.request("facts"))
    return {**done["facts"], "lease": done["lease"]}


@contextlib.contextmanager
def locked(transport: Transport, project: str, lease: Lease, *, stay_s: float) -> Iterator[None]:
    """Hold the host's lock until the block ends, this process dies, or ``stay_s`` is over."""
    state = State(project, ())
    request = state.request("lock", lock=lease.as_json(), stay_s=stay_s)
    with _Conversation(transport, state, None, SILENCE_S).holding(request):
        yield


def take_lock(transport: Transport, project: str, lease: Lease) -> None:
    """Hold the lock without a run; ``LockedError`` names who has it."""
    _lock(transport, project, lease.as_json(hold=True))


def release_lock(transport: Transport, project: str, *, token: str = "", force: bool = False) -> None:
    """Let go of a lock held by ``token``; with ``force``, of anybody's that no run is using."""
    _lock(transport, project, Lease(token=token or secrets.token_hex(8)).as_json(force=force))


def _lock(transport: Transport, project: str, lock: Mapping[str, Any]) -> None:
    state = State(project, ())
    _Conversation(transport, state, None, SILENCE_S).hold(state.request("lock", lock=lock))


class _Conversation:
    def __init__(self, transport: Transport, state: State, on_event: Event | None, silence_s: float) -> None:
        self._transport = transport
        self._state = state
        self._on_event = on_event or (lambda kind, data: None)
        self._silence_s = silence_s
        self._mark = f"@@{secrets.token_hex(8)}:"
        self._buffer = b""

    def hold(self, request: bytes) -> dict[str, Any]:
        """Send the request, serve what the host asks for, and return its answer."""
        with self.holding(request) as answer:
            return answer

    @contextlib.contextmanager
    def holding(self, request: bytes) -> Iterator[dict[str, Any]]:
        """The same, and the line stays open until the block ends."""
        place = f"{self._state.folder}/payload-{payload.version()}"
        argv = ["python3", "-ISc", f"exec({payload.BOOT!r})", self._mark, place]
        with contextlib.closing(self._transport.start(argv, root=True)) as process:
            process.write(payload.packed() + request)
            yield self._answer(process)

    def _answer(self, process: RemoteProcess) -> dict[str, Any]:
        while True:
            kind, value = self._frame(process)
            if kind == "done":
                answer: dict[str, Any] = value
                return answer
            if kind == "error":
                raise self._error(value)
            if kind == "need":
                self._upload(process, value)
            elif kind != "beat":
                self._on_event(kind, value)

    def _frame(self, process: RemoteProcess) -> tuple[str, Any]:
        """The next frame; what shells print around frames is dropped."""
        mark = self._mark.encode()
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                at = line.find(mark)
                if at >= 0:
                    kind, value = json.loads(line[at + len(mark) :])
                    return kind, value
                continue
            data = process.read(self._silence_s)
            if not data:
                raise self._ended(process)
            self._buffer += data

    def _ended(self, process: RemoteProcess) -> VoiceopsError:
        """The process is gone without an answer: say why as well as its end tells."""
        ended = process.wait()
        tail = tuple(ended.stderr.decode("utf-8", "replace").splitlines()[-10:])
        name = self._transport.name
        if ended.exit_code == 127:
            return HostError(
                f"{name}: python3 is not installed",
                hint=f"run `inv setup --host {name}`, or install Python 3.9 or newer there",
                log_tail=tail,
                data={"host": name, "lacks": "python3"},
            )
        return HostError(
            f"{name}: the payload ended without an answer (exit {ended.exit_code})",
            hint="run again: what was left half done is finished then",
            log_tail=tail,
            retryable=True,
            data={"host": name, "exit_code": ended.exit_code},
        )

    def _upload(self, process: RemoteProcess, needs: list[dict[str, Any]]) -> None:
        for need in needs:
            content = self._state.contents[need["sha256"]]
            size, sent = need["size"], need["have"]
            with content.open() as file:
                if sent and _begins(file, sent) != need["begins"]:
                    sent = 0
                file.seek(sent)
                process.write(b'{"length":%d}\n' % (size - sent))
                while sent < size:
                    data = file.read(min(CHUNK_BYTES, size - sent))
                    if not data:
                        raise StorageError(f"{content.label} shrank while it was being sent", retryable=True)
                    process.write(data)
                    sent += len(data)
                    self._on_event("upload", {"label": content.label, "sent": sent, "size": size})

    def _error(self, value: Mapping[str, Any]) -> VoiceopsError:
        name, kind, message = self._transport.name, value["kind"], value["message"]
        data = {"host": name}
        log = tuple(value.get("log", ()))
        if kind == "locked":
            holder = json.loads(message)
            reason = f" ({holder['reason']})" if holder.get("reason") else ""
            return LockedError(
                f"{name}: locked by {holder['owner']}{reason}",
                hint=f"wait for it, or `inv unlock --host {name}` if it is nobody's any more",
                data=data | {"owner": holder["owner"], "reason": holder.get("reason", "")},
            )
        if kind == "newer":
            return HostError(f"{name}: {message}", hint="use the newer voiceops that deployed it", data=data)
        if kind == "python":
            return HostError(
                f"{name}: Python {message} is too old; 3.9 or newer is needed",
                hint="install Python 3.10 or newer as `python3` there: agents need it",
                data=data | {"lacks": "python3"},
            )
        if kind == "foreign":
            path = shlex.quote(log[0])
            consent = f"chown root {path} && chmod go-w {path} && touch {path}/.voiceops"
            return ConfigError(
                f"{name}: {message}",
                hint=f"give the project another name or move {path} away; if voiceops may have it: `{consent}` there",
            )
        if kind == "disk-full":
            return StorageError(f"{name}: {message}", hint=DISK_HINT, data=data)
        return HostError(
            f"{name}: {message}", log_tail=log, retryable=kind in ("cancelled", "damaged"), data=data
        )


def _begins(file: BinaryIO, length: int) -> str:
    """The hash of the first ``length`` bytes."""
    digest = hashlib.sha256()
    while length and (data := file.read(min(CHUNK_BYTES, length))):
        digest.update(data)
        length -= len(data)
    return digest.hexdigest()
