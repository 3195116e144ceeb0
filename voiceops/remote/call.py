"""Ask a host to do something: the one way in which programs of ours run there.

One exec carries program and request. The host answers, or first asks for content that it lacks, which
travels on the same channel, and the same run goes on.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import json
import secrets
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from voiceops.errors import ConfigError, HostError, LockedError, StorageError, VoiceopsError
from voiceops.ports import RemoteProcess, Transport
from voiceops.remote import payload
from voiceops.remote.verbs import HostVerb

if TYPE_CHECKING:
    from voiceops.remote.messages import HostRequest

Request = TypeVar("Request", bound="HostRequest")
Answer = TypeVar("Answer")
Event = Callable[[str, Mapping[str, Any]], None]
"""``(kind, data)``: ``step`` {id, changes}, ``upload`` {label, sent, size}, ``waiting`` {owner, reason}."""

CHUNK_BYTES = 1 << 18
SILENCE_S = 30.0
"""Within this time a host answers; while it applies resources, it gives a sign of life every 5 s."""
DISK_HINT = "free space there (`df -h` and `df -i` show where, `du -xh PATH | sort -h` what takes it), then run this again"


class Uploadable(Protocol):
    """Content that a host may ask for."""

    @property
    def open(self) -> Callable[[], BinaryIO]: ...

    @property
    def label(self) -> str: ...


def call(
    transport: Transport,
    verb: HostVerb[Request, Answer],
    request: Request,
    *,
    timeout_s: float = SILENCE_S,
    contents: Mapping[str, Uploadable] | None = None,
    on_event: Event | None = None,
) -> Answer:
    """Ask the host and return its answer; ``timeout_s`` is how long it may be silent.

    ``contents``: what it may ask for, by hash. Raises ``LockedError``, ``StorageError`` (no space there),
    ``UnreachableError``, ``DeadlineError``, and ``HostError`` for all else that went wrong there.
    """
    with held_call(
        transport, verb, request, timeout_s=timeout_s, contents=contents, on_event=on_event
    ) as answer:
        return answer


@contextlib.contextmanager
def held_call(
    transport: Transport,
    verb: HostVerb[Request, Answer],
    request: Request,
    *,
    timeout_s: float = SILENCE_S,
    contents: Mapping[str, Uploadable] | None = None,
    on_event: Event | None = None,
) -> Iterator[Answer]:
    """The same, and the line stays open until the block ends: so long a lock on the host is held."""
    conversation = _Conversation(transport, verb, contents or {}, on_event, timeout_s)
    version, program = payload.packed(verb.program)
    place = f"{request['state_dir']}/payload-{verb.program}-{version}"
    argv = isolated_python(f"exec({payload.BOOT!r})", conversation.mark, place)
    with contextlib.closing(transport.start(argv, root=True)) as process:
        process.write(program + _document(verb, request))
        yield conversation.answer(process)


def isolated_python(program: str, *arguments: str) -> list[str]:
    """Return the command that runs ``program`` (text) with the host's Python and nothing of its environment.

    ``-I`` and ``-S``: no PYTHON* variable, no current folder, no user's or site's packages, and no ``.pth``
    file in them, can bring other code along. It travels as an argument: stdin may begin with sudo's password.
    """
    return ["python3", "-ISc", program, *arguments]


def _document(verb: HostVerb[Any, Any], request: HostRequest) -> bytes:
    """The request, as it follows the program: its length in a line, then JSON in zlib."""
    text = json.dumps([verb.name, request], separators=(",", ":"))
    data = zlib.compress(text.encode(), 1)
    return b"%d\n%s" % (len(data), data)


class _Conversation:
    """Reads the frames of one run, and serves what the host asks for."""

    def __init__(
        self,
        transport: Transport,
        verb: HostVerb[Any, Any],
        contents: Mapping[str, Uploadable],
        on_event: Event | None,
        silence_s: float,
    ) -> None:
        self._transport = transport
        self._verb = verb
        self._contents = contents
        self._on_event = on_event or (lambda kind, data: None)
        self._silence_s = silence_s
        self.mark = f"@@{secrets.token_hex(8)}:"
        """Random: what the rc files of a shell print can neither break nor fake a frame."""
        self._buffer = b""

    def answer(self, process: RemoteProcess) -> Any:
        while True:
            kind, value = self._frame(process)
            if kind == "done":
                return value
            if kind == "error":
                raise self._error(value)
            if kind == "need":
                self._upload(process, value)
            elif kind != "beat":
                self._on_event(kind, value)

    def _frame(self, process: RemoteProcess) -> tuple[str, Any]:
        """The next frame; what shells print around frames is dropped."""
        mark = self.mark.encode()
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                at = line.find(mark)
                if at >= 0:
                    kind, value = json.loads(line[at + len(mark) :])
                    if kind == "packed":
                        kind, value = json.loads(zlib.decompress(binascii.a2b_base64(value)))
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
            f"{name}: {self._verb.doing} failed: it ended without an answer (exit {ended.exit_code})",
            hint="run again: what was left half done is finished then",
            log_tail=tail,
            retryable=True,
            data={"host": name, "exit_code": ended.exit_code},
        )

    def _upload(self, process: RemoteProcess, needs: list[dict[str, Any]]) -> None:
        for need in needs:
            content = self._contents[need["sha256"]]
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
            f"{name}: {self._verb.doing} failed: {message}",
            log_tail=log,
            retryable=kind in ("cancelled", "damaged"),
            data=data,
        )


def _begins(file: BinaryIO, length: int) -> str:
    """The hash of the first ``length`` bytes."""
    digest = hashlib.sha256()
    while length and (data := file.read(min(CHUNK_BYTES, length))):
        digest.update(data)
        length -= len(data)
    return digest.hexdigest()
