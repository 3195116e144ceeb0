"""Everything that voiceops raises on purpose.

    VoiceopsError                     exit 1
    |-- ConfigError                   exit 3   inventory, .env, variables: file, line, path
    |-- UsageError                    exit 3   arguments that make no sense together
    |-- LockedError                   exit 4   somebody else holds the lock
    |-- UnreachableError              exit 5   a host or LiveKit does not answer
    |   |-- NotListeningError         exit 5   nobody listens on its port: the connection was refused
    |   `-- CredentialsError          exit 5   it answers and refuses us
    |-- InterruptedCommandError       exit 130 Ctrl-C: only in JSON documents, people see "interrupted"
    |-- RateLimitedError              exit 1   LiveKit takes no more requests for now
    |-- NotFoundError                 exit 1   no such room, participant, dispatch, service
    |-- DeadlineError                 exit 1   a wait that ended before what it waited for
    |-- HostError                     exit 1   a host lacks Python, or has a newer state than ours
    |-- ServiceError                  exit 1   a service did not become ready, or died
    |-- EnvironmentBuildError         exit 1   a host can't build the environment of a release
    |-- StrayError                    exit 1   a process that we did not start is in the way
    |-- CallsInProgressError          exit 1   live calls would be dropped; needs --yes
    |   `-- CallsUnknownError         exit 1   nobody can say whether there are any; needs --yes
    `-- StorageError                  exit 1   full disk, read-only folder, broken state

Adapters translate every foreign error into one of these. Errors carry data
beside their message; what can identify a caller stays out of the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, cast


class _ErrorText(TypedDict):
    """What each error has."""

    type: str
    message: str


class RollbackEntry(TypedDict):
    """A rollback that a deploy began by itself."""

    ok: bool
    """The release before runs again."""
    cause: str
    took_s: float


class CanarySide(TypedDict):
    """One of the two releases while a canary took its share."""

    release: str
    call_count: int
    answered_count: int
    """Callers who were seen with an agent that is ready; one who hung up at once was not seen at all."""
    failed_count: int


class CanaryEntry(TypedDict):
    """A new release that took a share of new calls before it took all."""

    share: float
    measured_share: float | None
    took_s: float
    new: CanarySide
    old: CanarySide


class ErrorEntry(_ErrorText, total=False):
    """An error in a JSON document: what failed, what to do next, and what an error of its type knows."""

    hint: str
    log: list[str]
    """The last lines of the log that show the cause, oldest first."""
    host: str
    address: str
    service: str
    services: list[str]
    unit: str
    resource: str
    room: str
    rooms: list[str]
    """Of calls in the way, or of what remains."""
    participants: list[str]
    call: dict[str, object]
    cause: str
    causes: list[str]
    caused_by: ErrorEntry
    reason: str
    raised: str
    seen: dict[str, object]
    """What was seen while it was waited for."""
    waited_for: str
    timeout_s: float
    retry_after_s: float | None
    file: str | None
    line: int | None
    path: str | None
    owner: str
    """Who holds the lock."""
    since: str | None
    pid: int | None
    age_s: float
    command: str
    foreign_owner: str
    restarts: int
    exit_status: int | None
    exit_code: int
    code: str
    """LiveKit's word for what it refused."""
    lacks: str
    bad: dict[str, str]
    """Service to its release that is marked bad."""
    went_back_to: dict[str, str]
    rollback: RollbackEntry
    canary: CanaryEntry
    stays_with: dict[str, str]
    """Service to the release that went on serving: no caller has met the one that failed."""
    fingerprint: str
    user: str
    method: str
    url: str
    status: int | None


class VoiceopsError(Exception):
    """The root: what failed, and a hint that says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        log_tail: tuple[str, ...] = (),
        retryable: bool = False,
        data: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log_tail = log_tail
        """The last lines of the log that show the cause, oldest first."""
        self.retryable = retryable
        """Whether the same operation may succeed when tried again as it is."""
        self.data: dict[str, Any] = dict(data or {})

    def add_context(self, *, before: str = "", after: str = "") -> None:
        """Add to the message where it happened, or what holds besides; type, hint and data stay."""
        self.message = f"{before}{self.message}{after}"

    def as_json(self) -> ErrorEntry:
        """Return the error as it stands under ``error`` in a JSON document."""
        entry: ErrorEntry = {"type": type(self).__name__, "message": self.message}
        if self.hint:
            entry["hint"] = self.hint
        if self.log_tail:
            entry["log"] = list(self.log_tail)
        return cast(ErrorEntry, {**entry, **self.data})


class ConfigError(VoiceopsError):
    """A mistake in the configuration, with the place where it stands."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(
            f"{where}{message}" + (f" (at {path})" if path else ""),
            hint=hint,
            data={"file": file, "line": line, "path": path},
        )
        self.bare = message
        """The message without its place."""
        self.file = file
        self.line = line
        self.path = path


class UsageError(VoiceopsError):
    """Arguments that make no sense."""

    exit_code = 3


class LockedError(VoiceopsError):
    """Somebody else holds the lock; ``data`` names the owner."""

    exit_code = 4


class UnreachableError(VoiceopsError):
    """A host or LiveKit can't be reached."""

    exit_code = 5


class NotListeningError(UnreachableError):
    """Nobody listens on the port: the connection was refused."""


class CredentialsError(UnreachableError):
    """A host or LiveKit refuses the credentials."""


class InterruptedCommandError(VoiceopsError):
    """Somebody pressed Ctrl-C."""

    exit_code = 130


class RateLimitedError(VoiceopsError):
    """LiveKit, or what stands before it, takes no more requests for now; nothing has been done."""

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, data: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(
            message,
            hint="try again later, or lower rooms.concurrency",
            data={**(data or {}), "retry_after_s": retry_after_s},
            retryable=True,
        )
        self.retry_after_s = retry_after_s
        """What the answer asks to wait; None where it does not say."""


class NotFoundError(VoiceopsError):
    """What was named does not exist."""


class DeadlineError(VoiceopsError):
    """A wait ended before what it waited for came."""


class HostError(VoiceopsError):
    """A host answers and can't do its part: no Python, a newer state, a run that broke off."""


class ServiceError(VoiceopsError):
    """A service did not become ready, or died."""


class EnvironmentBuildError(VoiceopsError):
    """A host can't build the Python environment that a release runs in."""


class StrayError(VoiceopsError):
    """A process that we did not start is in the way; ``data`` has pid, age and command."""


class CallsInProgressError(VoiceopsError):
    """The operation would drop live calls; ``data["rooms"]`` names them."""


class CallsUnknownError(CallsInProgressError):
    """Nobody can say whether the operation would drop live calls; ``data["caused_by"]`` says why."""


class StorageError(VoiceopsError):
    """The disk is full, the folder is read-only, or the state can't be read."""
