"""The dashboard's buttons: each runs a command as a person would type it, with its lock and its refusals."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Union

import msgspec

from voiceops.errors import StorageError
from voiceops.model.dashboard import Row
from voiceops.model.web import DashboardSettings
from voiceops.web.audit import AuditEntry, AuditLog, new_entry
from voiceops.web.child_environment import child_environment
from voiceops.web.feed import DashboardFeed

log = logging.getLogger(__name__)

COMMANDS: Mapping[str, Sequence[str]] = {
    "cleanup-rooms": ("cleanup-rooms",),
    "fix": ("why", "--fix"),
    "restart": ("restart", "--only"),
}
_TAKES_YES = ("fix", "restart")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_SHOWN = 30
_DIAGNOSED_EVERY_S = 5.0


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /ops/actions``."""

    action: str
    service: str = ""
    drop_calls: bool = False


class ActionRefusedError(Exception):
    """The command is not begun."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(code)
        self.status, self.code, self.text = status, code, text


class OperatorCommands:
    """Runs commands, one of a kind at a time, and shows on the dashboard how they end."""

    def __init__(self, settings: DashboardSettings, feed: DashboardFeed, audit: AuditLog) -> None:
        self._settings = settings
        self._feed = feed
        self._audit = audit
        self._running: set[tuple[str, str]] = set()
        self._diagnosed_at = float("-inf")
        self._shown: dict[str, Row] = {}
        for entry in audit.last(_MOST_SHOWN):
            self._show(entry)

    def begin(self, request: ActionRequest, *, by: str) -> str:
        """Begin a command, and return its id; ``ActionRefusedError`` where it must not or can't be."""
        argv = self._argv(request)
        key = (request.action, request.service)
        if key in self._running:
            raise ActionRefusedError(409, "running", "This command runs already.")
        entry = new_entry(
            secrets.token_hex(8), request.action, request.service, by=by, drop_calls=request.drop_calls
        )
        self._audit.write(entry)
        self._running.add(key)
        self._show(entry)

        def ended(code: int, output: bytes) -> None:
            self._running.discard(key)
            done = msgspec.structs.replace(entry, ended_at=time.time(), exit_code=code)
            try:
                self._audit.write(done)
            except StorageError as error:
                log.warning("the end of a command is not in the audit log", extra={"error": error.message})
            self._show(done, read_outcome(request.action, code, output))
            self._diagnosed_at = float("-inf")
            self.diagnose()

        self._run(argv, ended)
        return entry.id

    def diagnose(self) -> None:
        """Run `inv why`, unless it runs or has just been run; its findings are shown when it ends."""
        key = ("why", "")
        if key in self._running or time.monotonic() - self._diagnosed_at < _DIAGNOSED_EVERY_S:
            return
        self._running.add(key)
        self._feed.put("diagnosis", {"why": {"running": True}})

        def ended(code: int, output: bytes) -> None:
            self._running.discard(key)
            self._diagnosed_at = time.monotonic()
            findings, problem = read_findings(output)
            self._feed.put("findings", findings, whole=True)
            self._feed.put("diagnosis", {"why": {"running": False, "at": time.time(), "problem": problem}})

        self._run((*self._settings.program, "why", *self._flags), ended)

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("--json", "--inventory", self._settings.inventory)

    def _argv(self, request: ActionRequest) -> tuple[str, ...]:
        words = COMMANDS.get(request.action)
        if words is None:
            raise ActionRefusedError(400, "unknown-action", "There is no such action.")
        named = request.action == "restart"
        if bool(request.service) != named or (named and not _SERVICE.fullmatch(request.service)):
            raise ActionRefusedError(400, "bad-service", "This is no name of a service.")
        if request.drop_calls and request.action not in _TAKES_YES:
            raise ActionRefusedError(400, "bad-request", "This command drops no calls.")
        yes = ("--yes",) if request.drop_calls else ()
        return (
            *self._settings.program,
            *words,
            *((request.service,) if named else ()),
            *yes,
            *self._flags,
        )

    def _run(self, argv: Sequence[str], ended: Callable[[int, bytes], None]) -> None:
        """Run a command that outlives this process, which may be the one that it restarts."""
        loop = asyncio.get_running_loop()
        output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the thread below
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=child_environment(),
            )
        except OSError as error:
            output.close()
            loop.call_soon(ended, 127, json.dumps({"error": {"message": str(error)}}).encode())
            return

        def wait() -> None:
            code = process.wait()
            output.seek(0)
            said = output.read()
            output.close()
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended, code, said)

        threading.Thread(target=wait, name="voiceops_command", daemon=True).start()

    def _show(self, entry: AuditEntry, outcome: ActionOutcome | None = None) -> None:
        row: Row = {
            **msgspec.structs.asdict(entry),
            "running": (entry.action, entry.service) in self._running,
        }
        if outcome is not None:
            row |= {"said": outcome.text, "may_drop": outcome.needs_yes and entry.action in _TAKES_YES}
        self._shown.pop(entry.id, None)
        self._shown[entry.id] = row
        while len(self._shown) > _MOST_SHOWN:
            self._shown.pop(next(iter(self._shown)))
        self._feed.put("actions", self._shown, whole=True)


class ActionOutcome(msgspec.Struct, frozen=True):
    """What a command said of itself."""

    text: str
    needs_yes: bool = False
    """It would drop calls, or can't know: it does so with ``--yes`` only."""


class _CommandError(msgspec.Struct, frozen=True):
    type: str = ""
    message: str = ""
    hint: str = ""


class _AppliedFix(msgspec.Struct, frozen=True):
    command: str = ""
    done: bool = False
    detail: str = ""


class _ServiceOutcome(msgspec.Struct, frozen=True):
    state: str = ""
    changed: bool = False
    error: Union[_CommandError, None] = None


class _HostOutcome(msgspec.Struct, frozen=True):
    error: Union[_CommandError, None] = None
    fixes: list[_AppliedFix] = []
    problems: list[str] = []
    services: dict[str, _ServiceOutcome] = {}


class _CommandDocument(msgspec.Struct, frozen=True):
    """What is read of the documents of `inv why`, `inv restart` and `inv cleanup-rooms`."""

    error: Union[_CommandError, None] = None
    hosts: dict[str, _HostOutcome] = {}
    deleted: list[msgspec.Raw] = []
    kept: list[msgspec.Raw] = []
    findings: list[Row] = []


def read_outcome(action: str, code: int, output: bytes) -> ActionOutcome:
    """Return what a command has done, from its document."""
    try:
        document = msgspec.json.decode(output, type=_CommandDocument)
    except msgspec.DecodeError:
        return ActionOutcome(f"The command ended with exit code {code} and said nothing.")
    hosts = document.hosts.values()
    services = [(name, one) for host in hosts for name, one in host.services.items()]
    errors = [document.error, *(host.error for host in hosts), *(one.error for _, one in services)]
    found = [one for one in errors if one is not None]
    if found:
        text = " ".join(filter(None, (found[0].message, f"({found[0].hint})" if found[0].hint else "")))
        return ActionOutcome(text, found[0].type in ("CallsInProgressError", "CallsUnknownError"))
    if action == "cleanup-rooms":
        return ActionOutcome(f"{len(document.deleted)} rooms deleted, {len(document.kept)} kept.")
    if action == "fix":
        fixes = [fix for host in hosts for fix in host.fixes]
        lines = [
            f"{'done' if fix.done else 'not done'}: {fix.command}{f' ({fix.detail})' if fix.detail else ''}"
            for fix in fixes
        ]
        return ActionOutcome("; ".join(lines) or "Nothing to fix.")
    return ActionOutcome(", ".join(f"{name} is {one.state}" for name, one in services) or f"exit code {code}")


def read_findings(output: bytes) -> tuple[dict[str, Row], str]:
    """Return the findings of `inv why` in their order, and what could not be observed."""
    try:
        document = msgspec.json.decode(output, type=_CommandDocument)
    except msgspec.DecodeError:
        return {}, "The diagnosis could not be read: run `inv why`."
    problems = [one for host in document.hosts.values() for one in host.problems]
    errors = [document.error, *(host.error for host in document.hosts.values())]
    problems += [one.message for one in errors if one is not None]
    return {f"{number:04d}": row for number, row in enumerate(document.findings)}, "; ".join(problems)
