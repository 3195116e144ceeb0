"""The dashboard's buttons: each runs a command as a person would type it, with its lock and its refusals."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import msgspec

from voiceops.model.dashboard import Row
from voiceops.model.web import DashboardSettings
from voiceops.web.audit import AuditEntry, AuditLog, new_entry
from voiceops.web.audited import audited_command
from voiceops.web.child_environment import child_environment
from voiceops.web.feed import DashboardFeed
from voiceops.web.outcome import ActionOutcome, read_findings, read_outcome

COMMANDS: Mapping[str, Sequence[str]] = {
    "cleanup-rooms": ("cleanup-rooms",),
    "fix": ("why", "--fix"),
    "restart": ("restart", "--only"),
}
_TAKES_YES = ("fix", "restart")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_SHOWN = 30
_DIAGNOSED_EVERY_S = 5.0
_FOLLOWED_EVERY_S = 0.5


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /ops/actions``."""

    action: str
    service: str = ""
    host: str = ""
    """Of a restart, where the dashboard shows other machines than its own."""
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
        self._running: set[tuple[str, str, str]] = set()
        self._begun: set[str] = set()
        """The commands of this process that have not ended; others may run that an earlier one began."""
        self._following: asyncio.Task[None] | None = None
        self._diagnosed_at = float("-inf")
        self._shown: dict[str, Row] = {}
        self._take_in_audit_log()

    def begin(self, request: ActionRequest, *, by: str) -> str:
        """Begin a command, and return its id; ``ActionRefusedError`` where it must not or can't be."""
        argv = self._argv(request)
        key = (request.action, request.host, request.service)
        if key in self._running:
            raise ActionRefusedError(409, "running", "This command runs already.")
        entry = new_entry(
            secrets.token_hex(8),
            request.action,
            request.service,
            hosts=(request.host,) if request.host else tuple(self._settings.hosts),
            by=by,
            drop_calls=request.drop_calls,
        )
        self._audit.write(entry)
        self._running.add(key)
        self._begun.add(entry.id)
        self._show(entry)

        def ended(code: int, output: bytes) -> None:
            self._running.discard(key)
            self._begun.discard(entry.id)
            done = msgspec.structs.replace(entry, ended_at=time.time(), exit_code=code)
            self._show(done, read_outcome(request.action, code, output))
            self._diagnosed_at = float("-inf")
            self.diagnose()

        self._run(audited_command(self._audit.path, entry, argv), ended)
        return entry.id

    def follow(self) -> None:
        """Show, while somebody watches, how commands end that another process began: this page's predecessor, say."""
        if self._following is None or self._following.done():
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """End what follows the audit log; commands go on."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        while self._feed.watched:
            self._take_in_audit_log()
            await asyncio.sleep(_FOLLOWED_EVERY_S)

    def _take_in_audit_log(self) -> None:
        found = [one for one in self._audit.last(_MOST_SHOWN) if one.id not in self._begun]
        for entry in found:
            known = self._shown.get(entry.id)
            running = entry.ended_at is None and self._audit.is_running(entry)
            if known is None or (
                known["ended_at"] is None and (running, None) != (known["running"], entry.ended_at)
            ):
                self._show(entry, running=running)

    def diagnose(self) -> None:
        """Run `inv why`, unless it runs or has just been run; its findings are shown when it ends."""
        key = ("why", "", "")
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

        self._run((*self._settings.program, "why", *self._flags()), ended)

    def _flags(self, host: str = "") -> tuple[str, ...]:
        hosts = [argument for name, argument in self._settings.hosts.items() if host in ("", name)]
        selected = ("--host", ",".join(hosts)) if hosts else ()
        return ("--json", "--inventory", self._settings.inventory, *selected)

    def _argv(self, request: ActionRequest) -> tuple[str, ...]:
        words = COMMANDS.get(request.action)
        if words is None:
            raise ActionRefusedError(400, "unknown-action", "There is no such action.")
        named = request.action == "restart"
        if bool(request.service) != named or (named and not _SERVICE.fullmatch(request.service)):
            raise ActionRefusedError(400, "bad-service", "This is no name of a service.")
        if request.host not in ((self._settings.hosts if named else {}) or ("",)):
            raise ActionRefusedError(400, "bad-host", "The dashboard does not show this host.")
        if request.drop_calls and request.action not in _TAKES_YES:
            raise ActionRefusedError(400, "bad-request", "This command drops no calls.")
        yes = ("--yes",) if request.drop_calls else ()
        return (
            *self._settings.program,
            *words,
            *((request.service,) if named else ()),
            *yes,
            *self._flags(request.host),
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
                stderr=None,  # a problem with the audit log belongs into ours
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

    def _show(
        self, entry: AuditEntry, outcome: ActionOutcome | None = None, *, running: bool = False
    ) -> None:
        row: Row = {**msgspec.structs.asdict(entry), "running": running or entry.id in self._begun}
        if outcome is not None:
            row |= {"said": outcome.text, "may_drop": outcome.needs_yes and entry.action in _TAKES_YES}
        self._shown[entry.id] = row
        while len(self._shown) > _MOST_SHOWN:
            del self._shown[min(self._shown, key=self._began_at)]
        self._feed.put("actions", self._shown, whole=True)

    def _began_at(self, number: str) -> float:
        at = self._shown[number]["at"]
        assert isinstance(at, float)
        return at
